"""Texts: what they have to look like, what an editor says of those that do not, and how a default is written."""

from typing import Any

from buildflow.spec import project, values
from buildflow.spec.units import parse_duration, parse_size

Schema = dict[str, Any]

INTERPOLATION = r"(?:^|[^$])\$\{"
"""A text that holds a reference; it is read once that is put in. `$${` is none."""

_WORDS = {
    project.PROJECT_NAME: "Lower-case letters, digits and hyphens, a letter first.",
    project.STACK_NAME: "Letters, digits, - and _, a letter first.",
    project.IDENTIFIER: "Letters, digits and _, no digit first.",
    project.HANDLER: "Write `package.module:name`.",
    project.PREFIX: "Begin with /, and end without one.",
    values.URL: "Write a URL, such as redis://10.0.0.5:6379/0.",
}
"""What an editor says about a text that does not match."""

_UNITS = {parse_duration: ("d", "h", "m", "s", "ms"), parse_size: ("GB", "MB", "KB", "B")}
"""The units in which a parser's values are written, the largest first."""


def said(words: str) -> Schema:
    """A description; once more as Markdown where it holds any, for editors show the other as it is."""
    return {"description": words, **({"markdownDescription": words} if "`" in words else {})}


def text_like(pattern: str, words: str = "") -> Schema:
    """A text that matches, or that will when its reference is put in. `words` are for editors."""
    words = words or _WORDS.get(pattern, "")
    pattern = pattern.removesuffix(r"|\$\{")
    return {"pattern": f"{portable(pattern)}|{INTERPOLATION}"} | ({"patternErrorMessage": words} if words else {})


def key_like(pattern: str, words: str = "") -> Schema:
    """A key that matches. References are not put into keys."""
    return {"pattern": portable(pattern), "patternErrorMessage": words or _WORDS[pattern]}


def only_interpolated(words: str) -> Schema:
    """Beside another type: a text may stand here only for its reference."""
    return {"pattern": INTERPOLATION, "patternErrorMessage": words}


def portable(pattern: str) -> str:
    r"""Python's `\w` takes letters of every script; that of JavaScript, which editors use, takes ASCII only."""
    return pattern.replace(r"[\w]", r"[0-9A-Za-z_\u0080-\uffff]")


def words_of(parser: Any) -> str:
    """What a parser says one should have written."""
    try:
        parser("?")
    except ValueError as exc:
        said, _, cure = str(exc).partition("; ")
        return f"{cure[:1].upper()}{cure[1:]}." if said and cure else ""
    return ""


def written(value: Any, parser: Any) -> Any:
    """A value as its user would write it: 30.0 seconds are `30s`."""
    for unit in _UNITS.get(parser, ()) if value else ():
        text = f"{value / parser(f'1{unit}'):g}{unit}"
        if "." not in text and "e" not in text and parser(text) == value:
            return text
    return value or (0 if parser in _UNITS else value)
