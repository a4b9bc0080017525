"""Group commit: what many requests wait for is stored together, and each learns its own outcome.

One thread a sink commits whatever has queued while its last commit ran. It lives as long as there is something to
do.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from buildflow.errors import InvalidRow, ServiceUnavailable
from buildflow.primitives.base import Entry, Sink

MOST_ROWS, MOST_BYTES = 10_000, 64_000_000
"""What waits for one sink or is being committed, at most; an entry that is larger than that waits alone."""
LINGER = 0.5
"""How long a commit waits for more, at most: times what the last one took."""
TRANSACTIONAL = "effectively once"
"""The guarantee of a sink that writes all or nothing, and takes entries without an id, which leave no mark."""
IDLE = 1.0
"""Seconds for which the thread waits for more before it ends."""


class CommitterFull(ServiceUnavailable):
    """More rows wait for the sink than are kept waiting."""


class RowsRefused(InvalidRow):
    """Rows that the sink does not take, each by its number."""

    def __init__(self, rows: Sequence[tuple[int, InvalidRow]]) -> None:
        super().__init__("; ".join(str(reason) for _, reason in rows))
        self.rows = rows


@dataclass(eq=False, slots=True)
class _Waiting:
    """One request's rows."""

    writer: str
    entry: Entry
    size: int
    future: "asyncio.Future[None]"
    failure: BaseException | None = None


class Committer:
    """The way of one process's requests to one sink. Safe in threads and in several event loops."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.transactional = getattr(sink, "guarantee", "") == TRANSACTIONAL
        self.message_ids: Callable[[str, Entry], Sequence[str]] | None = getattr(sink, "message_ids", None)
        """Of a sink that sends messages: the ids under which it sends an entry's rows."""
        self._rows = self._bytes = 0
        self._waiting: list[_Waiting] = []
        self._thread: threading.Thread | None = None
        self._expected = 1
        self._linger = 0.0
        self._closing = False
        self._changed = threading.Condition()

    async def commit(self, writer: str, entry: Entry, size: int) -> None:
        """Returns when the entry, of `size` bytes, is durable.

        Raises `CommitterFull` at once, `RowsRefused` before anything is written, otherwise what the sink raises for
        this very entry. Whoever stops waiting may find it stored all the same.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        rows = len(entry.rows)
        with self._changed:
            if self._rows and (self._rows + rows > MOST_ROWS or self._bytes + size > MOST_BYTES):
                raise CommitterFull
            self._rows += rows
            self._bytes += size
            self._waiting.append(_Waiting(writer, entry, size, future))
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="collector", daemon=True)
                self._thread.start()
            elif len(self._waiting) in (1, self._expected):
                self._changed.notify()
        await future

    def close(self) -> None:
        """Commit what waits."""
        with self._changed:
            self._closing = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join()

    # the thread

    def _serve(self) -> None:
        while group := self._next_group():
            started = time.monotonic()
            try:
                self._store(group)
            except BaseException as exc:
                for one in group:
                    one.failure = one.failure or exc
            with self._changed:
                self._rows -= sum(len(one.entry.rows) for one in group)
                self._bytes -= sum(one.size for one in group)
                self._expected = len(group) + len(self._waiting)
                self._linger = (time.monotonic() - started) * LINGER
            _tell(group)

    def _next_group(self) -> list[_Waiting]:
        """What waits. As many as the last commit answered are expected back at once: without waiting for them, each
        commit would be followed by one of the few that came first."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing, IDLE)
            if 0 < len(self._waiting) < self._expected:
                self._changed.wait_for(lambda: len(self._waiting) >= self._expected or self._closing, self._linger)
            group, self._waiting = self._waiting, []
            if not group:
                self._thread = None
            return group

    def _store(self, group: Sequence[_Waiting]) -> None:
        by_writer: dict[str, list[_Waiting]] = {}
        for one in group:
            by_writer.setdefault(one.writer, []).append(one)
        for writer, mine in by_writer.items():
            if self.transactional or self.message_ids:
                self._store_checking_late(writer, mine)
            else:
                self._store_each(writer, self._checked(mine))

    def _store_checking_late(self, writer: str, group: Sequence[_Waiting]) -> None:
        """For a sink that writes nothing when it refuses a row. One by one, checking takes ten times as long as a
        commit's own check of all of them, so it waits until the sink has refused."""
        failure = self._commit(writer, group)
        if failure is None:
            return
        good = [] if isinstance(failure, ServiceUnavailable) else self._checked(group)
        if isinstance(failure, InvalidRow) or 0 < len(good) < len(group):
            self._store_each(writer, good)
        else:  # nobody's in particular; tried again, it might be written twice
            _blame(group, failure)

    def _store_each(self, writer: str, group: Sequence[_Waiting]) -> None:
        """All at once; when that fails, each alone, so that only the culprit fails. Where the sink cannot be reached
        nobody is tried again: each would wait as long."""
        failure = self._commit(writer, group) if group else None
        if failure is None:
            return
        if len(group) == 1 or isinstance(failure, ServiceUnavailable):
            _blame(group, failure)
            return
        for index, one in enumerate(group):
            one.failure = self._commit(writer, [one])
            if isinstance(one.failure, ServiceUnavailable):
                _blame(group[index:], one.failure)
                return

    def _commit(self, writer: str, group: Sequence[_Waiting]) -> Exception | None:
        try:
            self.sink.commit(writer, [one.entry for one in group])
        except Exception as exc:
            return exc
        return None

    def _checked(self, group: Sequence[_Waiting]) -> list[_Waiting]:
        """Those that the sink has nothing against."""
        for one in group:
            one.failure = self._refusal(one.entry)
        return [one for one in group if one.failure is None]

    def _refusal(self, entry: Entry) -> Exception | None:
        """What the sink has against these rows."""
        refused: list[tuple[int, InvalidRow]] = []
        for number, row in enumerate(entry.rows):
            try:
                self.sink.check(row)
            except InvalidRow as exc:
                refused.append((number, exc))
            except Exception as exc:
                return exc
        return RowsRefused(refused) if refused else None


def _blame(group: Iterable[_Waiting], failure: BaseException) -> None:
    for one in group:
        one.failure = failure


def _tell(group: Iterable[_Waiting]) -> None:
    """Wake the requests, with one call to each of their event loops."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Waiting]] = {}
    for one in group:
        by_loop.setdefault(one.future.get_loop(), []).append(one)
    for loop, mine in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle, mine)
        except RuntimeError:
            continue  # the loop has ended, and with it those who waited


def _settle(group: Iterable[_Waiting]) -> None:
    for one in group:
        if one.future.done():
            continue  # nobody waits any more
        if one.failure is None:
            one.future.set_result(None)
        else:
            one.future.set_exception(one.failure)
