"""How commands speak: data to stdout, talk to stderr, mistakes with their line and a caret."""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

from buildflow.diagnostics import Diagnostic, Severity, Span, to_json
from buildflow.errors import BuildflowError

EXIT_MISTAKE, EXIT_USAGE, EXIT_CHANGES, EXIT_DECLINED = 1, 2, 3, 4

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}


def styled(text: str, *styles: str, to: TextIO | None = None) -> str:
    """Text in colour where `to` (stderr) is a terminal that wants it."""
    stream = to or sys.stderr
    if not stream.isatty() or "NO_COLOR" in os.environ:
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
    for diagnostic in diagnostics:
        say(render(diagnostic, {file: lines}))


def render(diagnostic: Diagnostic, sources: dict[str, Sequence[str]]) -> str:
    """A mistake with its source line, a caret, the other places it is about, and its cure."""
    colour = "red" if diagnostic.severity is Severity.ERROR else "yellow"
    head = styled(f"{diagnostic.severity.value}[{diagnostic.code}]", colour, "bold")
    out = [f"{head}: {styled(diagnostic.message, 'bold')}", *_excerpt(diagnostic.span, sources, colour)]
    for related in diagnostic.related:
        out += [f"  {related.message}:", *_excerpt(related.span, sources, "blue")]
    if diagnostic.hint:
        out.append(f"  {styled('help', 'cyan')}: {diagnostic.hint}")
    return "\n".join(out) + "\n"


def _excerpt(span: Span, sources: dict[str, Sequence[str]], colour: str) -> list[str]:
    place = f"{span.file}:{span.line}:{span.column}"
    lines = sources.get(span.file)
    if lines is None:
        lines = sources[span.file] = _read(span.file)
    if not 0 < span.line <= len(lines):
        return [f"  {styled('-->', 'blue')} {place}"]
    line = lines[span.line - 1]
    number = str(span.line)
    margin = " " * len(number)
    end = span.end_column if span.end_line == span.line else len(line) + 1
    width = max(1, min(end, len(line) + 1) - span.column)
    bar = styled("|", "blue")
    before = "".join("\t" if c == "\t" else " " for c in line[: span.column - 1])
    return [
        f"  {margin}{styled('-->', 'blue')} {place}",
        f"  {margin} {bar}",
        f"  {styled(number, 'blue')} {bar} {line}",
        f"  {margin} {bar} {before}{styled('^' * width, colour)}",
    ]


def _read(file: str) -> list[str]:
    try:
        return Path(file).read_text("utf-8", "replace").splitlines()
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
            say()
            return False
        answer = line.strip().lower()
        if answer in ("y", "yes", "n", "no"):
            return answer.startswith("y")
        say("please answer y or n")


BRIEF = 300
"""Characters of a value in a table, at most: JSON and CSV hold it whole."""


def _brief(text: str) -> str:
    return text if len(text) <= BRIEF else f"{text[: BRIEF - 1]}…"


def table(rows: Sequence[dict[str, Any]], columns: Sequence[str] | None = None) -> None:
    """Rows for a reader, to stdout, each value as it is: nothing in it is markup."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    names = list(columns or dict.fromkeys(k for row in rows for k in row))
    shown = Table(show_edge=False, header_style="bold", pad_edge=False)
    for name in names:
        shown.add_column(Text(name), overflow="fold")
    for row in rows:
        shown.add_row(*(Text("" if row.get(n) is None else _brief(str(row.get(n)))) for n in names))
    width = None if sys.stdout.isatty() else 160
    Console(file=sys.stdout, width=width, highlight=False).print(shown)
