"""What most commands begin with: compile the file for a stack, stop at its mistakes, open its connections."""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from buildflow.cli.terminal import EXIT_MISTAKE, diagnostics_json, put_json, say, show_diagnostics
from buildflow.compiler import DEFAULT_FILE, Compilation, compile_file
from buildflow.diagnostics import Severity

FileOption = Annotated[Path, typer.Option("--file", "-f", help="The project's file.", show_default=DEFAULT_FILE)]
StackOption = Annotated[str | None, typer.Option("--stack", "-s", help="The stack; without it, `default_stack`.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="A value: `--set var.name=value`. Repeatable.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print data as JSON, for programs.")]


@dataclass(frozen=True)
class Choice:
    """Which project, which stack, which values."""

    file: Path
    stack: str | None
    values: list[str] | None = None

    @property
    def variables(self) -> dict[str, str]:
        found = {}
        for text in self.values or []:
            name, equals, value = text.partition("=")
            if not equals or not name.startswith("var."):
                raise typer.BadParameter(f'"{text}" is not var.name=value', param_hint="--set")
            found[name.removeprefix("var.")] = value
        return found


def compiled(choice: Choice) -> Compilation:
    return compile_file(choice.file, stack=choice.stack, variables=choice.variables)


def correct(choice: Choice, *, as_json: bool = False) -> Compilation:
    """The compilation, if it has no errors; else they are shown, and the command ends with 1."""
    result = compiled(choice)
    if not result.ok:
        if as_json:
            put_json(diagnostics_json(result.diagnostics, ok=False))
        show_diagnostics(result.diagnostics, result.document.lines, result.document.path)
        errors = sum(d.severity is Severity.ERROR for d in result.diagnostics)
        say(f"{errors} mistake{'s' if errors != 1 else ''} in {result.document.path}; nothing was done")
        sys.exit(EXIT_MISTAKE)
    return result


def folder_of(result: Compilation) -> Path:
    """The stack's folder on this machine."""
    return result.root / result.plan.dir


@contextlib.contextmanager
def connected(result: Compilation) -> Iterator[Any]:
    """A stack's connections, its recorded outputs put in, closed afterwards."""
    from buildflow.provision.apply import bound_resources
    from buildflow.provision.state import load
    from buildflow.runtime.connections import Connections

    resources = bound_resources(result.plan.resources, load(folder_of(result)))
    connections = Connections(result.plan.model_copy(update={"resources": resources}), result.root)
    try:
        yield connections
    finally:
        connections.close()
