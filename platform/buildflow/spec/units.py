"""Durations and sizes as users write them: `30s`, `1h30m`, `10MB`."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern})+")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|KiB|MiB|GiB)")
_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def parse_duration(text: Any) -> Any:
    """`1h30m` to seconds. Numbers are seconds already. Raises ValueError with words a user understands."""
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise ValueError("expected a duration such as 30s, 5m or 1h30m")
    if isinstance(text, int | float):
        return float(text)
    if not _DURATION.fullmatch(text):
        raise ValueError(f'"{text}" is no duration; write 500ms, 30s, 5m, 1h30m or 2d')
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text))


def parse_size(text: Any) -> Any:
    """`10MB` to bytes. Whole numbers are bytes already. Raises ValueError with words a user understands."""
    if isinstance(text, bool) or not isinstance(text, str | int):
        raise ValueError("expected a size such as 512KB or 10MB")
    if isinstance(text, int):
        return text
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError(f'"{text}" is no size; write 512KB, 10MB or 1GiB')
    return int(float(match[1]) * _BYTES[match[2]])


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
