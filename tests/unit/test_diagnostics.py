"""The user's mistakes as values: order, hints, JSON."""

import re
from pathlib import Path

from buildflow.diagnostics import (
    CODES,
    Diagnostic,
    Related,
    Replacement,
    Severity,
    Span,
    did_you_mean,
    errors_in,
    in_file_order,
    misspelt,
    to_json,
)

PACKAGE = Path(__file__).parents[2] / "platform/buildflow"
ABOUT_CODES = {
    "diagnostics.py",
    "compiler/cure.py",
    "compiler/fix.py",
    "cli/sarif.py",
    "cli/check.py",
    "cli/explain.py",
}
"""Modules that name codes and emit none."""


def test_every_code_has_one_home_and_somebody_who_emits_it() -> None:
    used = {
        code
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).as_posix() not in ABOUT_CODES
        for code in re.findall(r'"(BF\d{3})"', path.read_text("utf-8"))
    }
    assert used == set(CODES)
    assert list(CODES) == sorted(CODES)


def test_mistakes_come_in_file_order_each_once() -> None:
    late = Diagnostic("BF201", "late", Span("b.yaml", 9, 1))
    early = Diagnostic("BF202", "early", Span("b.yaml", 2, 7))
    other = Diagnostic("BF203", "other", Span("a.py", 50, 1))
    assert in_file_order([late, early, late, other]) == [other, early, late]


def test_a_warning_is_no_error() -> None:
    warning = Diagnostic("BF219", "unused", Span("f"), severity=Severity.WARNING)
    assert not errors_in([warning])
    assert errors_in([warning, Diagnostic("BF201", "x", Span("f"))])
    assert not errors_in([])


def test_hints() -> None:
    assert did_you_mean("buckt", ["bucket", "queue"]) == 'did you mean "bucket"?'
    assert did_you_mean("xyz", ["queue", "bucket"]) == "one of: bucket, queue"
    assert did_you_mean("xyz", [], "declare it") == "declare it"
    assert did_you_mean("xyz", [f"name{n}" for n in range(13)], "otherwise") == "otherwise"


def test_a_misspelt_name_has_a_cure_if_anything_is_near() -> None:
    span = Span("f", 1, 2, 1, 7)
    near = misspelt("BF205", "m", span, "buckt", ["queue", "bucket"])
    assert (near.hint, near.fix) == ('did you mean "bucket"?', Replacement(span, "buckt", "bucket"))
    assert misspelt("BF205", "m", span, "spaceship", ["queue", "bucket"]).fix is None


def test_json() -> None:
    diagnostic = Diagnostic("BF221", "m", Span("f", 1, 2, 3, 4), "h", (Related("r", Span("g", 5, 6, 7, 8)),))
    assert to_json(diagnostic) == {
        **{"severity": "error", "code": "BF221", "message": "m", "hint": "h"},
        **{"file": "f", "line": 1, "column": 2, "end_line": 3, "end_column": 4},
        "related": [{"message": "r", "file": "g", "line": 5, "column": 6}],
    }
    assert diagnostic.title == "two primitives with one name"
