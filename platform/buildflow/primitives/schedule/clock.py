"""The clock of one schedule: appends a tick to its Redis stream at each of its times.

How far the schedule has come is kept beside the stream. Ticks are appended and that time is advanced in one
script, which refuses when another has advanced it since: however many clocks run, and wherever one is killed, a time
has one tick. Its id is made of the name and the time, so a copy of it is recognised.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain, islice, takewhile

from buildflow.errors import ServiceUnavailable
from buildflow.ir.graph import Resource
from buildflow.primitives.redis_stream import APPEND, evaluate
from buildflow.primitives.schedule.times import times_of
from buildflow.providers.base import LocalSession
from buildflow.providers.redis_client import spoken

logger = logging.getLogger(__name__)

LATE = timedelta(seconds=5)
"""A tick that is later than this was missed: nothing ran. A new leader is there sooner."""

BESIDE = "last"
"""What the last time is called: the key `<stream>:last`."""

_LOOK = 1.0
"""Seconds between two looks at the clock, which may be set, or sleep with its machine."""

_GROUP_SIZE = 1000

# KEYS: stream, last time. ARGV: the last time as believed, the new one, time in ms; for each tick: id, headers, body.
_ADVANCE = f"""
{APPEND}
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
for i = 4, #ARGV, 3 do append(KEYS[1], ARGV[3], ARGV[i], ARGV[i + 1], ARGV[i + 2]) end
redis.call('SET', KEYS[2], ARGV[2])
return 1
"""


class ScheduleClock:
    """Ticks for one schedule. One at a time suffices; two do no harm. `now` gives the time in UTC."""

    def __init__(
        self, resource: Resource, session: LocalSession, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._resource = resource
        self._redis = session.redis
        self._stream = resource.name
        self._last_key = f"{resource.name}:{BESIDE}"
        self._times = times_of(resource.spec)
        self._missed = resource.spec.get("missed", "last")
        self._now = now
        self._last: datetime | None = None
        self._warned = ""

    def run(self, stop: threading.Event) -> None:
        """Tick until `stop` is set. Survives the loss of Redis."""
        while not stop.is_set():
            try:
                seconds = self.step()
            except ServiceUnavailable as error:
                self._warn("the schedule %s cannot tick (%s); trying again until it can", str(error))
                seconds = _LOOK
            stop.wait(min(seconds, _LOOK))

    def step(self) -> float:
        """Append what is due, a group at most; answers the seconds until there is more to do."""
        now = self._now()
        last = self._last or self.begin()
        if (seconds := (self._times.following(last) - now).total_seconds()) > 0:
            if now < last - LATE:
                self._warn("the clock went back: the schedule %s ticks again after %s", last.isoformat())
            return seconds
        ticks, upto = self._due(last, now)
        self._last = upto if self._advance(last, upto, ticks) else None
        return 0.0

    def begin(self) -> datetime:
        """How far the schedule has come; one that begins has come to now."""
        with spoken():
            self._redis().set(self._last_key, _text(self._now()), nx=True)
            return datetime.fromisoformat(self._redis().get(self._last_key).decode())

    def restart(self) -> None:
        """Go on from now, whatever was due."""
        with spoken():
            self._redis().set(self._last_key, _text(self._now()))

    def _due(self, last: datetime, now: datetime) -> tuple[list[datetime], datetime]:
        """The ticks to append, a group at most, and the time that the schedule has come to with them."""
        missed = None if self._missed == "all" else self._times.latest(last, now - LATE)
        start = missed or last
        ticks = list(islice(takewhile(lambda time: time <= now, self._after(start)), _GROUP_SIZE))
        if not ticks and missed and self._missed == "last":
            ticks = [missed]
        return ticks, ticks[-1] if ticks else start

    def _after(self, time: datetime) -> Iterator[datetime]:
        while True:
            time = self._times.following(time)
            yield time

    def _advance(self, last: datetime, upto: datetime, ticks: list[datetime]) -> bool:
        written = chain.from_iterable((f"{self._stream}@{_text(tick)}", "{}", self._body(tick)) for tick in ticks)
        arguments = [_text(last), _text(upto), int(time.time() * 1000), *written]
        with spoken():
            return bool(evaluate(self._redis(), _ADVANCE, [self._stream, self._last_key], arguments))

    def _body(self, tick: datetime) -> str:
        return json.dumps({"time": _text(tick), "schedule": self._resource.key})

    def _warn(self, message: str, what: str) -> None:
        """Once for each thing."""
        if what != self._warned:
            self._warned = what
            logger.warning(message, self._resource.key, what)


def _text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat()
