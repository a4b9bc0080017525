"""What a local stack holds, recorded in its folder: written whole, under a lock."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from buildflow.errors import StateUnreadable
from buildflow.ir.graph import Resource

STATE_FILE = "state.json"
LOCK_FILE = "state.lock"
PLAN_FILE = "plan.json"


class State(BaseModel):
    """The resources that exist, by key, with their outputs; what was bound to them when they were applied."""

    model_config = ConfigDict(extra="forbid")

    version: int = 1
    resources: dict[str, Resource] = Field(default_factory=dict)
    bindings: dict[str, str] | None = None
    """Each consumer and route in words; None before the first `apply`."""
    permissions: dict[str, list[str]] = Field(default_factory=dict)
    """What each identity may do, in words."""


def load(folder: Path) -> State:
    path = folder / STATE_FILE
    try:
        return State.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return State()
    except ValidationError as exc:
        hint = f"restore it from a copy; if the stack's data does not matter, delete {folder}"
        raise StateUnreadable(f"{path} cannot be read: {exc.errors()[0]['msg']}", hint=hint) from exc


def save(folder: Path, state: State) -> None:
    """Write the state so that a crash leaves the old one or the new one."""
    write_whole(folder / STATE_FILE, state.model_dump_json(indent=1))


def write_whole(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # it may hold what the environment gave
    with os.fdopen(fd, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


@contextlib.contextmanager
def locked(folder: Path, waiting: Callable[[str], None]) -> Iterator[None]:
    """Only one command changes a stack at a time; a second one says so through `waiting`, and waits."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_FILE).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip()
            waiting(f"another command{f' (process {holder})' if holder else ''} is changing this stack; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield
        file.seek(0)
        file.truncate()
