"""A place in a source as a reader sees it: its lines, and marks below them that stand where a terminal shows it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from buildflow.diagnostics import Span

WIDEST = 160
"""Characters of a source line, at most: of a longer one, what is around the place."""

_TAB_STOP = 8
_ALL_SHOWN = 4
"""Lines of a place that are all shown; of a longer one, the first two and the last."""

_UNSEEN = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) != "\t"},
    0x7F: 0x2421,
    **dict.fromkeys((*range(0x80, 0xA0), 0x2028, 0x2029), 0xFFFD),
    **dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), 0xFFFD),  # they turn text around
}
"""Characters that would command the terminal instead of being seen, and what is shown for each."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row: a source line with its number, or what marks the line above it. `lead` and `marks` are drawn."""

    number: int | None
    text: str = ""
    lead: str = ""
    marks: str = ""


def visible(text: str) -> str:
    """Text with a sign in the place of every character that would command the terminal; as many as there were."""
    return text if text.isascii() and text.isprintable() else text.translate(_UNSEEN)


def rows(span: Span, lines: Sequence[str], margin: int, widest: int = WIDEST) -> list[Row]:
    """The rows of one place. `margin` is how many cells stand before each; empty where the file has no such line."""
    if not 0 < span.line <= len(lines):
        return []
    last = span.end_line - (span.end_column <= 1)  # behind a line break is still that line
    if last <= span.line:
        return _one_line(span, lines[span.line - 1], margin, widest)
    return list(_many_lines(span, lines, min(last, len(lines)), margin, widest))


def _one_line(span: Span, line: str, margin: int, widest: int) -> list[Row]:
    end = span.end_column - 1 if span.end_line == span.line else len(line)
    text, start, end = _around(visible(line), span.column - 1, end, widest)
    before = text[:start]
    marks = "^" * _width(text[start:end], margin + _cells(before, margin))
    return [Row(span.line, text), Row(None, _blank(before), marks=marks)]


def _many_lines(span: Span, lines: Sequence[str], last: int, margin: int, widest: int) -> Iterator[Row]:
    """A line down the left from the first character to the last, as rustc draws it."""
    first, start, _ = _around(visible(lines[span.line - 1]), span.column - 1, span.column, widest)
    yield Row(span.line, first, lead="  ")
    yield Row(None, lead=" " + "_" * (_cells(first[:start], margin + 2) + 1), marks="^")
    shown = last - span.line < _ALL_SHOWN
    for number in range(span.line + 1, last) if shown else (span.line + 1,):
        yield Row(number, _around(visible(lines[number - 1]), 0, 0, widest)[0], lead="| ")
    if not shown:
        yield Row(None, lead="| ", text="…")
    stop = span.end_column - 1 if last == span.end_line else len(lines[last - 1])
    text, _, stop = _around(visible(lines[last - 1]), stop - 1, stop, widest)
    yield Row(last, text, lead="| ")
    yield Row(None, lead="|" + "_" * max(1, _cells(text[:stop], margin + 2)), marks="^")


def _around(line: str, start: int, end: int, widest: int) -> tuple[str, int, int]:
    """What is shown of a line that may be too long, and where the place from `start` to `end` is in it."""
    if len(line) <= widest:
        return line, start, min(end, len(line))
    fits = min(end, start + widest // 2) < widest
    cut = 0 if fits else min(start - widest // 4, len(line) - widest)
    text = line[cut : cut + widest]
    text = ("…" if cut else text[0]) + text[1:-1] + ("…" if cut + widest < len(line) else text[-1])
    return text, start - cut, min(end - cut, widest)


def _blank(text: str) -> str:
    """Nothing, as wide as `text`: tabs stay, because only the terminal knows how wide they are."""
    return "\t".join(" " * _cells(part, 0) for part in text.split("\t"))


def _cells(text: str, at: int) -> int:
    """How many cells a text takes that begins `at` so many cells: two for 漢, none for what only modifies."""
    if "\t" not in text:
        return len(text) if text.isascii() else _unicode_cells(text)
    cells = at
    for number, part in enumerate(text.split("\t")):
        cells += -cells % _TAB_STOP or _TAB_STOP if number else 0
        cells += _cells(part, 0)
    return cells - at


def _width(text: str, at: int) -> int:
    """How many marks stand below a text; one below a tab that ends it."""
    return max(1, _cells(text[:-1] + " " if text.endswith("\t") else text, at))


def _unicode_cells(text: str) -> int:
    from rich.cells import cell_len  # its tables are worth loading only here

    return cell_len(text)
