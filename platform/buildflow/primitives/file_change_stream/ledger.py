"""What a local stream knows of its bucket: a Redis hash of path -> version, changed in one step with the
stream.

Bucket handles and the watch both tell of changes. Each says what it believes the stream to know, and the
script refuses it when somebody was quicker; so a version is told of once, whoever saw it, and a process that
dies in between leaves either both the knowledge and the event or neither.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from buildflow.ir.graph import Resource
from buildflow.primitives.redis_stream import entry_fields
from buildflow.providers.base import LocalSession

_COMMIT = """
-- KEYS: ledger, stream. ARGV, for each change: path, what is believed to be known, the new version ('' for
-- none), the number of fields that follow, the fields of its event. Answers 1 for each change made, else 0.
local made, at = {}, 1
while at <= #ARGV do
  local path, believed, version, fields = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  at = at + 4
  local fits = (redis.call('HGET', KEYS[1], path) or '') == believed
  if fits then
    if version == '' then
      redis.call('HDEL', KEYS[1], path)
    else
      redis.call('HSET', KEYS[1], path, version)
    end
    if fields > 0 then
      redis.call('XADD', KEYS[2], '*', unpack(ARGV, at, at + fields - 1))
    end
  end
  at = at + fields
  made[#made + 1] = fits and 1 or 0
end
return made
"""


@dataclass(frozen=True, slots=True)
class Change:
    """The path's version went from `before` to `after`, "" meaning no object."""

    path: str
    before: str
    after: str
    size: int = 0

    @property
    def event_type(self) -> str:
        return "created" if self.after else "deleted"


def version(status: os.stat_result) -> str:
    """What tells a version of a file from the next, unless somebody forges the time."""
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}"


def creation(path: str, status: os.stat_result, before: str) -> Change:
    return Change(path, before, version(status), status.st_size)


def deletion(path: str, before: str) -> Change:
    return Change(path, before, "")


def stream_key(stream: Resource, session: LocalSession) -> str:
    return f"{session.namespace}:stream:{stream.key}"


def ledger_key(stream: Resource, session: LocalSession) -> str:
    return f"{session.namespace}:ledger:{stream_key(stream, session)}"


def bucket_of(stream: Resource, session: LocalSession) -> Resource:
    """The bucket that the stream watches."""
    return session.graph[stream.references.get("bucket") or stream.spec["bucket"]]


class Ledger:
    """The ledger of one stream. Connects when first asked; safe to use from several threads."""

    def __init__(self, stream: Resource, session: LocalSession) -> None:
        self.key = stream.key
        self._bucket = bucket_of(stream, session).name
        self._events = frozenset(stream.spec.get("events") or ["created"])
        self._prefix = stream.spec.get("prefix") or ""
        self._suffix = stream.spec.get("suffix") or ""
        self._stream_key = stream_key(stream, session)
        self._ledger_key = ledger_key(stream, session)
        self._session = session

    @property
    def _redis(self) -> Any:
        return self._session.redis()  # asked each time: a forked child has another

    def wants(self, path: str) -> bool:
        """Whether objects of this path are the stream's."""
        return path.startswith(self._prefix) and path.endswith(self._suffix)

    def read(self, paths: Sequence[str]) -> list[str]:
        """The known version of each path, "" where there is none."""
        known = self._redis.hmget(self._ledger_key, [path.encode() for path in paths])
        return [value.decode() if value else "" for value in known]

    def entries(self) -> Iterator[tuple[str, str]]:
        """Every (path, version); a path that changes meanwhile may come in either version, or twice."""
        for path, known in self._redis.hscan_iter(self._ledger_key, count=1000):
            yield path.decode(), known.decode()

    def created(self, path: str, status: os.stat_result, before: str) -> bool:
        return self.commit([creation(path, status, before)])[0]

    def deleted(self, path: str, before: str) -> bool:
        return self.commit([deletion(path, before)])[0]

    def commit(self, changes: Sequence[Change]) -> list[bool]:
        """Record the changes and append the events that the stream asks for, all in one step. False for each
        one whose `before` is not, or no longer, what the ledger says: somebody else told of that path since.
        """
        arguments: list[str | bytes | int] = []
        for change in changes:
            event = self._event(change) if change.event_type in self._events else []
            arguments += [change.path, change.before, change.after, len(event), *event]
        made = self._redis.register_script(_COMMIT)(keys=[self._ledger_key, self._stream_key], args=arguments)
        return [bool(one) for one in made]

    def forget(self, paths: Sequence[str]) -> None:
        """Drop paths that are no longer the stream's, without an event."""
        if paths:
            self._redis.hdel(self._ledger_key, *(path.encode() for path in paths))

    def _event(self, change: Change) -> list[str | bytes | int]:
        body = {
            "file_path": change.path,
            "event_type": change.event_type,
            "bucket": self._bucket,
            "size": change.size,
            "time": datetime.now(UTC).isoformat(),
            "metadata": {},
        }
        fields = entry_fields(json.dumps(body, ensure_ascii=False).encode(), id=self._id(change))
        return [part for pair in fields.items() for part in pair]

    def _id(self, change: Change) -> str:
        """The same for the same version of an object, whenever it comes: should Redis lose everything, the events
        come again and sinks that know their ids write nothing twice. Each deletion is one of its own."""
        what = change.after or f"deleted {time.time_ns()}"
        return hashlib.sha256("\0".join((self._stream_key, change.path, what)).encode()).hexdigest()[:32]
