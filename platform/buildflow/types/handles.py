"""Handles: what a parameter that bears a primitive's key receives."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object of a bucket: its path in the bucket, its size in bytes, when it became complete (UTC)."""

    path: str
    size: int
    modified: datetime


@runtime_checkable
class Bucket(Protocol):
    """A bucket. Paths are relative, with `/` between parts; one that would leave the bucket raises
    `InvalidObjectName`, a missing object `ObjectNotFound` (both in `buildflow.exceptions`)."""

    name: str

    def write(self, path: str, data: bytes | str | BinaryIO) -> ObjectInfo:
        """Store a whole object. It appears complete or not at all; an older one is replaced."""
        ...

    def read(self, path: str) -> bytes: ...

    def open(self, path: str) -> BinaryIO: ...

    def info(self, path: str) -> ObjectInfo: ...

    def exists(self, path: str) -> bool: ...

    def delete(self, path: str) -> None: ...

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every object whose path starts with `prefix`, in order of path."""
        ...


@runtime_checkable
class Queue(Protocol):
    """A queue to send to."""

    name: str

    def send(self, body: Any, *, attributes: Mapping[str, str] | None = None) -> str:
        """Append one message (bytes, text, or anything that becomes JSON); returns its durable id. Raises
        `BadMessage` (in `buildflow.exceptions`), and sends nothing, where the queue declares another `message`."""
        ...

    def send_many(self, bodies: Iterable[Any]) -> list[str]: ...


@runtime_checkable
class Topic(Protocol):
    """A topic to publish to: every subscription of it gets every message."""

    name: str

    def send(self, body: Any, *, attributes: Mapping[str, str] | None = None) -> str:
        """Publish one message (bytes, text, or anything that becomes JSON); returns its durable id. Raises
        `BadMessage` (in `buildflow.exceptions`), and sends nothing, where the topic declares another `message`."""
        ...

    def send_many(self, bodies: Iterable[Any]) -> list[str]: ...


@runtime_checkable
class Database(Protocol):
    """A PostgreSQL database. `url` is what SQLAlchemy and psycopg connect to, its password included."""

    name: str
    url: str

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The rows that a statement gives, as mappings of column to value. `%s` takes a parameter."""
        ...

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run one statement in a transaction of its own; returns how many rows it touched."""
        ...


@runtime_checkable
class Table(Protocol):
    """A table. `name` is what SQL calls it, schema included where there is one."""

    name: str

    def rows(
        self, *, where: str = "", parameters: Sequence[Any] = (), order_by: str = "", limit: int | None = None
    ) -> list[dict[str, Any]]:
        """Rows as mappings of column to value. `where` and `order_by` are SQL; `?` takes a parameter."""
        ...

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The rows that any SELECT gives. Reading only."""
        ...

    def insert(self, rows: Any) -> int:
        """Write one row or an iterable of rows (dataclass, pydantic model, mapping) in one transaction."""
        ...
