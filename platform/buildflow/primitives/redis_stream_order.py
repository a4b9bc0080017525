"""A Redis stream whose entries one leader takes, in order.

Nothing moves: an entry stays where it is in the stream, pending, until it is acknowledged, retries included, so the
next leader finds all that was begun and not finished in its old order. Every step is fenced: it is refused once
another leads.
"""

from collections.abc import Sequence
from typing import Any

from buildflow.errors import LeadershipLost
from buildflow.primitives.base import Element
from buildflow.primitives.redis_stream import PACK, READ, RedisStream, unpack_element
from buildflow.providers.redis_client import spoken

_FENCE = "if redis.call('get', KEYS[1]) ~= ARGV[1] then return {-1, {}} end\n"

# The count of deliveries says how often a handler began with the entry, plus one: reading it counts as one.

# KEYS: leader's lock, stream. ARGV: token, group, consumer, the id to start behind, limit.
_RESUME = (
    _FENCE
    + READ
    + PACK
    + """
local stream, group, me = KEYS[2], ARGV[2], ARGV[3]
local out = {}
local pending = redis.call('XPENDING', stream, group, ARGV[4], '+', ARGV[5])
for _, p in ipairs(pending) do
  local entry = redis.call('XRANGE', stream, p[1], p[1])[1]
  if entry then
    redis.call('XCLAIM', stream, group, me, 0, p[1], 'JUSTID')
    out[#out + 1] = pack(entry, p[4] - 1, p[4] > 1)
  else
    redis.call('XACK', stream, group, p[1])  -- its entry was deleted by another hand
  end
end
return {#pending, out}
"""
)

# KEYS: leader's lock, stream, delayed. ARGV: token, group, consumer, limit.
_NEXT = (
    _FENCE
    + READ
    + PACK
    + """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, packed in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, ARGV[4])) do
  redis.call('XADD', KEYS[2], '*', unpack(cmsgpack.unpack(packed)[2]))
  redis.call('ZREM', KEYS[3], packed)
end
local out = {}
local read = redis.call('XREADGROUP', 'GROUP', ARGV[2], ARGV[3], 'COUNT', ARGV[4], 'STREAMS', KEYS[2], '>')
if read then
  for _, entry in ipairs(read[1][2]) do out[#out + 1] = pack(entry, 0, false) end
end
return {#out, out}
"""
)

# KEYS: leader's lock, stream. ARGV: token, group, consumer, attempts to add, ids...
_COUNT = (
    _FENCE
    + """
for i = 5, #ARGV do
  local pending = redis.call('XPENDING', KEYS[2], ARGV[2], ARGV[i], ARGV[i], 1)[1]
  if pending then
    local count = math.max(1, pending[4] + ARGV[4])
    redis.call('XCLAIM', KEYS[2], ARGV[2], ARGV[3], 0, ARGV[i], 'RETRYCOUNT', count, 'JUSTID')
  end
end
return {0, {}}
"""
)


class InOrder:
    """The leader's way to a stream. Its elements' `attempt` is how often a handler has begun with them."""

    def __init__(self, stream: RedisStream, lock: str, token: str) -> None:
        self.stream = stream
        self.lock = lock
        self.token = token

    def resume(self, limit: int) -> list[Element]:
        """What was taken and not finished, whoever took it, oldest first, `limit` at most at each step."""
        found: list[Element] = []
        start = "-"
        while True:
            count, elements = self._run(_RESUME, [self.stream.key], start, limit)
            found += elements
            if count < limit or not elements:
                return found
            start = f"({elements[-1].receipt}"

    def is_mine(self, element: Element) -> bool:  # noqa: ARG002 - as of SQS
        """Always: what a leader has read stays its own until another one leads."""
        return True

    def next(self, limit: int) -> list[Element]:
        """Up to `limit` elements that nobody took yet, in the order in which they were sent."""
        return self._run(_NEXT, [self.stream.key, self.stream.delayed_key], limit)[1] if limit > 0 else []

    def count(self, elements: Sequence[Element], attempts: int = 1) -> None:
        """Count an attempt that begins, or one less for what failed through no fault of these elements."""
        if elements:
            self._run(_COUNT, [self.stream.key], attempts, *(element.receipt for element in elements))

    def _run(self, script: str, keys: Sequence[str], *arguments: Any) -> tuple[int, list[Element]]:
        with spoken():
            given = [self.token, self.stream.group, self.stream.consumer, *arguments]
            count, packed = self.stream.run(script, [self.lock, *keys], given)
        if count < 0:
            raise LeadershipLost("another process leads this consumer now")
        return count, [unpack_element(one) for one in packed]
