"""What most commands begin with: compile the file for a stack, stop at its mistakes, open its connections."""

import contextlib
import json
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from buildflow.cli.terminal import EXIT_MISTAKE, diagnostics_json, put_json, say, show_diagnostics
from buildflow.compiler import DEFAULT_FILE, Compilation, compile_file
from buildflow.diagnostics import Severity
from buildflow.errors import NotApplied

FileOption = Annotated[Path, typer.Option("--file", "-f", help="The project's file.", show_default=DEFAULT_FILE)]
StackOption = Annotated[str | None, typer.Option("--stack", "-s", help="The stack; without it, `default_stack`.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="A value: `--set var.name=value`. Repeatable.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print data as JSON, for programs.")]


def refuse_two_formats(as_json: bool, format: str | None) -> None:
    """`--json` is `--format json`, and contradicts another one."""
    if as_json and format not in (None, "json"):
        raise typer.BadParameter(f"--json and --format {format} name two formats; leave one out", param_hint="--format")


@dataclass(frozen=True)
class Choice:
    """Which project, which stack, which values."""

    file: Path
    stack: str | None
    values: list[str] | None = None

    @property
    def apply_command(self) -> str:
        return f"platform apply --stack {self.stack}" if self.stack else "platform apply"

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


def not_applied(result: Compilation, keys: Sequence[str]) -> str:
    return f'stack "{result.stack}" has changes that were not applied: {", ".join(keys)}'


def need_applied(result: Compilation, choice: Choice, *keys: str | None) -> None:
    """Raise `NotApplied`, naming those of `keys` that the stack does not hold yet."""
    from buildflow.provision.state import load

    held = load(folder_of(result)).resources
    missing = [key for key in dict.fromkeys(keys) if key and key not in held]
    if missing:
        raise NotApplied(not_applied(result, missing), hint=choice.apply_command)


def processes(connections: Any) -> list[dict[str, Any]]:
    """The stack's processes that beat, each as it describes itself. A Redis that was never started is left alone."""
    from buildflow.providers.redis_client import spoken

    plan = connections.plan
    if not plan.state_url and not (connections.root / plan.dir / "services/redis").exists():
        return []
    with spoken():
        state = connections.state()
        keys = sorted(state.scan_iter(f"{connections.namespace}:process:*"))
        found = [json.loads(value) for value in (state.mget(keys) if keys else []) if value]
    return [p for p in found if p["host"] != socket.gethostname() or _lives(p["pid"])]


def _lives(pid: int) -> bool:
    """Of a process of this machine: an entry outlives the process that was killed for some seconds."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def named(found: Sequence[dict[str, Any]]) -> str:
    """Processes in words: `gateway 123, worker 124`."""
    return ", ".join(f"{p['kind']} {p['pid']}" for p in found)
