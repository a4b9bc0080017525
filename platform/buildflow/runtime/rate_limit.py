"""`rate_limit`: so many elements of a consumer a second, over all processes and machines."""

from buildflow.providers.redis_client import spoken
from buildflow.runtime.connections import Connections

BURST_SECONDS = 0.1
"""What may go at once after a pause, in seconds of the rate (one element at least)."""

# The generic cell rate algorithm: one number, the time at which the next element is due if all keep to the rate.
# KEYS: that time. ARGV: elements a second, wanted, burst in seconds. Answers {granted, seconds until the next}.
_TAKE = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
local each = 1 / tonumber(ARGV[1])
local due = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
local room = math.floor((now + ARGV[3] + each - due) / each + 1e-6)
local granted = math.max(0, math.min(tonumber(ARGV[2]), room))
if granted > 0 then
  due = due + granted * each
  redis.call('SET', KEYS[1], string.format('%.6f', due), 'PX', math.ceil((due - now) * 1000) + 1000)
end
return {granted, string.format('%.6f', math.max(0, due - now - ARGV[3]))}
"""

# KEYS: that time. ARGV: elements a second, how many were not there.
_RETURN = """
local due = redis.call('GET', KEYS[1])
if due then
  redis.call('SET', KEYS[1], string.format('%.6f', due - ARGV[2] / ARGV[1]), 'KEEPTTL')
end
"""


class RateLimit:
    """The permits of one consumer, in the stack's Redis."""

    def __init__(self, consumer: str, rate: float, connections: Connections) -> None:
        self.rate = rate
        self.connections = connections
        self.key = f"{connections.namespace}:rate:{consumer}"

    def take(self, wanted: int) -> tuple[int, float]:
        """How many of `wanted` elements may go now, and the seconds until there is another."""
        burst = max(BURST_SECONDS - 1 / self.rate, 0.0)
        with spoken():
            granted, seconds = self.connections.state().eval(_TAKE, 1, self.key, self.rate, wanted, burst)
        return int(granted), float(seconds)

    def give_back(self, unused: int) -> None:
        if unused:
            with spoken():
                self.connections.state().eval(_RETURN, 1, self.key, self.rate, unused)
