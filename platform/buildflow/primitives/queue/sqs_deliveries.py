"""What SQS does not remember of a message between two deliveries, in the stack's Redis.

SQS counts how often a message was received, and nothing else. Noted when one is given back: up to which delivery it
was, how many of them were no attempts, whether it is to come alone, and until when it waits. A message that comes
again without such a note, or with an older one, was in the hands of a process that died. A first delivery needs no
note. Notes end with what they are about: SQS keeps no message for longer than 14 days.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from buildflow.providers.redis_client import spoken

_KEEP_SECONDS = 14 * 86_400


@dataclass(frozen=True, slots=True)
class Note:
    """After so many deliveries, of which so many were `uncounted`, a message was given back."""

    deliveries: int = 0
    uncounted: int = 0
    alone: bool = False


class Deliveries:
    """The notes of one queue. Thread-safe, also after a fork; `redis` is asked at each use."""

    def __init__(self, redis: Callable[[], Any], key: str) -> None:
        self.redis = redis
        self.key = key
        self._delayed = f"{key}:delayed"

    def check(self) -> None:
        """Raise `ServiceUnavailable` where notes can be neither read nor written."""
        with spoken():
            self.redis().ping()

    def read(self, messages: Sequence[str]) -> list[Note]:
        with spoken():
            found = self.redis().mget([self._of(message) for message in messages]) if messages else []
        return [Note(*json.loads(packed)) if packed else Note() for packed in found]

    def write(self, message: str, note: Note, delay: float = 0.0) -> None:
        packed = json.dumps([note.deliveries, note.uncounted, note.alone])
        with spoken(), self.redis().pipeline(transaction=True) as pipe:
            pipe.set(self._of(message), packed, ex=_KEEP_SECONDS)
            if delay > 0:
                pipe.zadd(self._delayed, {message: time.time() + delay})
                pipe.expire(self._delayed, _KEEP_SECONDS)
            else:
                pipe.zrem(self._delayed, message)
            pipe.execute()

    def forget(self, messages: Sequence[str]) -> None:
        with spoken(), self.redis().pipeline(transaction=True) as pipe:
            pipe.delete(*(self._of(message) for message in messages))
            pipe.zrem(self._delayed, *messages)
            pipe.execute()

    def delayed(self) -> int:
        """How many messages wait for their next attempt: SQS counts them among those in flight."""
        with spoken(), self.redis().pipeline(transaction=True) as pipe:
            pipe.zremrangebyscore(self._delayed, "-inf", time.time())
            pipe.zcard(self._delayed)
            return int(pipe.execute()[1])

    def _of(self, message: str) -> str:
        return f"{self.key}:{message}"
