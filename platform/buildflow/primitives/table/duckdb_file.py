"""One DuckDB file that many processes and threads share: brief reads, and writes in groups.

Each process keeps one in-memory DuckDB instance a file and attaches the file to it only while it reads or
writes: attaching takes 1 ms where opening a connection of its own takes 20. `StoreLocks` decides who may
attach. Writes of all threads queue to one thread that lives as long as there is something to write and
commits what has queued in one transaction. Before it lets go of the file it checkpoints, under a
`RollbackJournal`; DuckDB never does of itself.
"""

import atexit
import contextlib
import ctypes
import itertools
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from buildflow.errors import ResourceFailed, ServiceUnavailable
from buildflow.interrupts import whole
from buildflow.primitives.table.duckdb_locks import FileLock, StoreLocks
from buildflow.primitives.table.duckdb_rollback import RollbackJournal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Connection
else:
    Connection = Any

T = TypeVar("T")
P = TypeVar("P")

HOLD = 0.1
"""Seconds for which a writer keeps the file while jobs queue. The longest wait of a reader elsewhere is about
this; with 0.1 re-attaching (5 ms) costs a busy writer 5 %."""
LINGER = 0.005
"""Seconds for which a writer waits for one more job before it lets go: re-attaching would cost as much."""
PATIENCE = 10.0
"""Seconds for which a program that does not know our locks (the duckdb shell) may keep the file."""
RENEW = 250
"""Attachments after which an instance is replaced: it keeps some of each for good (10 kB of one that
wrote 1,000 rows). A new one takes 20 ms."""
ROW_GROUP = 30_720
"""Rows that are compressed together, a quarter of DuckDB's own choice. Whenever the file is let go, groups that are
not full are merged, three at a time: what that takes of memory and of time grows with their size."""
CATALOG = "_file"
"""The attached file's name inside the instance: one that no schema has, or `schema.table` were ambiguous."""

_NO_CHECKPOINTS = (
    "PRAGMA disable_checkpoint_on_shutdown",
    "SET GLOBAL checkpoint_threshold = '1TB'",
)
"""Of DuckDB's own accord: neither when it closes a file nor for the size of the log."""

log = logging.getLogger("buildflow.duckdb")

_CONFLICT = re.compile(r"Could not set lock on file|is already attached by database")
_HOLDER = re.compile(r"held in (?P<program>.+?) \(PID (?P<pid>\d+)\)")


@dataclass(eq=False)
class _Job:
    """One caller's write. Jobs with the same `key` in a group run as one call with all their payloads."""

    key: Hashable
    run: Callable[[Connection, Sequence[Any]], Sequence[Any]]
    payload: Any
    future: "Future[Any]" = field(default_factory=Future)
    taken: bool = False

    def take(self) -> bool:
        """Whether it is to run: not when its caller has stopped waiting before it began."""
        self.taken = self.taken or self.future.set_running_or_notify_cancel()
        return self.taken


class DuckDBFile:
    """One file in this process. Get it from `database`, at every use: a forked child has its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pid = os.getpid()
        self._locks = StoreLocks(path)
        self._journal = RollbackJournal(path)
        self._instance: Connection | None = None
        self._attachments = 0
        self._attached = ""  # "", "read", "write" (cursors may be lent) or "closing" (they may not)
        self._cursors = 0
        self._writer: Connection | None = None
        self._broken = False
        self._trouble = ""
        """What was told of the last checkpoint that failed."""
        self._queue: list[_Job] = []
        self._jobs = threading.Condition(_lock)
        self._thread: threading.Thread | None = None

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees what is committed; read briefly, for writers wait.

        It may belong to an instance that writes: begin a read-only transaction before running foreign SQL.
        A timeout waits until the read has ended: broken off half-way, it would keep its lock.
        Raises `ResourceFailed` when there is no file, `ServiceUnavailable` when another program keeps it.
        """
        with whole():
            outer = getattr(_here, "reading", {}).get(self.path)
            if outer is not None:  # a second lock in one thread would wait behind a writer that waits for the first
                with contextlib.closing(self._use(outer.cursor())) as inner:
                    yield inner
                return
            self._require_file()
            lock: FileLock | None = None
            cursor = self._borrow()
            if cursor is None:
                lock, cursor = self._enter(self._locks.shared, self._attach_reader)
            try:
                with _inside(self.path, cursor):
                    yield cursor
            finally:
                self._give_back(cursor, lock)

    def write(self, work: Callable[[Connection], T], *, create: bool = False) -> T:
        """Run `work` in a transaction; its result, once that is durable.

        `work` may share its transaction with other callers' and may run twice: when a group fails, each of
        it runs again alone, so that only the culprit gets its exception. `create` makes the file if needed.
        """
        return self._submit(_Job(object(), lambda c, _: [work(c)], None), create=create)  # type: ignore[no-any-return]

    def write_together(self, key: Hashable, run: Callable[[Connection, Sequence[P]], Sequence[T]], payload: P) -> T:
        """Like `write`, but payloads of equal `key` that queue at once are given to one call of `run`, which
        answers with a result for each."""
        return self._submit(_Job(key, run, payload))  # type: ignore[no-any-return]

    @whole()
    def _submit(self, job: _Job, *, create: bool = False) -> Any:
        if self.path in getattr(_here, "reading", {}):
            raise RuntimeError(f"a write to {self.path} inside a read of it would wait for itself")
        if create:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        else:
            self._require_file()
        with _lock:
            self._queue.append(job)
            self._jobs.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name=f"write {self.path.name}", daemon=True)
                self._thread.start()
        try:
            return job.future.result()
        except BaseException:
            job.future.cancel()  # an interrupted caller's job is dropped if it has not begun
            raise

    def _require_file(self) -> None:
        if not self.path.exists():
            raise ResourceFailed(f"{self.path} does not exist", hint="run: platform apply")

    # The instance, and the file in it. All state is guarded by the module's lock.

    def _root(self) -> Connection:
        if self._instance is None:
            import duckdb

            self._instance = duckdb.connect(":memory:", config={"temp_directory": f"{self.path}.tmp"})
            self._instance.execute("SET GLOBAL TimeZone = 'UTC'")
            for statement in _NO_CHECKPOINTS:
                self._instance.execute(statement)
        return self._instance

    def _attach(self, options: str) -> None:
        location = str(self.path).replace("'", "''")
        self._root().execute(f"ATTACH '{location}' AS {CATALOG} {options}")
        self._attachments += 1

    def _detach(self) -> None:
        if self._instance is not None:
            self._instance.execute(f"DETACH {CATALOG}")
            if self._attachments >= RENEW:
                self._close()

    def _close(self) -> None:
        """Close the instance; the next use makes another."""
        if self._instance is not None:
            self._instance.close()
        self._instance, self._broken, self._attachments = None, False, 0

    @staticmethod
    def _use(cursor: Connection) -> Connection:
        cursor.execute(f"USE {CATALOG}")
        return cursor

    def _enter(self, lock: Callable[[], FileLock], attach: Callable[[], Connection]) -> tuple[FileLock, Connection]:
        """Take the lock, attach the file. Lets go and tries again while a foreign program has the file."""
        deadline = time.monotonic() + PATIENCE
        for attempt in itertools.count():
            try:
                while True:
                    held = lock()
                    try:
                        if not self._journal.hot():
                            return held, self._attempt(attach)
                    except BaseException:
                        held.release()
                        raise
                    held.release()
                    self._restore()
            except _KeptByAnother as exc:
                if time.monotonic() > deadline:
                    raise _kept_by_another(self.path, exc) from exc
            except OSError as exc:
                raise ServiceUnavailable(f"{self.path} cannot be opened: {exc}") from exc
            time.sleep(min(0.5, 0.02 * 2**attempt))
        raise AssertionError("unreachable")

    def _attempt(self, attach: Callable[[], Connection]) -> Connection:
        import duckdb

        try:
            return attach()
        except duckdb.Error as exc:
            if _CONFLICT.search(str(exc)):
                raise _KeptByAnother(str(exc)) from exc
            raise ResourceFailed(f"{self.path} cannot be opened: {_first_line(exc)}") from exc

    def _restore(self) -> None:
        """Put back what a process has overwritten that died in its checkpoint."""
        held = self._locks.exclusive()
        try:
            self._journal.roll_back()
        except BlockingIOError as exc:
            raise _KeptByAnother("held by another program") from exc
        finally:
            held.release()

    def _attach_reader(self) -> Connection:
        with _lock:
            _changed.wait_for(lambda: not _paused)
            if not self._cursors:
                self._attach("(READ_ONLY)")
                self._attached = "read"
            cursor = self._use(self._root().cursor())
            self._cursors += 1
            return cursor

    def _borrow(self) -> Connection | None:
        """A cursor of the writer's instance while this process writes: it sees committed rows only."""
        with _lock:
            if self._attached != "write":
                return None
            cursor = self._use(self._root().cursor())
            self._cursors += 1
            return cursor

    def _give_back(self, cursor: Connection, lock: FileLock | None) -> None:
        if self._pid != os.getpid():  # forked inside the read: all of this is the parent's
            return
        with contextlib.ExitStack() as stack:
            if lock is not None:
                stack.callback(lock.release)
            cursor.close()
            with _lock:
                self._cursors -= 1
                if not self._cursors and self._attached == "read":
                    self._attached = ""
                    self._detach()
                _changed.notify_all()

    def _attach_writer(self) -> Connection:
        with _lock:
            _changed.wait_for(lambda: not _paused)
            self._attached = "closing"
            try:
                self._attach(f"(ROW_GROUP_SIZE {ROW_GROUP})")
                cursor = self._use(self._root().cursor())
            except BaseException:
                self._attached = ""
                raise
            self._attached = "write"
            return cursor

    def _detach_writer(self, cursor: Connection) -> None:
        """A checkpoint that fails is nobody's failure: all that was committed is in DuckDB's log, and stays there."""
        import duckdb

        with _lock:
            self._attached = "closing"
            _changed.wait_for(lambda: not self._cursors)
        trouble = ""
        try:
            self._checkpoint_and_detach(cursor)
        except (OSError, duckdb.Error) as exc:
            trouble = _first_line(exc)
            if trouble != self._trouble:
                log.warning("%s is not checkpointed, its log grows: %s", self.path, trouble)
            self._close()
        finally:
            self._trouble = trouble
            with _lock:
                self._attached = ""
                _changed.notify_all()

    def _checkpoint_and_detach(self, cursor: Connection) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(self._detach_or_close, cursor)
            if self._broken or not self.path.with_name(f"{self.path.name}.wal").exists():
                return
            self._broken = True  # until all of this has gone well
            shared = f"SELECT block_id FROM pragma_metadata_info('{CATALOG}') WHERE free_blocks > 0"
            blocks = [block for (block,) in cursor.execute(shared).fetchall()]
            with self._journal.keeping(blocks), stack.pop_all():
                cursor.execute(f"CHECKPOINT {CATALOG}")
                self._broken = False

    def _detach_or_close(self, cursor: Connection) -> None:
        cursor.close()
        if self._broken:
            self._close()
        else:
            self._detach()

    # The writer's thread: from the first job until nothing queues.

    def _serve(self) -> None:
        while True:
            try:
                self._hold()
            except BaseException as exc:  # noqa: BLE001 - the callers wait for it
                self._fail_all(exc)
            with _lock:
                if not self._queue:
                    self._thread = None
                    return

    def _hold(self) -> None:
        """Have the file once, for `HOLD` seconds at most, and run the groups that queue meanwhile."""
        lock, cursor = self._enter(self._locks.exclusive, self._attach_writer)
        try:
            self._writer = cursor
            until = time.monotonic() + HOLD
            with _inside(self.path, cursor):
                while not self._broken and (group := self._next_group(until)):
                    self._run(group)
        finally:
            self._writer = None
            try:
                self._detach_writer(cursor)
            finally:
                lock.release()

    def _next_group(self, until: float) -> list[_Job]:
        with _lock:
            left = until - time.monotonic()
            if not self._queue and left > 0:
                self._jobs.wait_for(lambda: self._queue or _paused, min(LINGER, left))
            if _paused or until < time.monotonic():
                return []
            group, self._queue = self._queue, []
        return group

    def _run(self, group: list[_Job]) -> None:
        group = [job for job in group if job.take()]
        try:
            results = self._transact(group)
        except BaseException as exc:  # noqa: BLE001 - goes to the caller, or every job is tried alone
            if len(group) == 1:
                group[0].future.set_exception(exc)
                return
        else:
            for job, result in results:
                job.future.set_result(result)
            return
        for index, job in enumerate(group):
            if self._broken:
                with _lock:
                    self._queue[:0] = group[index:]
                return
            self._run([job])

    def _transact(self, group: list[_Job]) -> list[tuple[_Job, Any]]:
        """All jobs in one transaction, or none."""
        if not group:
            return []
        assert self._writer is not None
        together: dict[Hashable, list[_Job]] = {}
        for job in group:
            together.setdefault(job.key, []).append(job)
        results: list[tuple[_Job, Any]] = []
        try:
            self._writer.execute("BEGIN")
            for jobs in together.values():
                results += zip(jobs, jobs[0].run(self._writer, [j.payload for j in jobs]), strict=True)
            self._writer.execute("COMMIT")
        except BaseException:
            self._roll_back(self._writer)
            raise
        return results

    def _roll_back(self, cursor: Connection) -> None:
        import duckdb

        try:
            cursor.execute("ROLLBACK")
        except duckdb.Error:  # a failed COMMIT, or an instance that declared itself invalid: start with a new one
            self._broken = True

    def _fail_all(self, exc: BaseException) -> None:
        with _lock:
            jobs, self._queue = self._queue, []
        for job in jobs:
            if job.take():
                job.future.set_exception(exc)

    def close_idle(self) -> None:
        """Close the instance if nothing is attached to it. Needs the lock."""
        if not self._attached:
            self._close()

    def leave_to_parent(self) -> None:
        """In a forked child: never run the destructors of the parent's instance, which would checkpoint its
        file and join threads that do not exist here."""
        for thing in (self._instance, self._writer):
            if thing is not None:
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


@whole()
def database(path: Path) -> DuckDBFile:
    """This process's `DuckDBFile` for `path`. Refuses what was open here when this process was forked: DuckDB
    believes for ever that it still is."""
    key = os.path.realpath(path)
    with _lock:
        if key in _inherited:
            raise ServiceUnavailable(f"{path} was being read or written where this process was forked")
        if key not in _files:
            _files[key] = DuckDBFile(Path(key))
        return _files[key]


@contextmanager
def _inside(path: Path, cursor: Connection) -> Iterator[None]:
    """Notes that this thread has `path` open."""
    reading: dict[Path, Connection] = _here.__dict__.setdefault("reading", {})
    reading[path] = cursor
    try:
        yield
    finally:
        del reading[path]


class _KeptByAnother(Exception):
    """A program that does not know our locks has the file, in the words of whoever noticed."""


def _first_line(exc: Exception) -> str:
    return str(exc).split("\n", 1)[0]


def _kept_by_another(path: Path, exc: Exception) -> ServiceUnavailable:
    holder = _HOLDER.search(str(exc))
    here = "other code of this process" if "already attached" in str(exc) else "another program"
    who = f"{holder['program']} (process {holder['pid']})" if holder else here
    return ServiceUnavailable(
        f"{path} is kept open by {who}",
        hint="close it there; `platform query` and table handles take turns with the app",
    )


# Forks and exits. A fork waits until this process has no file attached, so the child inherits none, and its
# own instance starts clean; the module's lock is held through it, so no state is caught half changed.

_lock = threading.Lock()
_changed = threading.Condition(_lock)
_paused = False
_files: dict[str, DuckDBFile] = {}
_inherited: frozenset[str] = frozenset()
_here = threading.local()


def _pause(seconds: float = PATIENCE) -> None:
    """Take the lock and wait until nothing is attached, unless this very thread has something open."""
    global _paused
    _lock.acquire()
    _paused = True
    for file in _files.values():
        file._jobs.notify_all()
    if not getattr(_here, "reading", None):
        _changed.wait_for(lambda: not any(file._attached for file in _files.values()), seconds)


def _resume() -> None:
    global _paused
    _paused = False
    _changed.notify_all()
    _lock.release()


def _start_afresh() -> None:
    global _lock, _changed, _paused, _files, _inherited, _here
    _inherited |= {key for key, file in _files.items() if file._attached}
    for file in _files.values():
        file.leave_to_parent()
    _lock = threading.Lock()
    _changed = threading.Condition(_lock)
    _paused = False
    _files = {}
    _here = threading.local()


def _at_exit() -> None:
    """Let a running commit end: a thread that returns from DuckDB into a finished interpreter aborts it. And
    close what is idle, of which DuckDB 2.0 would complain on stderr."""
    _pause(seconds=2.0)
    writers = [file._thread for file in _files.values() if file._thread is not None]
    _resume()
    for writer in writers:  # one that has let go of the file still holds its cursor until it returns
        writer.join(timeout=2.0)
    with _lock:
        for file in _files.values():
            file.close_idle()


os.register_at_fork(before=_pause, after_in_parent=_resume, after_in_child=_start_afresh)
atexit.register(_at_exit)
