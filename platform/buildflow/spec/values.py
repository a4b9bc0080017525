"""Other values that users write as text: URLs, rates, cron expressions, time zones, and what must not be written."""

import re
from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from buildflow.diagnostics import did_you_mean

AWS_REGION = r"^[a-z]{2,4}(-[a-z]{2,4})?-(central|north|south|(north|south)?(east|west))-[0-9]{1,2}$"
"""Area, part, direction, number: new regions keep to it, and a list would not know them."""
AWS_ROLE = r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$"
URL = r"^[a-z][a-z0-9+.-]*://\S+$|\$\{"
_RATE = re.compile(r"(\d+)/(s|m|h)")
_PER = {"s": 1.0, "m": 60.0, "h": 3600.0}
_INTERPOLATED = r"\$\{"

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_CRON: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("day of the week", 0, 7, {name: number for number, name in enumerate(_DAYS)}),
)
"""The five fields: name, lowest, highest, names. Source: https://man7.org/linux/man-pages/man5/crontab.5.html"""


_NAMED_TIMES = {
    **dict.fromkeys(("@yearly", "@annually"), "0 0 1 1 *"),
    **dict.fromkeys(("@daily", "@midnight"), "0 0 * * *"),
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@hourly": "0 * * * *",
}


def refusal(code: str, message: str, hint: str, key: str = "") -> PydanticCustomError:
    """What a model's own check raises: a diagnostic of that code; at `key` of the mapping, else at the mapping."""
    return PydanticCustomError("refused", "{words}", {"words": message, "code": code, "hint": hint, "key": key})


def check_placeholders(text: str, known: tuple[str, ...], key: str) -> None:
    """Raise a refusal for a `{name}` that nothing is put in for."""
    for name in re.findall(r"\{([^{}]*)\}", text):
        if name not in known:
            words = f"nothing is put in for `{{{name}}}` of `{key}`"
            raise refusal("BF204", words, did_you_mean(name, known), key)


def parse_rate(text: Any) -> Any:
    """`100/s` to a number a second. Raises ValueError with words a user understands."""
    match = _RATE.fullmatch(text) if isinstance(text, str) else None
    if not match or not int(match[1]):
        raise ValueError(f'"{text}" is no rate; write 100/s, 30/m or 10/h')
    return int(match[1]) / _PER[match[2]]


def parse_cron(text: Any) -> Any:
    """A cron expression of five fields, checked field by field. Raises ValueError with words a user understands."""
    if not isinstance(text, str):
        raise ValueError('expected a cron expression such as "0 6 * * mon-fri"')
    fields = text.split()
    if text in _NAMED_TIMES:
        raise ValueError(f'"{text}" is not understood; write "{_NAMED_TIMES[text]}"')
    if len(fields) != len(_CRON):
        number = f"{len(fields)} field{'' if len(fields) == 1 else 's'}"
        raise ValueError(f'"{text}" has {number}, not five: minute hour day month weekday')
    for (name, low, high, names), field in zip(_CRON, fields, strict=True):
        for part in field.lower().split(","):
            _cron_part(part, name, low, high, names)
    return " ".join(fields)


def _cron_part(part: str, name: str, low: int, high: int, names: dict[str, int]) -> None:
    span, slash, step = part.partition("/")
    first, dash, last = span.partition("-")
    if slash and not (step.isdecimal() and int(step)):
        raise ValueError(f'"{part}" is no {name}: behind / stands a number above 0')
    if span == "*":
        return
    bounds = [_cron_number(text, part, name, low, high, names) for text in ((first, last) if dash else (first,))]
    if bounds != sorted(bounds):
        raise ValueError(f'"{part}" is no {name}: it ends before it begins')


def _cron_number(text: str, part: str, name: str, low: int, high: int, names: dict[str, int]) -> int:
    number = names.get(text, int(text) if text.isdecimal() and text.isascii() else None)
    if number is None or not low <= number <= high:
        known = f" or {'-'.join((next(iter(names)), list(names)[-1]))}" if names else ""
        raise ValueError(f'"{part}" is no {name}: {low} to {high}{known}')
    return number


def parse_time_zone(text: Any) -> Any:
    """A name of the IANA time zone database. Raises ValueError with words a user understands."""
    from zoneinfo import ZoneInfo

    if not isinstance(text, str):
        raise ValueError("expected a time zone such as Europe/Berlin")
    try:
        ZoneInfo(text)
    except (ValueError, OSError, KeyError):
        raise ValueError(f'"{text}" is no time zone; write one such as UTC or Europe/Berlin') from None
    return text


def _text(pattern: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"{pattern}|{_INTERPOLATED}", "examples": list(examples)})


AwsRegion = Annotated[str, StringConstraints(pattern=AWS_REGION)]
AwsRole = Annotated[str, StringConstraints(pattern=AWS_ROLE)]
Url = Annotated[str, StringConstraints(pattern=URL)]
Rate = Annotated[float, BeforeValidator(parse_rate), _text(f"^{_RATE.pattern}$", "100/s", "30/m")]
Cron = Annotated[str, BeforeValidator(parse_cron), _text(r"^\S+( \S+){4}$", "0 6 * * mon-fri")]
TimeZone = Annotated[str, BeforeValidator(parse_time_zone), _text(r"^[A-Za-z0-9_+/-]+$", "Europe/Berlin")]


class SecretMark:
    """Marks a field whose value has to be `${secret.NAME}`: it never stands in the file itself."""


Secret = Annotated[str, SecretMark()]


def is_secret(annotation: Any) -> bool:
    """Whether a field of this annotation holds a secret, `| None` included."""
    marks = getattr(annotation, "__metadata__", ())
    return any(isinstance(mark, SecretMark) for mark in marks) or any(map(is_secret, get_args(annotation)))
