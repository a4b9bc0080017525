"""Clients of a stack's Redis: patient ones, that ride out its restart, and words for when it stays away.

`import redis` costs 0.4 s and 30 MB, so nothing here imports it before a client is made.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from buildflow.errors import ServiceUnavailable

PATIENCE = 8.0
"""Seconds that a command waits for Redis to come (back) before it fails."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.4


def connect(url: str, revive: Callable[[], None] | None = None, **options: Any) -> Any:
    """A thread-safe `redis.Redis` to `url` (redis, rediss or unix). A command that meets a lost connection, a
    timeout or a server that is loading is repeated for `PATIENCE` seconds, with `revive` called in between.

    A repeated command may run twice when the reply got lost: what is sent here carries its own id, so that a
    second copy is recognised.
    """
    import redis

    settings: dict[str, Any] = {
        "protocol": 2,
        "decode_responses": False,
        "socket_timeout": 15.0,
        "socket_connect_timeout": 5.0,
        "health_check_interval": 30,
        "retry": _patience_type()(revive),
        "driver_info": None,  # two more commands for each connection otherwise, which Redis 6 refuses
        **options,
    }
    return redis.Redis.from_url(url, **settings)


@contextmanager
def spoken(what: str = "Redis") -> Iterator[None]:
    """Turn the client's connection errors into `ServiceUnavailable`."""
    try:
        yield
    except Exception as exc:
        import redis

        if isinstance(exc, redis.AuthenticationError):
            raise ServiceUnavailable(f"{what} refuses our password: {exc}") from exc
        if isinstance(exc, redis.InvalidResponse):
            hint = "look at the host and the port in `state_url`"
            raise ServiceUnavailable(f"what answers is no {what}: {exc}", hint=hint) from exc
        if isinstance(exc, redis.ConnectionError | redis.TimeoutError | OSError):
            raise ServiceUnavailable(f"{what} does not answer: {exc}") from exc
        raise


@cache
def _patience_type() -> type:
    from redis.backoff import NoBackoff
    from redis.exceptions import AuthenticationError
    from redis.retry import Retry

    class Patience(Retry):
        """Retries by time, not by number: redis-py nests a connection's retries in a command's, and numbers
        would multiply."""

        def __init__(self, revive: Callable[[], None] | None) -> None:
            super().__init__(NoBackoff(), 0)
            self._revive = revive

        def __deepcopy__(self, memo: object) -> "Patience":
            return Patience(self._revive)  # redis-py copies it for every connection

        def call_with_retry(
            self,
            do: Callable[[], Any],
            fail: Callable[..., Any],
            is_retryable: Callable[[Exception], bool] | None = None,
            with_failure_count: bool = False,
        ) -> Any:
            end = time.monotonic() + PATIENCE
            failures = 0
            while True:
                try:
                    return do()
                except self._supported_errors as error:
                    if isinstance(error, AuthenticationError) or (is_retryable and not is_retryable(error)):
                        raise
                    failures += 1
                    fail(*(error, failures) if with_failure_count else (error,))
                    if time.monotonic() > end:
                        raise
                    if self._revive:
                        self._revive()
                time.sleep(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**failures))

    return Patience
