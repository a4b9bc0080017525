"""`platform run`, and its parts alone: `gateway`, `worker`, `watcher`.

They compile, bind the plan to what was applied, write it down, and become the supervisor: the compiler's memory
is given back, and what runs needs no YAML.
"""

import atexit
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from buildflow.cli.project import Choice, FileOption, SetOption, StackOption, correct, folder_of
from buildflow.cli.terminal import EXIT_MISTAKE, say, show_diagnostics, styled
from buildflow.compiler import DEFAULT_FILE, Compilation
from buildflow.compiler.not_yet import CODE as NOT_YET
from buildflow.diagnostics import Severity

HostOption = Annotated[str, typer.Option("--host", help="The address to listen on.")]
PortOption = Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="The port to listen on; 0 picks one.")]
WorkersOption = Annotated[int, typer.Option("--workers", "-w", min=1, help="Gateway processes.")]


def run(
    file: FileOption = Path(DEFAULT_FILE),
    stack: StackOption = None,
    values: SetOption = None,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    workers: WorkersOption = 1,
    reload: Annotated[bool, typer.Option("--reload", help="Start again when the file or a handler changes.")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Apply changes first, without asking.")] = False,
) -> None:
    """Run everything that the stack needs, until Ctrl-C: services, gateway, workers, watcher.

    On a stack with unapplied changes it says so and stops, unless `--apply`. An apply that would lose data is
    refused in any case.
    """
    choice = Choice(file, stack, values)
    options = ["--host", host, "--port", str(port), "--workers", str(workers)]
    if reload:
        from buildflow.cli.reload import run_reloading

        run_reloading(choice, lambda: _command(_prepared(choice, apply), options))
    become(_command(_prepared(choice, apply), options))


def gateway(
    file: FileOption = Path(DEFAULT_FILE),
    stack: StackOption = None,
    values: SetOption = None,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    workers: WorkersOption = 1,
) -> None:
    """Serve the routes alone, for when one machine is not enough."""
    options = ["--parts", "gateway", "--host", host, "--port", str(port), "--workers", str(workers)]
    become(_command(_prepared(Choice(file, stack, values), False), options))


def worker(
    file: FileOption = Path(DEFAULT_FILE),
    stack: StackOption = None,
    values: SetOption = None,
    pool: Annotated[str | None, typer.Option("--pool", help="Only this pool's consumers.")] = None,
) -> None:
    """Consume alone: one Celery worker a pool."""
    result = _prepared(Choice(file, stack, values), False)
    names = [p.name for p in result.plan.pools]
    if pool is not None and pool not in names:
        raise typer.BadParameter(f'there is no pool "{pool}"; pools: {", ".join(names) or "none"}', param_hint="--pool")
    become(_command(result, ["--parts", "worker", *(["--pool", pool] if pool else [])]))


def watcher(file: FileOption = Path(DEFAULT_FILE), stack: StackOption = None, values: SetOption = None) -> None:
    """Watch local folders alone. Of several watchers one leads; the others wait to take over."""
    become(_command(_prepared(Choice(file, stack, values), False), ["--parts", "watcher"]))


def _prepared(choice: Choice, apply: bool) -> Compilation:
    """A compilation whose stack is applied."""
    from buildflow.errors import NotApplied
    from buildflow.providers.redis_service import find_server
    from buildflow.provision.changes import unapplied
    from buildflow.provision.state import load

    result = _runnable(correct(choice))
    if not result.plan.state_url:
        find_server()  # before anything is created: a machine without one is told how to install it
    if apply:
        from buildflow.cli.apply import apply_changes

        if unapplied(result.graph, load(folder_of(result))):
            _need_importable(result)  # before anything is created
        apply_changes(result, yes=True, quiet=True)
    missing = unapplied(result.graph, load(folder_of(result)))
    if missing:
        stack = f" --stack {choice.stack}" if choice.stack else ""
        words = f'stack "{result.stack}" has changes that were not applied: {", ".join(missing)}'
        raise NotApplied(words, hint=f"platform apply{stack}, or platform run{stack} --apply")
    return result


def _need_importable(result: Compilation) -> None:
    """Raise `HandlerRejected`, with the lines at fault, where modules of the project cannot be imported; they are in
    a process of its own, as they will be."""
    from buildflow.errors import HandlerRejected
    from buildflow.providers.env_file import env_file_in_environment

    plan = result.plan
    handlers = [r.handler.function for r in plan.routes if r.handler] + [c.handler.function for c in plan.consumers]
    references = dict.fromkeys([*handlers, *(d.factory for d in plan.dependencies)])
    command = [sys.executable, "-m", "buildflow.loading", *references]
    with env_file_in_environment(result.root):
        asked = subprocess.run(
            command, cwd=result.root, env=_environment(result.root), capture_output=True, check=False
        )
    found = json.loads(asked.stdout) if asked.stdout else []
    if asked.returncode and not found:
        words = f"importing the handlers ends the process (exit code {asked.returncode})"
        raise HandlerRejected(words, hint=f"python -c 'import {handlers[0].partition(':')[0]}'" if handlers else "")
    if found:
        raise HandlerRejected("\n".join(one["error"] for one in found), hint=found[0]["hint"])


def _runnable(result: Compilation) -> Compilation:
    """The same compilation; where something of it would be ignored, that is shown, and the command ends with 1."""
    found = [replace(d, severity=Severity.ERROR) for d in result.diagnostics if d.code == NOT_YET]
    if found:
        show_diagnostics(found, result.document.lines, result.document.path)
        keys, do = ("1 key", "does") if len(found) == 1 else (f"{len(found)} keys", "do")
        say(f"{keys} of {result.document.path} {do} not run in this version; nothing was started")
        sys.exit(EXIT_MISTAKE)
    return result


def _command(result: Compilation, options: Sequence[str]) -> list[str]:
    """Write the bound plan, and give the command that runs it."""
    from buildflow.provision.apply import bound_resources
    from buildflow.provision.state import PLAN_FILE, load, write_whole

    folder = folder_of(result)
    plan = result.plan.model_copy(update={"resources": bound_resources(result.plan.resources, load(folder))})
    path = folder / PLAN_FILE
    write_whole(path, plan.model_dump_json(indent=1))
    os.chdir(result.root)
    say(f"{styled(plan.project, 'bold')} on stack {styled(plan.stack, 'bold')}")
    return [sys.executable, "-m", "buildflow.runtime.supervisor", str(path.relative_to(result.root)), *options]


def become(command: Sequence[str]) -> None:
    """Replace this process; handlers are found from the project's folder."""
    atexit._run_exitfuncs()  # a new program ends this one's threads where they are, and asks nobody
    os.execve(command[0], list(command), _environment(Path.cwd()))


def _environment(root: Path) -> dict[str, str]:
    """Modules are found from the project's folder."""
    path = os.pathsep.join(p for p in (str(root.absolute()), os.environ.get("PYTHONPATH", "")) if p)
    return {**os.environ, "PYTHONPATH": path}
