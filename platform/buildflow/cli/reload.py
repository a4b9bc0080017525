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
from buildflow.cli.terminal import fail, say
from buildflow.errors import BuildflowError

_LEFT_ALONE = {".buildflow", ".git", ".venv", "node_modules", "__pycache__"}


def run_reloading(choice: Choice, prepare: Callable[[], list[str]]) -> NoReturn:
    """Run the supervisor as a child; a mistake in the new version is shown, and the change that cures it waited for."""
    from watchfiles import watch

    root = choice.file.resolve().parent
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    child = _start(prepare)
    try:
        for _ in watch(root, watch_filter=lambda _, path: _counts(Path(path), root), stop_event=stop):
            say("changed; starting again")
            _end(child)
            child = _start(prepare)
    except KeyboardInterrupt:
        stop.set()
    _end(child)
    sys.exit(0)


def _counts(path: Path, root: Path) -> bool:
    inside = path.relative_to(root).parts if path.is_relative_to(root) else path.parts
    return path.suffix in (".py", ".yaml", ".yml") and not _LEFT_ALONE & set(inside)


def _start(prepare: Callable[[], list[str]]) -> subprocess.Popen[bytes] | None:
    try:
        command = prepare()
    except SystemExit:
        return None  # its mistakes were shown
    except BuildflowError as exc:
        try:
            fail(exc)
        except SystemExit:
            return None
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    return subprocess.Popen(command, env=environment, start_new_session=True)


def _end(child: subprocess.Popen[bytes] | None) -> None:
    if child is not None and child.poll() is None:
        child.send_signal(signal.SIGTERM)
        child.wait()
