"""A Redis stream as a source: entries of one consumer group, whose pending list is the list of leases.

An element is an entry of the stream or, while a retry waits, a member of the sorted set `<key>:delayed`. It
moves between the two inside a Lua script only: whatever dies, Redis included, it is in exactly one of them.
Acknowledging deletes the entry: one group a stream. Entries are never trimmed. Needs Redis 6.2 or newer.
"""

import hashlib
import json
import os
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from itertools import accumulate, chain, islice, pairwise
from typing import TYPE_CHECKING, Any, TypeVar

from buildflow.primitives.base import Counts, Element
from buildflow.primitives.element_ids import new_id
from buildflow.providers import process_identity
from buildflow.providers.redis_client import spoken

if TYPE_CHECKING:
    from buildflow.primitives.redis_stream_order import InOrder

T = TypeVar("T")

_RECOVER_SECONDS = 1.0
_BLOCK_SECONDS = 1.0
_FORGET_SECONDS = 3600.0
_GROUP_SIZE = 1000
"""Commands in one transaction and entries in one command; everybody else waits for it, so it is bounded."""

# What an entry says: id, body, headers, when it was sent (ms), attempts before, whether it asks to be alone.
READ = """
local function read(entry)
  local id, list, of = entry[1], entry[2], {}
  for i = 1, #list, 2 do of[list[i]] = list[i + 1] end
  local body = of.body or cjson.encode(of)  -- another program's XADD
  local sent = tonumber(of.sent_at) or tonumber(string.match(id, '^%d+'))
  return of.id or id, body, of.headers or '{}', sent, tonumber(of.attempts) or 0, of.alone == '1'
end
"""

# An element is one text, see `_PACKED`: redis-py takes longer to read a reply of many parts than Redis to make it.
PACK = """
local function pack(entry, deliveries, alone)
  local id = entry[1]
  local name, body, headers, sent, attempts, suspect = read(entry)
  local by_itself = (alone or suspect) and 1 or 0
  local sizes = struct.pack('>dIIIIB', sent, attempts + deliveries, #id, #name, #headers, by_itself)
  return sizes .. id .. name .. headers .. body
end
"""

# KEYS: stream, delayed. ARGV: group, consumer, limit, lease in ms ("" = no recovery now), dead consumers...
# Answers {how many were recovered, elements, dead consumers that still hold entries}.
_LEASE = (
    READ
    + PACK
    + """
local stream, delayed, group, me, limit = KEYS[1], KEYS[2], ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, packed in ipairs(redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, limit)) do
  redis.call('XADD', stream, '*', unpack(cmsgpack.unpack(packed)[2]))
  redis.call('ZREM', delayed, packed)
end

local out, dead = {}, {}
local function take(pending)
  for _, p in ipairs(pending) do
    local claimed = redis.call('XCLAIM', stream, group, me, 0, p[1])[1]
    if claimed then
      out[#out + 1] = pack(claimed, p[4] + 1, true)
    else
      redis.call('XACK', stream, group, p[1])  -- its entry was deleted by another hand
    end
  end
end
if ARGV[4] ~= '' then
  take(redis.call('XPENDING', stream, group, 'IDLE', ARGV[4], '-', '+', limit))
end
for i = 5, #ARGV do
  if #out < limit then
    take(redis.call('XPENDING', stream, group, '-', '+', limit - #out, ARGV[i]))
  end
  if #redis.call('XPENDING', stream, group, '-', '+', 1, ARGV[i]) > 0 then
    dead[#dead + 1] = ARGV[i]
  else
    redis.call('XGROUP', 'DELCONSUMER', stream, group, ARGV[i])
  end
end

local recovered = #out
if recovered < limit then
  local left = limit - recovered
  local read = redis.call('XREADGROUP', 'GROUP', group, me, 'COUNT', left, 'STREAMS', stream, '>')
  if read then
    for _, entry in ipairs(read[1][2]) do out[#out + 1] = pack(entry, 1, false) end
  end
end
return {recovered, out, dead}
"""
)

APPEND = """
local function append(stream, sent_at, id, headers, body)
  redis.call('XADD', stream, '*', 'id', id, 'body', body, 'headers', headers, 'sent_at', sent_at,
             'attempts', 0, 'alone', 0)
end
"""
"""For scripts that write elements: an entry as `READ` reads it."""

# KEYS: stream. ARGV: time in ms; for each element: id, headers, body.
_SEND = (
    APPEND
    + """
for i = 2, #ARGV, 3 do append(KEYS[1], ARGV[1], ARGV[i], ARGV[i + 1], ARGV[i + 2]) end
"""
)

# KEYS: stream. ARGV: group, consumer, ids... An entry that another worker took meanwhile stays with it.
# JUSTID leaves the count of deliveries, hence of attempts, as it is.
_RENEW = """
for i = 3, #ARGV do
  if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2]) > 0 then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'JUSTID')
  end
end
"""

# KEYS: stream, delayed. ARGV: group, consumer, id, delay in ms, alone ("1" or "0"), deliveries that do not count
# as attempts. The new entry is written from the old one. The member of the sorted set starts with the entry's id:
# two equal elements must stay two.
_RELEASE = (
    READ
    + """
local stream, delayed, group, id = KEYS[1], KEYS[2], ARGV[1], ARGV[3]
local pending = redis.call('XPENDING', stream, group, id, id, 1, ARGV[2])[1]
if not pending then return 0 end
local entry = redis.call('XRANGE', stream, id, id)[1]
if not entry then return redis.call('XACK', stream, group, id) * 0 end
local name, body, headers, sent, attempts = read(entry)
local new = {'id', name, 'body', body, 'headers', headers, 'sent_at', string.format('%.0f', sent),
             'attempts', tostring(math.max(0, attempts + pending[4] - ARGV[6])), 'alone', ARGV[5]}
if tonumber(ARGV[4]) <= 0 then
  redis.call('XADD', stream, '*', unpack(new))
else
  local time = redis.call('TIME')
  local due = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[4])
  redis.call('ZADD', delayed, due, cmsgpack.pack({id, new}))
end
redis.call('XACK', stream, group, id)
redis.call('XDEL', stream, id)
return 1
"""
)

# KEYS: the old ones, as many new ones. Answers 0 when a new name is taken.
_RENAME = """
local count = #KEYS / 2
if redis.call('EXISTS', unpack(KEYS, count + 1)) > 0 then return 0 end
for i = 1, count do
  if redis.call('EXISTS', KEYS[i]) > 0 then redis.call('RENAME', KEYS[i], KEYS[i + count]) end
end
return 1
"""

Outgoing = tuple[bytes, Mapping[str, str], str | None]
"""What `send_many` takes: body, headers, and an id or None for a new one."""


class RedisStream:
    """A `Source` on a Redis stream. Thread-safe; after a fork the child is a consumer of its own.

    `redis` is a `redis.Redis`, or a function that gives one (`LocalSession.redis`), asked at each use.
    """

    def __init__(
        self,
        redis: Any,
        key: str,
        group: str = "buildflow",
        lease_seconds: float = 30.0,
        consumer: str | None = None,
    ) -> None:
        self.key = key
        self.delayed_key = f"{key}:delayed"
        self.group = group
        self.lease_seconds = lease_seconds
        self.redis: Callable[[], Any] = redis if callable(redis) else lambda: redis
        self._given_consumer = consumer
        self._own_consumer = (0, "")
        self._recovering = threading.Lock()
        self._next_recovery = 0.0
        self._dead: list[bytes] = []
        self._closed = False

    @property
    def consumer(self) -> str:
        """Our name in the group, from which others on this machine can tell whether we still live."""
        if self._given_consumer:
            return self._given_consumer
        if self._own_consumer[0] != os.getpid():
            self._own_consumer = (os.getpid(), process_identity.own())
        return self._own_consumer[1]

    # -- a source ------------------------------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        end = min(time.monotonic() + seconds, max(self._next_recovery, time.monotonic()))
        while not self._closed and (left := end - time.monotonic()) > 0:
            with spoken():
                if self._there_is_something(min(left, _BLOCK_SECONDS)):
                    return

    def lease(self, limit: int) -> Sequence[Element]:
        if limit < 1:
            return []
        with spoken():
            recover, dead = self._due_recovery()
            lapse = int(self.lease_seconds * 1000) if recover else ""
            arguments = [self.group, self.consumer, limit, lapse, *dead]
            recovered, packed, still = self.run(_LEASE, [self.key, self.delayed_key], arguments)
        with self._recovering:
            self._dead = still
            if recover and recovered >= limit:
                self._next_recovery = 0.0  # there may be more
        return [unpack_element(one) for one in packed]

    def renew(self, elements: Sequence[Element]) -> None:
        for group in _groups(elements):
            receipts = [element.receipt for element in group]
            with spoken():
                self.run(_RENEW, [self.key], [self.group, self.consumer, *receipts])

    def acknowledge(self, elements: Sequence[Element]) -> None:
        """Whoever holds the lease by now: acknowledged means committed, so even when ours lapsed and another
        worker has the element, there is nothing left to do for it."""
        for group in _groups(elements):
            receipts = [element.receipt for element in group]
            with spoken(), self.redis().pipeline(transaction=True) as pipe:
                pipe.xack(self.key, self.group, *receipts)
                pipe.xdel(self.key, *receipts)
                pipe.execute()

    def release(self, element: Element, *, delay: float = 0.0, alone: bool = False, counted: bool = True) -> None:
        milliseconds = max(0, round(delay * 1000))
        arguments = [self.group, self.consumer, element.receipt, milliseconds, int(alone), int(not counted)]
        with spoken():
            self.run(_RELEASE, [self.key, self.delayed_key], arguments)

    def send(self, body: bytes, headers: Mapping[str, str], id: str | None = None) -> str:
        fields = entry_fields(body, headers, id)
        with spoken():
            self.redis().xadd(self.key, fields)
        return str(fields["id"])

    def send_many(self, elements: Iterable[Outgoing], *, together: bool = False) -> list[str]:
        """Append many, in groups of 1,000 that each arrive whole; `together`: all of them or none."""
        return append_groups(self.redis, _SEND, self.key, elements, together=together)

    def counts(self) -> Counts:
        with spoken(), self.redis().pipeline(transaction=True) as pipe:
            pipe.xlen(self.key)
            pipe.xpending(self.key, self.group)
            pipe.zcard(self.delayed_key)
            entries, pending, delayed = pipe.execute(raise_on_error=False)
        leased = pending["pending"] if isinstance(pending, dict) else 0
        return Counts(max(0, entries - leased) + delayed, leased)

    def close(self) -> None:
        """Nothing to give back: the entries that we still hold come again as soon as this process is gone."""
        self._closed = True

    # -- a thing that exists -------------------------------------------------------------------------------

    def ensure(self) -> None:
        """Create the stream and its group, unless they are there."""
        import redis

        with spoken():
            try:
                self.redis().xgroup_create(self.key, self.group, id="0", mkstream=True)
            except redis.ResponseError as exc:
                if not str(exc).startswith("BUSYGROUP"):
                    raise

    def exists(self) -> bool:
        with spoken():
            return bool(self.redis().exists(self.key))

    def rename(self, key: str, *beside: str) -> bool:
        """Move everything, leases too, to another key, and what stands `beside` it, at `<key>:<beside>`. False
        when that one is taken."""
        keys = [f"{start}{end}" for start in (self.key, key) for end in _endings(beside)]
        with spoken():
            return bool(self.run(_RENAME, keys, []))

    def delete(self, *beside: str) -> None:
        with spoken():
            self.redis().delete(*(f"{self.key}{end}" for end in _endings(beside)))

    def oldest(self) -> datetime | None:
        """When the oldest element of the stream was sent, leased or not."""
        with spoken():
            for id, fields in self.redis().xrange(self.key, count=1):
                written = fields.get(b"sent_at") or id.split(b"-")[0]  # an id starts with when Redis got it
                return datetime.fromtimestamp(int(written) / 1000, UTC)
        return None

    def in_order(self, lock: str, token: str) -> "InOrder":
        """The stream for one leader, who holds `lock` (a key of the same Redis) with `token`."""
        from buildflow.primitives.redis_stream_order import InOrder

        return InOrder(self, lock, token)

    # -- inside --------------------------------------------------------------------------------------------

    def run(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run a script, the group made anew if somebody flushed Redis."""
        import redis

        try:
            return evaluate(self.redis(), script, keys, arguments)
        except redis.ResponseError as exc:
            if "NOGROUP" not in str(exc):
                raise
        self.ensure()  # somebody flushed Redis
        return evaluate(self.redis(), script, keys, arguments)

    def _there_is_something(self, seconds: float) -> bool:
        """Look for an undelivered entry or a due one, and block for up to `seconds` when there is none."""
        client = self.redis()
        with client.pipeline(transaction=False) as pipe:
            pipe.xinfo_groups(self.key)
            pipe.zrange(self.delayed_key, 0, 0, withscores=True)
            pipe.time()
            groups, delayed, (now, micros) = pipe.execute(raise_on_error=False)
        delivered = _last_delivered(groups, self.group)
        if delivered is None:
            self.ensure()
            return True
        if delayed:
            seconds = min(seconds, delayed[0][1] / 1000 - now - micros / 1e6)
            if seconds <= 0:
                return True
        return bool(client.xread({self.key: delivered}, count=1, block=max(1, int(seconds * 1000))))

    def _due_recovery(self) -> tuple[bool, list[bytes]]:
        """Whether to look for lapsed leases now, and the dead consumers whose leases end at once."""
        with self._recovering:
            now = time.monotonic()
            if now < self._next_recovery:
                return False, list(self._dead)
            self._next_recovery = now + min(_RECOVER_SECONDS, self.lease_seconds / 4)
        return True, self._dead_consumers()

    def _dead_consumers(self) -> list[bytes]:
        import redis

        try:
            consumers = self.redis().xinfo_consumers(self.key, self.group)
        except redis.ResponseError:
            self.ensure()
            return []
        return [c["name"] for c in consumers if self._is_dead(c["name"], c["pending"], c["idle"] / 1000)]

    def _is_dead(self, name: bytes, pending: int, idle: float) -> bool:
        """Certainly dead; or without leases and unheard of for so long that it makes no difference: a living
        one is brought back by its next lease."""
        if process_identity.is_dead(name.decode(errors="replace")):
            return True
        return not pending and idle > _FORGET_SECONDS and name != self.consumer.encode()


@cache
def _digest(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


def evaluate(client: Any, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
    from redis.exceptions import NoScriptError

    try:
        return client.evalsha(_digest(script), len(keys), *keys, *arguments)
    except NoScriptError:  # the first time since Redis started
        return client.eval(script, len(keys), *keys, *arguments)


def check_key(what: str, name: str) -> str:
    """Why `name` is no good name for a stream's key, in words; empty when it is."""
    if not name:
        return f"a {what}'s name needs at least one character"
    if any(char.isspace() or not char.isprintable() for char in name):
        return f"a {what}'s name has neither blanks nor control characters"
    return ""


def entry_fields(
    body: bytes, headers: Mapping[str, str] | None = None, id: str | None = None
) -> dict[str, str | bytes | int]:
    """An element as the fields of its entry, for whoever appends in a script of his own."""
    return {
        "id": id or new_id(),
        "body": body,
        "headers": json.dumps(dict(headers)) if headers else "{}",
        "sent_at": int(time.time() * 1000),
        "attempts": 0,
        "alone": 0,
    }


def append_groups(
    redis: Callable[[], Any], script: str, key: str, elements: Iterable[Outgoing], *, together: bool
) -> list[str]:
    """Run `script`, which takes what `_SEND` takes, on elements in groups of 1,000, each written whole; `together`:
    all of them or none."""
    ids: list[str] = []
    groups = ([_outgoing(*element) for element in group] for group in _groups(elements))
    for transaction in [list(groups)] if together else ([group] for group in groups):
        with spoken():
            _append(redis, script, key, transaction)
        ids += [id for group in transaction for id, _, _ in group]
    return ids


def _append(
    redis: Callable[[], Any], script: str, key: str, groups: Sequence[Sequence[tuple[str, str, bytes]]]
) -> None:
    from redis.exceptions import NoScriptError

    def run() -> None:
        with redis().pipeline(transaction=True) as pipe:
            now = int(time.time() * 1000)
            for group in groups:
                pipe.evalsha(_digest(script), 1, key, now, *chain.from_iterable(group))
            pipe.execute()

    try:
        run()
    except NoScriptError:  # none of them ran
        redis().script_load(script)
        run()


def _endings(beside: Sequence[str]) -> list[str]:
    return ["", ":delayed", *(f":{name}" for name in beside)]


def _outgoing(body: bytes, headers: Mapping[str, str], id: str | None) -> tuple[str, str, bytes]:
    return id or new_id(), json.dumps(dict(headers)) if headers else "{}", body


_PACKED = struct.Struct(">dIIIIB")
"""Sent at (ms), attempt, the sizes of receipt, id and headers, alone; then these three and the body."""


def unpack_element(packed: bytes) -> Element:
    sent_at, attempt, *sizes, alone = _PACKED.unpack_from(packed)
    ends = list(accumulate(sizes, initial=_PACKED.size))
    receipt, id, headers = (packed[start:end] for start, end in pairwise(ends))
    return Element(
        id=id.decode(),
        body=packed[ends[-1] :],
        receipt=receipt.decode(),
        attempt=attempt,
        headers=_headers(headers),
        sent_at=datetime.fromtimestamp(sent_at / 1000, UTC),
        alone=bool(alone),
    )


def _headers(text: bytes) -> dict[str, str]:
    if text == b"{}":
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def _last_delivered(groups: Any, group: str) -> bytes | None:
    """The group's last delivered id; None when the stream or the group is missing."""
    if isinstance(groups, Exception):
        return None
    return next((g["last-delivered-id"] for g in groups if g["name"] == group.encode()), None)


def _groups(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while group := list(islice(iterator, _GROUP_SIZE)):
        yield group
