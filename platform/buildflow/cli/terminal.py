"""How commands speak: data to stdout, talk to stderr, mistakes with their line and a caret."""

import json
import os
import re
import shutil
import sys
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

from buildflow.cli import excerpt
from buildflow.cli.excerpt import visible
from buildflow.diagnostics import Diagnostic, Related, Severity, Span, to_json
from buildflow.errors import BuildflowError

EXIT_MISTAKE, EXIT_USAGE, EXIT_CHANGES, EXIT_DECLINED = 1, 2, 3, 4

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}


def styled(text: str, *styles: str, to: TextIO | None = None) -> str:
    """Text in colour where `to` (stderr) is a terminal that wants it. Source of NO_COLOR: https://no-color.org"""
    stream = to or sys.stderr
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{';'.join(_CODES[s] for s in styles)}m{text}\x1b[0m"


def say(text: str = "") -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def put(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def put_json(value: Any) -> None:
    put(json.dumps(value, indent=2, default=str, ensure_ascii=False))


def fail(error: BuildflowError) -> NoReturn:
    """A failure of the world in words, and exit code 1."""
    show(error)
    sys.exit(EXIT_MISTAKE)


def show(error: BuildflowError) -> None:
    """A failure of the world in words."""
    first, *rest = str(error).splitlines() or [type(error).__name__]
    say(f"{styled('error', 'red', 'bold')}: {first}")
    for line in rest:
        say(f"       {line}")
    if error.hint:
        say(f"{styled('help', 'cyan')}: {error.hint}")


def diagnostics_json(diagnostics: Sequence[Diagnostic], *, ok: bool) -> dict[str, Any]:
    return {"ok": ok, "diagnostics": [to_json(d) for d in diagnostics]}


def show_diagnostics(diagnostics: Iterable[Diagnostic], lines: Sequence[str], file: str) -> None:
    sources = {file: lines}
    for diagnostic in diagnostics:
        say(render(diagnostic, sources))


def render(diagnostic: Diagnostic, sources: dict[str, Sequence[str]]) -> str:
    """A mistake with its source line, marks below it, the other places it is about, and its cure. `sources` holds the
    lines of files by name; a file that is read for this is added."""
    colour = "red" if diagnostic.severity is Severity.ERROR else "yellow"
    head = styled(f"{diagnostic.severity.value}[{diagnostic.code}]", colour, "bold")
    out = [f"{head}{styled(f': {visible(diagnostic.message)}', 'bold')}", *_excerpt(diagnostic.span, sources, colour)]
    for related in _file_by_file(diagnostic.related):
        out += [f"  {visible(related.message)}:", *_excerpt(related.span, sources, "blue")]
    if diagnostic.hint:
        out.append(f"  {styled('help', 'cyan', 'bold')}: {visible(diagnostic.hint)}")
    return "\n".join(out) + "\n"


def _file_by_file(related: Sequence[Related]) -> list[Related]:
    """In the order of their lines, within each file; the files as they came."""
    files = list(dict.fromkeys(r.span.file for r in related))
    return sorted(related, key=lambda r: (files.index(r.span.file), r.span))


def _excerpt(span: Span, sources: dict[str, Sequence[str]], colour: str) -> list[str]:
    if span.file not in sources:
        sources[span.file] = _read(span.file)
    lines = sources[span.file]
    gutter = len(str(max(span.line, min(span.end_line, len(lines)))))
    before = gutter + len("   | ")
    place = f"{styled('-->', 'blue', 'bold')} {visible(span.file)}:{span.line}:{span.column}"
    rows = excerpt.rows(span, lines, before, _widest() - before)
    if not rows:
        return [f"  {place}"]
    bar = styled("|", "blue", "bold")
    margin = " " * gutter
    return [f"  {margin}{place}", f"  {margin} {bar}", *(_painted(row, gutter, bar, colour) for row in rows)]


def _painted(row: excerpt.Row, gutter: int, bar: str, colour: str) -> str:
    number = styled(str(row.number).rjust(gutter), "blue", "bold") if row.number else " " * gutter
    lead, marks = (styled(drawn, colour, "bold") if drawn else "" for drawn in (row.lead, row.marks))
    return f"  {number} {bar} {lead}{row.text}{marks}"


def _widest() -> int:
    """How wide a row may be, in cells: a terminal would break a longer one, and its marks would stand nowhere."""
    widest = excerpt.WIDEST + len("  1 | ")
    return max(60, min(widest, shutil.get_terminal_size().columns)) if sys.stderr.isatty() else widest


_LINE_BREAK = re.compile("\r\n|\r|\n")
"""What Python counts as one. `str.splitlines` knows more, such as the form feed."""


def _read(file: str) -> list[str]:
    try:
        return _LINE_BREAK.split(Path(file).read_bytes().decode("utf-8-sig", "replace"))
    except OSError:
        return []


def confirm(question: str) -> bool:
    """The walkthrough's question. The end of input is a no, and so is Ctrl-C."""
    try:
        say(f"\n{question}")
        return _agreed()
    except KeyboardInterrupt:
        say()
        return False


def _agreed() -> bool:
    while True:
        sys.stderr.write('Enter "y (yes)" to confirm, "n (no) to reject": ')
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            say("\nno answer came; `--yes` needs none")
            return False
        answer = line.strip().lower()
        if answer in ("y", "yes", "n", "no"):
            return answer.startswith("y")
        say("please answer y or n")


BRIEF = 300
"""Characters of a value in a table, at most: JSON and CSV hold it whole."""


def _brief(text: str) -> str:
    return text if len(text) <= BRIEF else f"{text[: BRIEF - 1]}…"


def table(
    rows: Sequence[dict[str, Any]], columns: Sequence[str] | None = None, *, unbroken: Collection[str] = ()
) -> None:
    """Rows for a reader, to stdout, each value as it is: nothing in it is markup. Where the terminal is too narrow,
    values are broken over several lines, those of the `unbroken` columns last."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    names = list(columns or dict.fromkeys(k for row in rows for k in row))
    shown = Table(show_edge=False, header_style="bold", pad_edge=False)
    for name in names:
        shown.add_column(Text(name), overflow="fold", no_wrap=name in unbroken)
    for row in rows:
        shown.add_row(*(Text("" if row.get(n) is None else _brief(str(row.get(n)))) for n in names))
    width = None if sys.stdout.isatty() else 160
    Console(file=sys.stdout, width=width, highlight=False).print(shown)
