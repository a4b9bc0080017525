"""Durations and sizes as users write them: `30s`, `1h30m`, `10MB`."""

import re
from math import inf
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
DURATION = re.compile(rf"(?:{_DURATION_PART.pattern})+")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|KiB|MiB|GiB)")
_LONGEST, _LARGEST = 100 * 366 * 86400.0, 10**18
_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def parse_duration(text: Any) -> Any:
    """`1h30m` to seconds. Numbers are seconds already. Raises ValueError with words a user understands."""
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise ValueError("expected a duration such as 30s, 5m or 1h30m")
    if isinstance(text, str) and not DURATION.fullmatch(text):
        raise ValueError(f'"{text}" is no duration; write {_meant(text) or "500ms, 30s, 5m, 1h30m or 2d"}')
    parts = _DURATION_PART.findall(text) if isinstance(text, str) else [(text, "s")]
    if not -_LONGEST <= (seconds := sum(_number(number) * _SECONDS[unit] for number, unit in parts)) <= _LONGEST:
        raise ValueError(f'"{text}" is longer than a hundred years')
    return seconds


_OTHER_UNITS = {
    **dict.fromkeys(("millisecond", "milliseconds", "msec"), "ms"),
    **dict.fromkeys(("second", "seconds", "sec", "secs"), "s"),
    **dict.fromkeys(("minute", "minutes", "min", "mins"), "m"),
    **dict.fromkeys(("hour", "hours", "hr", "hrs"), "h"),
    **dict.fromkeys(("day", "days"), "d"),
}


def _meant(text: str) -> str:
    """A duration in the words of another tool, in ours; empty when it cannot be told."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", text)
    unit = _OTHER_UNITS.get(found[2].lower(), found[2].lower()) if found else ""
    return f"{found[1]}{unit}" if found and unit in _SECONDS else ""


def in_words(seconds: float) -> str:
    """A duration as users write it: 90.0 is 1m30s."""
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count:g}{unit}")
    return "".join([*parts, f"{seconds * 1000:g}ms"] if seconds > 1e-9 or not parts else parts)


def parse_size(text: Any) -> Any:
    """`10MB` to bytes. Whole numbers are bytes already. Raises ValueError with words a user understands."""
    if isinstance(text, bool) or not isinstance(text, str | int):
        raise ValueError("expected a size such as 512KB or 10MB")
    number, unit = (text, "B") if isinstance(text, int) else _size_parts(text)
    size = _number(number) * _BYTES[unit]
    if size > _LARGEST:
        raise ValueError(f'"{text}" is larger than any store')
    return int(size)


def _size_parts(text: str) -> tuple[str, str]:
    match = _SIZE.fullmatch(text)
    if not match:
        short = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKmMgG])[bB]?\s*", text)
        raise ValueError(
            f'"{text}" is no size; write {f"{short[1]}{short[2].upper()}B" if short else "512KB, 10MB or 1GiB"}'
        )
    return match[1], match[2]


def _number(text: str | float) -> float:
    """A number too large for a float is infinite, not an exception."""
    try:
        return float(text)
    except OverflowError:
        return inf


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": f"^{DURATION.pattern}$|\\$\\{{"}]}
    ),
]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": f"^{_SIZE.pattern}$|\\$\\{{"}]}
    ),
]
