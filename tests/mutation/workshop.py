"""Where one project is compiled again and again, with a mistake each time, and what is said is looked through."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from buildflow.compiler import Compilation, compile_file
from buildflow.compiler.source import Sources
from buildflow.diagnostics import CODES, Diagnostic, Severity, Span
from tests.golden.test_golden import PYTHON_WORDS
from tests.mutation.mutations import Mutation
from tests.mutation.projects import FILE, Project
from tests.mutation.promises import EVERYWHERE


class Workshop:
    """One project in a folder of its own, compiled again and again with other texts."""

    def __init__(self, project: Project, folder: Path) -> None:
        self.project = project
        project.build(folder)
        self.file = folder / FILE
        self.before = {(d.code, d.message) for d in self.compile(project.text).diagnostics}

    def compile(self, text: str) -> Compilation:
        self.file.write_text(text)
        return compile_file(Path(FILE), **{"environment": {}, **self.project.arguments})

    def compiled(self, mutation: Mutation, number: int) -> Compilation:
        try:
            return self.compile(mutation.text)
        except Exception as exc:
            exc.add_note(f"{self.project.name}, number {number}: {mutation.operator}, {mutation.note}")
            exc.add_note(mutation.text)
            raise

    def new_errors(self, result: Compilation) -> list[Diagnostic]:
        """What the mutation brought: an example of a primitive that runs on no provider yet has its own error."""
        errors = [d for d in result.diagnostics if d.severity is Severity.ERROR]
        return [d for d in errors if (d.code, d.message) not in self.before]


def share_sources(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers are the same in every mutation: they are read once."""
    sources = Sources(folder)
    monkeypatch.setattr("buildflow.compiler.Sources", lambda root: sources)


def untold(mutation: Mutation, errors: list[Diagnostic]) -> Iterator[str]:
    """The promises of a mutation that no error keeps, by itself or by a place that it is related to."""
    told = {span.line for d in errors for span in (d.span, *(r.span for r in d.related)) if span.file == FILE}
    for lines in mutation.promises:
        if not (errors if lines == EVERYWHERE else lines & told):
            yield f"no error at line {' or '.join(map(str, sorted(lines))) or '(any)'}"


def malformed(result: Compilation) -> Iterator[str]:
    """What no diagnostic may be."""
    for d in result.diagnostics:
        if d.code not in CODES or not d.message:
            yield f"unknown code or no message: {d}"
        said = " ".join((d.message, d.hint, *(r.message for r in d.related)))
        yield from (f'"{word}" in {said}' for word in PYTHON_WORDS if word in said)
        places = (d.span, *(r.span for r in d.related))
        yield from (f"no such place: {span}" for span in places if not stands_in_file(span, result))


def stands_in_file(span: Span, result: Compilation) -> bool:
    lines = result.document.lines if span.file == FILE else Path(span.file).read_text("utf-8", "replace").splitlines()
    line = lines[span.line - 1] if 0 < span.line <= len(lines) else ""
    forwards = (span.line, span.column) <= (span.end_line, span.end_column)
    return 0 < span.line <= len(lines) + 1 and 0 < span.column <= len(line) + 1 and forwards
