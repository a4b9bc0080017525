"""Mistakes as a reader sees them: marks stand below what they mark, whatever stands before it on its line."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.cells import cell_len

from buildflow.cli import terminal
from buildflow.cli.excerpt import WIDEST
from buildflow.cli.terminal import render, show_diagnostics
from buildflow.diagnostics import Diagnostic, Related, Severity, Span


def place(line: str, marked: str, number: int = 1) -> Span:
    start = line.index(marked) + 1
    return Span("f.yaml", number, start, number, start + len(marked))


def rendered(span: Span, lines: Sequence[str], *related: Related) -> list[str]:
    diagnostic = Diagnostic("BF201", "m", span, related=related)
    return render(diagnostic, {"f.yaml": lines}).splitlines()[1:]


def marked_cells(source: str, marks: str) -> tuple[int, int]:
    """From which cell to which a terminal shows the marks."""
    start = marks.index("^")
    return cell_len(marks[:start].expandtabs(8)), cell_len(marks.expandtabs(8))


def test_a_line_with_its_number_and_marks() -> None:
    line = "  images: {type: buckt}"
    assert rendered(place(line, "buckt", 12), [""] * 11 + [line]) == [
        "    --> f.yaml:12:18",
        "     |",
        "  12 |   images: {type: buckt}",
        "     |                  ^^^^^",
    ]


@pytest.mark.parametrize(
    ("line", "marked"),
    [
        ("  größe: {type: buckt}", "buckt"),
        ("  注文: {type: buckt}  # 漢字", "buckt"),
        ("  a: {name: 注文, type: buckt}", "注文"),
        ("  a: {name: 👩‍💻 ☕ ✅, type: buckt}", "buckt"),
        ("  a: {name: e\u0301te\u0301, type: buckt}", "buckt"),
        ("  ﾊﾝｶｸ: {type: buckt}", "buckt"),
        ("\ta:\t{type: buckt}", "buckt"),
        ("\t注\t: {type: buckt}", "buckt"),
        ("  a: {name: 'x\ty', type: buckt}", "'x\ty'"),
        ("  a: {name: 'x\ty', type: buckt}", "buckt"),
    ],
)
def test_marks_stand_where_a_terminal_shows_what_they_mark(line: str, marked: str) -> None:
    *_, source, marks = rendered(place(line, marked), [line])
    before = cell_len(source[: source.index(marked)].expandtabs(8))
    upto = cell_len(source[: source.index(marked) + len(marked)].expandtabs(8))
    if "\t" in source and not line.isascii():  # str.expandtabs counts characters, a terminal cells
        before, upto = 25, 30
    assert marked_cells(source, marks) == (before, upto)


@pytest.mark.parametrize("at", [0, 100, 155, 200, 350])
@pytest.mark.parametrize("width", [3, 40, 500])
def test_of_a_long_line_what_is_around_the_place_is_shown(at: int, width: int) -> None:
    line = "a" * at + "X" * width + "b" * 400
    *_, source, marks = rendered(Span("f.yaml", 1, at + 1, 1, at + width + 1), [line])
    shown = source.removeprefix("  1 | ")
    assert len(shown) == WIDEST
    assert shown.endswith("…")
    start, end = marks.index("^"), len(marks)
    assert set(source[start:end]) <= {"X", "…"}
    assert source[start] == "X"
    assert end - start == min(width, shown.count("X") + (shown[-2] == "X"))


def test_a_place_of_several_lines_has_a_line_down_its_left() -> None:
    lines = ['  lease: "one', "    two", '    three"  # c', "x: 1"]
    assert rendered(Span("f.yaml", 1, 10, 3, 11), lines) == [
        "   --> f.yaml:1:10",
        "    |",
        '  1 |     lease: "one',
        "    |  __________^",
        "  2 | |     two",
        '  3 | |     three"  # c',
        "    | |__________^",
    ]


def test_of_many_lines_the_first_two_and_the_last_are_shown() -> None:
    lines = ["text: |", *(f"  line {n}" for n in range(1, 12)), "next: 1"]
    assert rendered(Span("f.yaml", 1, 7, 13, 1), lines)[2:] == [
        "   1 |   text: |",
        "     |  _______^",
        "   2 | |   line 1",
        "     | | …",
        "  12 | |   line 11",
        "     | |_________^",
    ]


def test_a_place_that_ends_behind_a_line_break_is_of_one_line() -> None:
    assert rendered(Span("f.yaml", 1, 1, 2, 1), ["ab", "cd"])[2:] == ["  1 | ab", "    | ^^"]


def test_a_line_that_is_not_there_leaves_the_place_alone() -> None:
    assert rendered(Span("f.yaml", 7, 3, 7, 4), ["one line"]) == ["  --> f.yaml:7:3"]


def test_what_would_command_the_terminal_is_shown_as_a_sign() -> None:
    line = 'a: "\x1b[31m\u202etxt\x07"'
    diagnostic = Diagnostic("BF201", 'unknown "\x1b]0;x\x07"', place(line, "txt"), "did\nyou \x7f mean", ())
    text = render(diagnostic, {"f.yaml": [line]})
    assert text.splitlines()[0] == 'error[BF201]: unknown "␛]0;x␇"'
    assert '  1 | a: "␛[31m�txt␇"' in text
    assert "  help: did␊you ␡ mean" in text


def test_places_in_one_file_come_in_the_order_of_their_lines() -> None:
    lines = ["a: 1", "b: 2", "c: 3"]
    related = [
        Related(name, Span(file, line, 1, line, 2))
        for name, file, line in (("third", "f.yaml", 3), ("other", "g.py", 1), ("first", "f.yaml", 1))
    ]
    shown = [line for line in rendered(place("b: 2", "b", 2), lines, *related) if line.endswith(":")]
    assert shown == ["  first:", "  third:", "  other:"]


def test_a_python_file_is_read_as_python_counts_its_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A form feed, or a separator of Unicode's in a text, is no line break to Python."""
    monkeypatch.chdir(tmp_path)
    Path("app.py").write_bytes("\ufeff# a\r\n\x0c\r\nx = '\u2028'\rdef f(é, b): ...\n".encode())
    related = (Related("the code", Span("app.py", 4, 10, 4, 11)),)
    assert rendered(place("a: 1", "a"), ["a: 1"], *related)[-2:] == ["  4 | def f(é, b): ...", "    |          ^"]


def test_each_file_is_read_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    read: list[str] = []
    monkeypatch.setattr(terminal, "_read", lambda file: read.append(file) or ["x"])
    related = (Related("there", Span("app.py", 1, 1, 1, 2)),)
    found = [Diagnostic("BF201", str(n), place("a", "a"), related=related) for n in range(3)]
    show_diagnostics(found, ["a"], "f.yaml")
    assert read == ["app.py"]
    assert capsys.readouterr().err.count("app.py:1:1") == 3


class Terminal:
    """A stderr that is a terminal."""

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colour_is_for_terminals_that_want_it(
    environment: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    text = "\n".join(rendered(place("a: b", "b"), ["a: b"]))
    assert ("\x1b[31;1m^\x1b[0m" in text) == coloured
    assert ("\x1b" in text) == coloured


def test_a_warning_is_yellow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    text = render(Diagnostic("BF219", "m", place("a", "a"), severity=Severity.WARNING), {"f.yaml": ["a"]})
    assert text.startswith("\x1b[33;1mwarning[BF219]\x1b[0m\x1b[1m: m\x1b[0m\n")


def test_a_narrow_terminal_gets_narrow_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    line = "a" * 200 + "X" + "b" * 200
    assert {len(text) for text in rendered(place(line, "X"), [line]) if "X" in text} == {80}
