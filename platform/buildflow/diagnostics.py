"""The user's mistakes as values: a code, a place, words and a cure. Every stage collects them and goes on."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, order=True, slots=True)
class Span:
    """A place in a file. Lines and columns count from 1; the end is just behind the last character."""

    file: str
    line: int = 1
    column: int = 1
    end_line: int = 1
    end_column: int = 1


@dataclass(frozen=True, slots=True)
class Related:
    """Another place that a diagnostic is about, and what stands there."""

    message: str
    span: Span


@dataclass(frozen=True, slots=True)
class Replacement:
    """A cure that is safe to apply: within `span`, the text `old` (it stands there once) becomes `new`."""

    span: Span
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One mistake. `code` is stable and stands in `CODES`; `fix` is there when `check --fix` may cure it."""

    code: str
    message: str
    span: Span
    hint: str = ""
    related: tuple[Related, ...] = ()
    severity: Severity = Severity.ERROR
    fix: Replacement | None = None

    @property
    def title(self) -> str:
        return CODES[self.code]


CODES: dict[str, str] = {
    "BF101": "YAML syntax",
    "BF102": "duplicate key",
    "BF103": "not a mapping",
    "BF104": "document too large",
    "BF105": "cannot read the file",
    "BF106": "format too new",
    "BF107": "reserved key",
    "BF108": "unknown anchor or alias",
    "BF109": "YAML 1.1 reads this otherwise",
    "BF120": "malformed interpolation",
    "BF121": "environment variable not set",
    "BF122": "unknown variable",
    "BF123": "unknown interpolation",
    "BF124": "secret in clear",
    "BF125": "reference is not known here",
    "BF126": "secret not set",
    "BF127": "another tool's interpolation",
    "BF201": "unknown key",
    "BF202": "missing key",
    "BF203": "wrong type",
    "BF204": "invalid value",
    "BF205": "unknown primitive type",
    "BF206": "malformed route",
    "BF207": "malformed name",
    "BF208": "key used twice",
    "BF209": "unknown stack",
    "BF210": "unknown reference",
    "BF211": "reference to the wrong type",
    "BF212": "not a source",
    "BF213": "not a sink",
    "BF214": "handler and source disagree",
    "BF215": "handler and sink disagree",
    "BF216": "circular reference",
    "BF217": "not on this provider",
    "BF218": "routes collide",
    "BF219": "nothing uses this",
    "BF220": "the provider refuses this name",
    "BF221": "two primitives with one name",
    "BF222": "two consumers of one source",
    "BF223": "feeds itself",
    "BF224": "route is never reached",
    "BF225": "does not run yet",
    "BF226": "unknown field",
    "BF227": "prefix twice",
    "BF228": "has no effect",
    "BF229": "the provider refuses this",
    "BF230": "the order is not kept",
    "BF301": "malformed handler",
    "BF302": "module not found",
    "BF303": "function not found",
    "BF304": "parameter cannot be filled",
    "BF305": "parameter could be two things",
    "BF306": "handler takes no element",
    "BF307": "path parameter missing",
    "BF308": "Python syntax",
    "BF310": "row type not found",
    "BF311": "column type not supported",
    "BF320": "scope order",
    "BF321": "circular dependency",
    "BF322": "dependency cannot be built",
    "BF323": "surplus argument",
}
"""Every code that the compiler can emit, with its title."""


def closest(name: str, known: Iterable[str]) -> str | None:
    """The one of `known` that `name` is most probably meant to be; None when nothing is near."""
    near = _nearest(name, known)
    if near is not None:
        return near
    alike = get_close_matches(name, [k for k in known if k != name], n=1, cutoff=0.75)
    return alike[0] if alike else None


def _nearest(name: str, known: Iterable[str]) -> str | None:
    """The one of `known` that is a slip of the keyboard or two away."""
    written = name.casefold()
    ranked = sorted(
        (_distance(written, k.casefold()), _distance(name, k), (Counter(name) - Counter(k)).total(), k)
        for k in set(known)
        if k != name
    )
    return ranked[0][-1] if ranked and ranked[0][0] <= max(1, len(name) // 3) else None


def _distance(a: str, b: str) -> int:
    """Characters to add, drop, change, or swap with their neighbour to make `a` into `b` (optimal string alignment).

    Source: https://en.wikipedia.org/wiki/Damerau-Levenshtein_distance
    """
    if abs(len(a) - len(b)) > max(len(a), 3) // 2:
        return max(len(a), len(b))
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, before, row = before, row, [i]
        for j, y in enumerate(b, 1):
            best = min(before[j] + 1, row[-1] + 1, before[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                best = min(best, last[j - 2] + 1)
            row.append(best)
    return row[-1]


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """A hint that names the closest of `known`, or lists them when they are few."""
    choices = sorted(known)
    if near := closest(name, choices) if name else None:
        return f'did you mean "{near}"?'
    if choices and len(choices) <= 12:
        return "one of: " + ", ".join(choices)
    return otherwise


def misspelt(
    code: str, message: str, span: Span, name: str, known: Iterable[str], otherwise: str = "", **more: Any
) -> Diagnostic:
    """A name out of a closed set that is not in it: the hint names the closest one, and `--fix` may put it there."""
    choices = sorted(known)
    near = _nearest(name, choices)
    fix = Replacement(span, name, near) if near else None
    return Diagnostic(code, message, span, did_you_mean(name, choices, otherwise), fix=fix, **more)


def in_file_order(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Sorted by place, each once; several of one place by the other places that they are about."""
    return sorted(dict.fromkeys(diagnostics), key=lambda d: (d.span, d.code, [r.span for r in d.related], d.message))


def errors_in(diagnostics: Iterable[Diagnostic]) -> bool:
    return any(d.severity is Severity.ERROR for d in diagnostics)


def to_json(diagnostic: Diagnostic) -> dict[str, Any]:
    """The shape that `check --json` prints."""
    return {
        "severity": diagnostic.severity.value,
        "code": diagnostic.code,
        "message": diagnostic.message,
        **_place(diagnostic.span),
        "hint": diagnostic.hint or None,
        "related": [
            {"message": r.message, "file": r.span.file, "line": r.span.line, "column": r.span.column}
            for r in diagnostic.related
        ],
    }


def _place(span: Span) -> dict[str, Any]:
    return {
        "file": span.file,
        "line": span.line,
        "column": span.column,
        "end_line": span.end_line,
        "end_column": span.end_column,
    }
