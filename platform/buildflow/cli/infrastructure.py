"""A stack's infrastructure for the commands that look at it or change it, and how they show its changes being made."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildflow.cli.project import folder_of
from buildflow.cli.terminal import say, styled
from buildflow.compiler import Compilation
from buildflow.errors import BuildflowError
from buildflow.ir.changes import ResourceChange

if TYPE_CHECKING:  # `check` has no use for them
    from buildflow.provision.cloud.engine import Engine
    from buildflow.provision.stack import Infrastructure, Told

_PAST = {"create": "created", "update": "updated", "replace": "replaced", "delete": "deleted"}
_PRESENT = {"create": "creating", "update": "updating", "replace": "replacing", "delete": "deleting"}
_OF_OTHERS = {"create": ("found", "looking up"), "delete": ("let go of", "letting go of")}


def infrastructure(result: Compilation, connections: Any) -> "Infrastructure":
    from buildflow.provision.stack import Infrastructure

    return Infrastructure(
        result.graph, result.plan, folder_of(result), connections.session, lambda: _engine(result, connections)
    )


def _engine(result: Compilation, connections: Any) -> "Engine":
    from buildflow.provision.cloud.aws_provider import refuse_nowhere
    from buildflow.provision.cloud.engine import Engine
    from buildflow.provision.cloud.pending import in_aws
    from buildflow.provision.cloud.program import program

    settings = {provider: connections.resolve(values) for provider, values in result.plan.settings.items()}
    refuse_nowhere(settings.get("aws", {}))
    declare = program(result.graph, result.plan, settings, connections.resolve)
    find = in_aws(connections.session("aws"))
    return Engine(_place(result, connections, settings), declare, find, say)


def _place(result: Compilation, connections: Any, settings: Mapping[str, Any]) -> Any:
    from buildflow.provision.cloud.engine import Place

    stack = result.declaration.stack
    folder = (folder_of(result) / "pulumi").absolute()
    home = stack.pulumi_home if stack else None
    return Place(
        project=result.plan.project,
        stack=result.plan.stack,
        folder=folder,
        backend_url=_backend(connections.resolve(stack.backend_url) if stack else None, result.root, folder),
        home=str((result.root / home).absolute()) if home else None,
        secrets_provider=stack.secrets_provider if stack else None,
        environment={**_passphrase(connections), **_credentials(settings.get("aws", {}))},
    )


def _backend(url: str | None, root: Path, folder: Path) -> str:
    """Where the state is: a relative `file://` starts at the project's root. Without one: the stack's folder."""
    if not url:
        return f"file://{folder / 'state'}"
    path = url.removeprefix("file://")
    return f"file://{(root / path).absolute()}" if url.startswith("file://") else url


def _passphrase(connections: Any) -> dict[str, str]:
    """The passphrase for what is secret in the state, from where the stack's secrets are; never one of our own."""
    from buildflow.errors import UnknownName
    from buildflow.provision.cloud.engine import PASSPHRASE

    with contextlib.suppress(UnknownName):  # a `secrets_provider` needs none; without both, the CLI's refusal says so
        return {PASSPHRASE: connections.secrets.get(PASSPHRASE)}
    return {}


def _credentials(settings: Mapping[str, Any]) -> dict[str, str]:
    """How the stack signs in, for Pulumi's CLI and for what it starts. Keys are never in the state, and those of the
    environment do not mix with the stack's own."""
    names = {"AWS_REGION": "region", "AWS_PROFILE": "profile"}
    keys = {
        "AWS_ACCESS_KEY_ID": "aws_access_key_id",
        "AWS_SECRET_ACCESS_KEY": "aws_secret_access_key",
        "AWS_SESSION_TOKEN": "aws_session_token",
    }
    found = {name: str(settings[field]) for name, field in names.items() if settings.get(field)}
    if any(settings.get(field) for field in ("profile", *keys.values())):
        found |= {name: str(settings.get(field) or "") for name, field in keys.items()}
    return found


@contextlib.contextmanager
def progress() -> "Iterator[Told]":
    """What tells of each change: a line when it is made, and on a terminal what is under way, with its time."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield _tell
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, highlight=False)
    drawn = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,
    )
    tasks: dict[tuple[str, str], Any] = {}
    since: dict[tuple[str, str], float] = {}

    def told(change: ResourceChange, done: bool) -> None:
        owner = (change.key, change.label)
        if not done:
            since[owner] = time.monotonic()
            tasks[owner] = drawn.add_task(_words(change, done=False))
            return
        if owner in tasks:
            drawn.remove_task(tasks.pop(owner))
        took = time.monotonic() - since[owner] if owner in since else 0.0
        words = f"  {styled('✓', 'green')} {_words(change, done=True)}"
        console.out(words + (f" ({took:.0f} s)" if took >= 1 else ""), highlight=False)

    with drawn:
        yield told


def _tell(change: ResourceChange, done: bool) -> None:
    if done:
        say(f"  {_words(change, done=True)}")


def _words(change: ResourceChange, *, done: bool) -> str:
    past, present = _PAST[change.verb], _PRESENT[change.verb]
    if not change.managed:
        past, present = _OF_OTHERS.get(change.verb, (past, present))
    return f"{past if done else present} {change.label} {change.id}"


@contextlib.contextmanager
def finishing(command: str) -> Iterator[None]:
    """Ctrl-C lets what is under way end, for what is half made has to be recorded: the engine hears it too, and takes
    up nothing new. A second one ends at once."""

    def interrupted(*_: Any) -> None:
        signal.signal(signal.SIGINT, before)
        engine = psutil.Process().children()
        if not engine:
            raise KeyboardInterrupt
        heard.append(True)
        say("\nending after what is under way; Ctrl-C again ends at once")
        if not _is_foreground():
            for child in engine:
                child.send_signal(signal.SIGINT)

    import psutil

    heard: list[bool] = []
    before = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    except BuildflowError as exc:
        if not heard:
            raise
        raise BuildflowError(
            "interrupted; what was made is recorded", hint=f"platform {command} goes on where this one ended"
        ) from exc
    finally:
        signal.signal(signal.SIGINT, before)


def _is_foreground() -> bool:
    """Whether a Ctrl-C in a terminal has reached the engine as well as this process."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return False
