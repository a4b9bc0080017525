"""JSON read as a type, as consumers read their elements; and in words what is wrong with it."""

import sys
from collections.abc import Callable
from json import dumps
from typing import Any, get_type_hints, is_typeddict

from pydantic import TypeAdapter, ValidationError

_MOST = 5
"""Complaints that are told; of more, their number."""


def json_reader(annotation: Any) -> Callable[[bytes], Any]:
    """Reads JSON as a type, bound once. It raises `ValidationError`."""
    adapter: TypeAdapter[Any] = TypeAdapter(_readable(annotation))
    return adapter.validate_json


def _readable(annotation: Any) -> Any:
    """Before Python 3.12 pydantic reads the TypedDict of typing_extensions only: say it in that one."""
    if sys.version_info >= (3, 12) or not is_typeddict(annotation):
        return annotation
    import typing_extensions

    extensions: Any = typing_extensions
    fields = {}
    for name, hint in get_type_hints(annotation).items():
        form = extensions.Required if name in annotation.__required_keys__ else extensions.NotRequired
        fields[name] = form[_readable(hint)]
    return extensions.TypedDict(annotation.__name__, fields)


def in_words(exc: BaseException) -> str:
    """An exception's text; pydantic's in one line, field by field, without its addresses."""
    if not isinstance(exc, ValidationError):
        return str(exc)
    complaints = exc.errors(include_url=False)
    told = [_complaint(one["loc"], one["type"], one["msg"], one["input"]) for one in complaints[:_MOST]]
    more = len(complaints) - len(told)
    return "; ".join([*told, f"and {more} more"] if more else told)


def _complaint(path: tuple[int | str, ...], kind: str, message: str, given: Any) -> str:
    field = f'"{".".join(str(part) for part in path)}"'
    if kind == "missing":
        return f"{field} is missing"
    if kind == "extra_forbidden":
        return f"there is no field {field}"
    words = message.removeprefix("Value error, ")
    words = words[:1].lower() + words[1:] if words[1:2].islower() else words
    if not path:
        return words
    is_short = isinstance(given, str | int | float | None) and len(str(given)) <= 40
    return f"{field}: {words}, not {dumps(given, ensure_ascii=False)}" if is_short else f"{field}: {words}"
