"""A queue on the local stack: a Redis stream."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from buildflow.errors import ResourceFailed
from buildflow.ir.graph import Resource
from buildflow.primitives.base import AT_LEAST_ONCE, Action, Change, Entry
from buildflow.primitives.element_ids import derived_id
from buildflow.primitives.messages import Encoder, encode, encoder
from buildflow.primitives.redis_stream import Outgoing, RedisStream, check_key
from buildflow.providers.base import LocalSession, physical_name
from buildflow.types import Message


class LocalQueueDriver:
    """`queue` on the local stack; a `LocalDriver`."""

    label = "RedisQueue"
    outputs = ("name", "url")

    def name(self, key: str, spec: Any, project: str, stack: str) -> str:
        return spec.name or physical_name(project, stack, key)

    def identify(self, resource: Resource, settings: Any) -> str:
        return f"redis://{resource.name}"

    def check_name(self, name: str) -> str:
        return check_key("queue", name)

    def create(self, resource: Resource, session: LocalSession) -> dict[str, Any]:
        _stream(resource, session).ensure()
        return {"name": resource.name, "url": f"redis://{resource.name}"}

    def exists(self, resource: Resource, session: LocalSession) -> bool:
        return _stream(resource, session).exists()

    def compare(self, old: Resource, new: Resource, session: LocalSession) -> Change:
        """Nothing here loses messages: the lease is the workers' affair, and a stream can be renamed."""
        fields = []
        if old.name != new.name:
            fields.append(f"name: {old.name} -> {new.name}")
        if (before := _lease(old)) != (after := _lease(new)):
            fields.append(f"lease: {before:g}s -> {after:g}s")
        return Change(Action.UPDATE if fields else Action.NONE, tuple(fields))

    def update(self, old: Resource, new: Resource, session: LocalSession) -> dict[str, Any]:
        if old.name != new.name and not _stream(old, session).rename(new.name):
            raise ResourceFailed(f'queue "{new.key}" cannot be renamed to {new.name}: Redis holds that key already')
        return self.create(new, session)

    def content(self, resource: Resource, session: LocalSession) -> str:
        stream = _stream(resource, session)
        count = sum(stream.counts())
        return f"{count:,} message{'s' * (count != 1)}" if count else ""

    def delete(self, resource: Resource, session: LocalSession) -> None:
        _stream(resource, session).delete()

    def source(self, resource: Resource, session: LocalSession) -> RedisStream:
        return _stream(resource, session)

    def sink(self, resource: Resource, session: LocalSession) -> "QueueSink":
        return QueueSink(_stream(resource, session), encoder(resource, session.graph))

    def handle(self, resource: Resource, session: LocalSession) -> "LocalQueue":
        return LocalQueue(resource.name, _stream(resource, session), encoder(resource, session.graph))


DRIVER = LocalQueueDriver()


class Sender(Protocol):
    """What messages are sent through: a stream, or a topic."""

    def send(self, body: bytes, headers: Mapping[str, str], id: str | None = None) -> str: ...

    def send_many(self, elements: Iterable[Outgoing], *, together: bool = False) -> list[str]: ...

    def close(self) -> None: ...


class QueueSink:
    """Sends each row as a message of its own; a `Message` with its attributes."""

    guarantee = AT_LEAST_ONCE

    def __init__(self, stream: Sender, encoder: Encoder = encode) -> None:
        self._stream = stream
        self._encode = encoder

    def check(self, row: Any) -> None:
        self._encode(_data(row))

    def commit(self, writer: str, entries: Sequence[Entry], *, fresh: bool = False) -> None:
        """All rows arrive together or not at all. A repeated commit sends again, under the same ids, by which
        whoever takes the messages can tell."""
        self._stream.send_many(
            [
                (self._encode(_data(row)), _attributes(row), id)
                for entry in entries
                for row, id in zip(entry.rows, self.message_ids(writer, entry), strict=True)
            ],
            together=True,
        )

    def message_ids(self, writer: str, entry: Entry) -> list[str]:
        """The ids under which an entry's rows are sent."""
        return [derived_id(entry.id, writer, str(index)) for index in range(len(entry.rows))]

    def close(self) -> None:
        self._stream.close()


class LocalQueue:
    """What a handler gets: `buildflow.types.Queue`. Its `sender` takes messages that are encoded, under ids of their
    own where they have one."""

    def __init__(self, name: str, sender: Sender, encoder: Encoder = encode) -> None:
        self.name = name
        self.sender = sender
        self._encode = encoder

    def send(self, body: Any, *, attributes: Mapping[str, str] | None = None) -> str:
        return self.sender.send(self._encode(body), attributes or {})

    def send_many(self, bodies: Iterable[Any]) -> list[str]:
        return self.sender.send_many([(self._encode(body), {}, None) for body in bodies])


def _data(row: Any) -> Any:
    return row.data if isinstance(row, Message) else row


def _attributes(row: Any) -> Mapping[str, str]:
    return row.attributes if isinstance(row, Message) else {}


def _lease(resource: Resource) -> float:
    return float(resource.spec.get("lease", 30.0))


def _stream(resource: Resource, session: LocalSession) -> RedisStream:
    return RedisStream(session.redis, resource.name, lease_seconds=_lease(resource))
