"""`platform run --reload`: end and start again when the file or Python code changes."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from buildflow.cli.project import Choice
from buildflow.cli.terminal import say, show
from buildflow.errors import BuildflowError
from buildflow.spec.environment import ENV_FILE

_LEFT_ALONE = {".buildflow", ".git", ".venv", "node_modules", "__pycache__"}


def run_reloading(choice: Choice, prepare: Callable[[], list[str]]) -> NoReturn:
    """Run the supervisor as a child. A mistake in the new version is shown, and the old one goes on until a change
    cures it."""
    from watchfiles import watch

    root = choice.file.resolve().parent
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    child = _start(_prepared(prepare))
    try:
        for _ in watch(root, watch_filter=lambda _, path: _counts(Path(path), root), stop_event=stop):
            command = _prepared(prepare)
            if command is None:
                say("what runs goes on as it was" if child and child.poll() is None else "waiting for a change")
                continue
            say("changed; starting again")
            _end(child)
            child = _start(command)
    except KeyboardInterrupt:
        stop.set()
    _end(child)
    sys.exit(0)


def _counts(path: Path, root: Path) -> bool:
    inside = path.relative_to(root).parts if path.is_relative_to(root) else path.parts
    return (path.suffix in (".py", ".yaml", ".yml") or path.name == ENV_FILE) and not _LEFT_ALONE & set(inside)


def _prepared(prepare: Callable[[], list[str]]) -> list[str] | None:
    """The command of the new version; `None` when it has mistakes, which were shown."""
    try:
        return prepare()
    except SystemExit:
        return None
    except BuildflowError as exc:
        show(exc)
        return None


def _start(command: list[str] | None) -> subprocess.Popen[bytes] | None:
    if command is None:
        return None
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    return subprocess.Popen(command, env=environment, start_new_session=True)


def _end(child: subprocess.Popen[bytes] | None) -> None:
    if child is not None and child.poll() is None:
        child.send_signal(signal.SIGTERM)
        child.wait()
