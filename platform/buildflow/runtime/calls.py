"""One call of a handler: of whatever form it is, its answer is rows, and it ends within its timeout.

Three things stop a handler that hangs, each where the one before cannot:

    asyncio.timeout    an async handler that waits
    the alarm signal   synchronous code in the main thread (a pool child with `concurrency: 1`)
    the watchdog       whatever does not return to Python, or never lets another thread run: it ends the process

Synchronous code in a thread (`concurrency` above 1) cannot be stopped: its element fails, and the process is `spent`:
to be replaced as soon as it has reported.
"""

import asyncio
import contextlib
import faulthandler
import inspect
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from buildflow.errors import BuildflowError
from buildflow.interrupts import interrupt
from buildflow.primitives.base import flatten


class ElementTimeout(BuildflowError):
    """The handler took longer than its timeout."""


class Caller:
    """Calls one handler. `threads` above 1 runs synchronous ones in as many threads, async ones on the loop."""

    def __init__(self, function: Callable[..., Any], timeout: float | None, threads: int = 0) -> None:
        self.function = function
        self.timeout = timeout
        self.spent = False
        self._began: list[float] = []
        on_the_loop = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
        self._threads = ThreadPoolExecutor(threads) if threads > 1 and not on_the_loop else None

    async def __call__(self, arguments: dict[str, Any]) -> list[Any]:
        """The rows that the handler gives. Raises `ElementTimeout`, or what the handler raises."""
        with self._timed():
            if self._threads is not None:
                return await self._in_a_thread(arguments)
            with _alarm(self.timeout):
                returned = self.function(**arguments)
                if not inspect.isawaitable(returned) and not inspect.isasyncgen(returned):
                    return list(flatten(returned))
            return await self._awaited(returned)

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _in_a_thread(self, arguments: dict[str, Any]) -> list[Any]:
        def call() -> Any:
            returned = self.function(**arguments)
            if inspect.isawaitable(returned) or inspect.isasyncgen(returned):
                return returned
            return list(flatten(returned))

        running = asyncio.get_running_loop().run_in_executor(self._threads, call)
        done, _ = await asyncio.wait({running}, timeout=self.timeout)
        if not done:
            running.cancel()
            self.spent = True
            raise _too_slow(self.timeout)
        returned = running.result()
        return returned if isinstance(returned, list) else await self._awaited(returned)

    async def _awaited(self, returned: Any) -> list[Any]:
        try:
            async with asyncio.timeout(self.timeout) as limit:
                if inspect.isawaitable(returned):
                    returned = await returned
                if inspect.isasyncgen(returned):
                    return [row async for row in returned]
                return list(flatten(returned))
        except TimeoutError as exc:
            if not limit.expired():
                raise
            raise _too_slow(self.timeout) from exc

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        """Notes when a call that has a timeout began."""
        if self.timeout is None:
            yield
            return
        began = time.monotonic()
        self._began.append(began)
        try:
            yield
        finally:
            self._began.remove(began)

    def overdue(self, now: float) -> float:
        """Seconds by which the oldest call under way has passed its timeout; negative while none has."""
        began = min(self._began, default=None)
        return -math.inf if began is None or self.timeout is None else now - began - self.timeout


class Watchdog(threading.Thread):
    """Ends this process when a call goes on for `GRACE` after its timeout, whatever holds it up.

    This thread looks every second. Behind it stands a thread in C, which it puts off each time: when this one is
    kept from running, because the interpreter's lock is held for ever, that one ends the process.
    """

    GRACE = 10.0
    LOOK = 1.0

    def __init__(self, callers: Sequence[Caller]) -> None:
        super().__init__(name="watchdog", daemon=True)
        self.callers = [caller for caller in callers if caller.timeout is not None]
        self.longest = max((caller.timeout or 0.0 for caller in self.callers), default=0.0)

    def run(self) -> None:
        while self.callers:
            faulthandler.dump_traceback_later(self.longest + self.GRACE + self.LOOK, exit=True, file=2)
            now = time.monotonic()
            if max(caller.overdue(now) for caller in self.callers) > self.GRACE:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(self.LOOK)


@contextlib.contextmanager
def _alarm(seconds: float | None) -> Iterator[None]:
    """Stops synchronous code after `seconds` by the alarm signal: the pool child's main thread runs it."""
    if seconds is None or not _in_main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        interrupt(_too_slow(seconds))

    previous = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _too_slow(seconds: float | None) -> ElementTimeout:
    return ElementTimeout(f"stopped after its timeout of {seconds:g} s")


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
