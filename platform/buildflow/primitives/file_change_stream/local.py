"""file_change_stream on this machine: a Redis stream that bucket handles and the watch append to."""

import json
import threading
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildflow.ir.graph import Resource
from buildflow.primitives.base import Action, Change
from buildflow.primitives.file_change_stream.ledger import bucket_of, ledger_key, stream_key
from buildflow.primitives.redis_stream import RedisStream
from buildflow.providers.base import LocalSession
from buildflow.types.events import FileChangeEvent

if TYPE_CHECKING:
    from buildflow.primitives.bucket.local_handle import LocalBucket

_EVENTS = ("created", "deleted")


class _EventObject:
    """The object that an event is about; opens its bucket when it is first read."""

    def __init__(self, path: str, stream: Resource, session: LocalSession) -> None:
        self._path = path
        self._stream = stream
        self._session = session

    @cached_property
    def _bucket(self) -> "LocalBucket":
        from buildflow.primitives.bucket.local_handle import LocalBucket

        return LocalBucket(bucket_of(self._stream, self._session), self._session)

    def read(self) -> bytes:
        return self._bucket.read(self._path)

    def local_path(self) -> Path:
        return self._bucket.local_path(self._path)


class LocalFileChangeStreamDriver:
    """Creates, compares and removes the stream, and reads its events."""

    label = "LocalFileChangeStream"
    outputs = ("stream",)

    def name(self, key: str, spec: Any, project: str, stack: str) -> str:
        """Nobody outside the stack sees the stream, so its key is name enough."""
        return str(spec.name) if spec.name else key

    def identify(self, resource: Resource, settings: Any) -> str:
        bucket = resource.references.get("bucket") or resource.spec["bucket"]
        return f"{bucket}.{resource.name}"

    def check_name(self, name: str) -> str:
        return "" if name else "a stream's name is not empty"

    def create(self, resource: Resource, session: LocalSession) -> dict[str, Any]:
        """The ledger starts empty: files that were in the bucket before count as new ones."""
        self.source(resource, session).ensure()
        return {"stream": stream_key(resource, session)}

    def exists(self, resource: Resource, session: LocalSession) -> bool:
        return bool(session.redis().exists(stream_key(resource, session)))

    def compare(self, old: Resource, new: Resource, session: LocalSession) -> Change:
        before, after = _declared(old), _declared(new)
        fields = tuple(
            f"{f}: {before[f] or '(none)'} -> {after[f] or '(none)'}" for f in after if before[f] != after[f]
        )
        if before["bucket"] != after["bucket"]:
            return Change(Action.REPLACE, fields, self.content(old, session))
        return Change(Action.UPDATE if fields else Action.NONE, fields)

    def update(self, old: Resource, new: Resource, session: LocalSession) -> dict[str, Any]:
        return self.create(new, session)

    def content(self, resource: Resource, session: LocalSession) -> str:
        if not self.exists(resource, session):
            return ""
        source = self.source(resource, session)
        count = sum(source.counts())
        return f"{count} event{'' if count == 1 else 's'}" if count else ""

    def delete(self, resource: Resource, session: LocalSession) -> None:
        self.source(resource, session).delete()
        session.redis().delete(ledger_key(resource, session))

    def source(self, resource: Resource, session: LocalSession) -> RedisStream:
        return RedisStream(session.redis, stream_key(resource, session), lease_seconds=resource.spec.get("lease", 30.0))

    def watch(self, resource: Resource, session: LocalSession, stop: threading.Event) -> None:
        """Tell the stream of files that others put into its bucket, until `stop`. The watcher's leader calls it."""
        from buildflow.primitives.file_change_stream.watch import DirectoryWatch

        DirectoryWatch(resource, session).run(stop)

    def decode(self, body: bytes, resource: Resource, session: LocalSession) -> FileChangeEvent:
        """The event in an element's body; its object is read from the bucket when asked for. Only `file_path`
        is required, so that `platform send` can name an object by hand. Raises ValueError, in words."""
        event = _mapping(body)
        try:
            time = datetime.fromisoformat(event["time"]) if event.get("time") else None
        except (TypeError, ValueError) as error:
            raise ValueError(f"a file change's time is an ISO 8601 text, not {event['time']!r}") from error
        path = event["file_path"]
        about = _EventObject(path, resource, session)
        return FileChangeEvent(
            file_path=path,
            event_type=event.get("event_type") or "created",
            bucket=event.get("bucket") or bucket_of(resource, session).name,
            size=event.get("size") or 0,
            time=time,
            metadata=event.get("metadata") or {},
            read=about.read,
            local_path=about.local_path,
        )


def _mapping(body: bytes) -> dict[str, Any]:
    """The body as a mapping whose fields have the types of a file change."""
    try:
        event = json.loads(body)
    except ValueError as error:
        raise ValueError(f"a file change is JSON: {error}") from error
    if not isinstance(event, dict):
        raise ValueError('a file change is a mapping, such as {"file_path": "cat.png"}')
    if not isinstance(event.get("file_path"), str) or not event["file_path"]:
        raise ValueError("a file change names its object in file_path")
    if event.get("event_type", "created") not in _EVENTS:
        raise ValueError(f"a file change's event_type is created or deleted, not {event['event_type']!r}")
    for field, kind, words in (
        ("bucket", str, "text"),
        ("size", int, "a number"),
        ("metadata", dict, "a mapping"),
    ):
        if not isinstance(event.get(field) or kind(), kind):
            raise ValueError(f"a file change's {field} is {words}, not {event[field]!r}")
    return event


def _declared(resource: Resource) -> dict[str, str]:
    """What of a declaration makes a difference, in words."""
    spec = resource.spec
    return {
        "bucket": str(resource.references.get("bucket") or spec["bucket"]),
        "name": resource.name,
        "events": ", ".join(sorted(spec.get("events") or ["created"])),
        "prefix": str(spec.get("prefix") or ""),
        "suffix": str(spec.get("suffix") or ""),
        "lease": f"{spec.get('lease', 30.0):g}s",
    }


DRIVER = LocalFileChangeStreamDriver()
