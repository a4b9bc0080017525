"""Elements that sources carry, and what a dead letter holds."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class FileChangeEvent:
    """An object of a bucket became complete, or was deleted.

    `file_path` is the object's path in its bucket, `event_type` is "created" or "deleted", `size` its
    bytes, `time` when the change was seen (UTC). `blob` reads the object when first asked for.
    """

    file_path: str
    event_type: str = "created"
    bucket: str = ""
    size: int = 0
    time: datetime | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    read: Callable[[], bytes] | None = field(default=None, repr=False, compare=False)
    local_path: Callable[[], Path] | None = field(default=None, repr=False, compare=False)

    @cached_property
    def blob(self) -> bytes:
        """The object's bytes. Raises `ObjectNotFound` when it is gone."""
        if self.read is None:
            raise ValueError(f"this event of {self.file_path} has no bucket to read from")
        return self.read()

    @cached_property
    def path(self) -> Path:
        """A file on this machine that holds the object, to be read only."""
        if self.local_path is None:
            raise ValueError(f"this event of {self.file_path} has no bucket to read from")
        return self.local_path()


@dataclass(frozen=True)
class Tick:
    """A schedule's tick: `time` is when it was due (UTC), `schedule` the key of its primitive."""

    time: datetime
    schedule: str = ""


@dataclass(frozen=True)
class Message(Generic[T]):
    """An element with its envelope: annotate a parameter `Message[T]` to get it. What a consumer returns as one goes
    to a queue or a topic with its `attributes`, by which subscriptions filter.

    `attempt` is 1 the first time; `time` is when it was sent (UTC).
    """

    data: T
    id: str = ""
    attempt: int = 1
    time: datetime | None = None
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DeadLetter:
    """An element that was given up, as a table row: name this type in `columns` and the table in
    `dead_letter`."""

    id: str
    consumer: str
    source: str
    error: str
    """What went wrong, in one line: the exception's type and message."""
    traceback: str
    attempts: int
    payload: bytes
    """The element's original bytes."""
    headers: str
    """The element's headers, a JSON mapping of text to text."""
    sent_at: datetime
    dead_at: datetime
