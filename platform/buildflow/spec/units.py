"""Durations and sizes as users write them: `30s`, `1h30m`, `10MB`."""

import re
from math import inf
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern})+")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|KiB|MiB|GiB)")
_LONGEST, _LARGEST = 100 * 366 * 86400.0, 10**18
_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def parse_duration(text: Any) -> Any:
    """`1h30m` to seconds. Numbers are seconds already. Raises ValueError with words a user understands."""
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise ValueError("expected a duration such as 30s, 5m or 1h30m")
    if isinstance(text, str) and not _DURATION.fullmatch(text):
        raise ValueError(f'"{text}" is no duration; write 500ms, 30s, 5m, 1h30m or 2d')
    parts = _DURATION_PART.findall(text) if isinstance(text, str) else [(text, "s")]
    if not -_LONGEST <= (seconds := sum(_number(number) * _SECONDS[unit] for number, unit in parts)) <= _LONGEST:
        raise ValueError(f'"{text}" is longer than a hundred years')
    return seconds


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
        raise ValueError(f'"{text}" is no size; write 512KB, 10MB or 1GiB')
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
        {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": f"^{_DURATION.pattern}$|\\$\\{{"}]}
    ),
]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": f"^{_SIZE.pattern}$|\\$\\{{"}]}
    ),
]
