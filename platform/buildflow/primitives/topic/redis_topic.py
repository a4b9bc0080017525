"""A topic in Redis: a hash that names its subscriptions, each of them a Redis stream of its own.

A message is written to every stream that wants it in one Lua script, so it is with all of them or with none. The
hash holds a mark of its own beside the subscriptions: without it the topic does not exist, and publishing fails
rather than tell nobody. See docs/decisions/0008.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from buildflow.errors import NotApplied
from buildflow.primitives.redis_stream import APPEND, Outgoing, append_groups, evaluate
from buildflow.providers.redis_client import spoken

T = TypeVar("T")

_MARK = ""
"""The field that says that the topic exists; the others are the keys of streams."""

_MISSING = "NOTOPIC"
_CHECK = f"if redis.call('HEXISTS', KEYS[1], '') == 0 then return redis.error_reply('{_MISSING} it is missing') end"

# KEYS: topic. ARGV: time in ms; for each message: id, attributes, body. What may fail is done before the first
# write: Redis does not undo what a script wrote.
_PUBLISH = f"""
{_CHECK}
{APPEND}
local streams, filtered = {{}}, false
local registered = redis.call('HGETALL', KEYS[1])
for i = 1, #registered, 2 do
  if registered[i] ~= '' then
    local kind = redis.call('TYPE', registered[i]).ok
    if kind ~= 'stream' and kind ~= 'none' then
      return redis.error_reply('WRONGTYPE ' .. registered[i] .. ' is a ' .. kind .. ', not a stream')
    end
    local wants = cjson.decode(registered[i + 1])
    filtered = filtered or wants.filter
    streams[#streams + 1] = {{registered[i], wants.filter, wants.attributes}}
  end
end

local function matches(filter, attributes)
  for name, values in pairs(filter) do
    local found = false
    for _, value in ipairs(values) do found = found or attributes[name] == value end
    if not found then return false end
  end
  return true
end

for i = 2, #ARGV, 3 do
  local attributes = {{}}
  if filtered then
    local readable, found = pcall(cjson.decode, ARGV[i + 1])
    if readable then attributes = found end
  end
  for _, stream in ipairs(streams) do
    local key, filter, carried = unpack(stream, 1, 3)
    if not filter or matches(filter, attributes) then
      append(key, ARGV[1], ARGV[i], carried and ARGV[i + 1] or '{{}}', ARGV[i + 2])
    end
  end
end
"""

# KEYS: topic, old topic, old stream, old delayed, new stream, new delayed. ARGV: group, what it wants. Answers 0
# when the new name is taken.
_SUBSCRIBE = f"""
{_CHECK}
if KEYS[3] ~= KEYS[5] then
  if redis.call('EXISTS', KEYS[5], KEYS[6]) > 0 then return 0 end
  for i = 3, 4 do
    if redis.call('EXISTS', KEYS[i]) > 0 then redis.call('RENAME', KEYS[i], KEYS[i + 2]) end
  end
end
local made = redis.pcall('XGROUP', 'CREATE', KEYS[5], ARGV[1], '0', 'MKSTREAM')
if made.err and not string.find(made.err, 'BUSYGROUP') then return made end
redis.call('HDEL', KEYS[2], KEYS[3])
redis.call('HSET', KEYS[1], KEYS[5], ARGV[2])
return 1
"""

# KEYS: topic, new topic.
_RENAME = f"""
{_CHECK}
return redis.call('RENAMENX', KEYS[1], KEYS[2])
"""


class RedisTopic:
    """One topic. Thread-safe, also after a fork. `redis` gives a `redis.Redis`, asked at each use."""

    def __init__(self, redis: Callable[[], Any], name: str) -> None:
        self.name = name
        self.key = f"{name}:subscriptions"
        self._redis = redis

    # -- publishing ----------------------------------------------------------------------------------------

    def send(self, body: bytes, headers: Mapping[str, str], id: str | None = None) -> str:
        return self.send_many([(body, headers, id)])[0]

    def send_many(self, elements: Iterable[Outgoing], *, together: bool = False) -> list[str]:
        """Publish many, in groups of 1,000 that each reach every subscription or none; `together`: all of them
        or none. Returns their durable ids."""
        return self._existing(lambda: append_groups(self._redis, _PUBLISH, self.key, elements, together=together))

    def close(self) -> None: ...

    # -- a thing that exists -------------------------------------------------------------------------------

    def create(self) -> None:
        with spoken():
            self._redis().hset(self.key, _MARK, "")

    def exists(self) -> bool:
        with spoken():
            return bool(self._redis().hexists(self.key, _MARK))

    def rename(self, name: str) -> bool:
        """Give it, and its subscriptions, another name. False when that one is taken."""
        keys = [self.key, RedisTopic(self._redis, name).key]
        return bool(self._existing(lambda: evaluate(self._redis(), _RENAME, keys, [])))

    def delete(self) -> None:
        """The subscriptions keep what they have, and get nothing more."""
        with spoken():
            self._redis().delete(self.key)

    # -- its subscriptions ---------------------------------------------------------------------------------

    def subscribe(
        self,
        stream: str,
        group: str,
        *,
        filter: Mapping[str, Sequence[str]],
        attributes: bool,
        before: tuple["RedisTopic", str] | None = None,
    ) -> bool:
        """From now on the stream gets what matches: for every name of the filter, an attribute that has one of its
        values. `before` is the topic and the stream that it was; what that one holds moves along. False when the
        stream's name is taken."""
        old_topic, old_stream = before or (self, stream)
        keys = [self.key, old_topic.key, old_stream, f"{old_stream}:delayed", stream, f"{stream}:delayed"]
        wants = {"attributes": attributes, **({"filter": dict(filter)} if filter else {})}
        arguments = [group, json.dumps(wants)]
        return bool(self._existing(lambda: evaluate(self._redis(), _SUBSCRIBE, keys, arguments)))

    def unsubscribe(self, stream: str) -> None:
        """Before the stream is deleted, else the next message would make it again."""
        with spoken():
            self._redis().hdel(self.key, stream)

    def subscribed(self, stream: str) -> bool:
        with spoken():
            return bool(self._redis().hexists(self.key, stream))

    def _existing(self, do: Callable[[], T]) -> T:
        import redis

        try:
            with spoken():
                return do()
        except redis.ResponseError as exc:
            if _MISSING not in str(exc):
                raise
            raise NotApplied(f'topic "{self.name}" is not in Redis', hint="`platform apply` creates it") from exc
