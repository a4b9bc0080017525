"""Who may open a DuckDB file now, across processes: two advisory locks on side files.

Both readers and writers pass a *turn* (exclusive, held only while queueing) and then take the *store*, shared
or exclusive. A writer that waits for the store holds the turn, so new readers stand behind it; a writer that
got the store gives the turn on at once, so whoever waited is next and a busy writer queues again like anyone
else. Nobody polls, and the kernel releases the locks of a process that dies.
"""

import contextlib
import fcntl
import os
import threading
import weakref
from pathlib import Path


class FileLock:
    """A held lock on one side file: taken when made, given back by `release` or by losing its last reference.

    Every holder opens the file anew, because a lock belongs to the opening: so threads exclude each other
    exactly as processes do.
    """

    def __init__(self, path: Path, mode: int) -> None:
        self._descriptor = -1
        with _opening:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
            _held.add(self)
        fcntl.flock(self._descriptor, mode)

    def release(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            # a child that forked meanwhile may still have the opening: unlock, do not only close
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def abandon(self) -> None:
        """Forget a lock that belongs to the parent of this forked process, without releasing it there."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.release()


class StoreLocks:
    """The turn and the store of one DuckDB file, as hidden files beside it that are never deleted."""

    def __init__(self, path: Path) -> None:
        self._turn = path.with_name(f".{path.name}.turn")
        self._store = path.with_name(f".{path.name}.store")

    def shared(self) -> FileLock:
        """Wait until no process writes; others may read too."""
        return self._enter(fcntl.LOCK_SH)

    def exclusive(self) -> FileLock:
        """Wait until no process reads or writes; those who come later wait behind."""
        return self._enter(fcntl.LOCK_EX)

    def _enter(self, mode: int) -> FileLock:
        turn = FileLock(self._turn, fcntl.LOCK_EX)
        try:
            return FileLock(self._store, mode)
        finally:
            turn.release()


_held: "weakref.WeakSet[FileLock]" = weakref.WeakSet()
_opening = threading.Lock()
"""Held while a lock file is opened, and through a fork: so the child knows every descriptor it inherits."""


def _in_child() -> None:
    global _opening
    _opening = threading.Lock()
    for lock in list(_held):
        lock.abandon()
    _held.clear()


os.register_at_fork(
    before=lambda: _opening.acquire() and None,
    after_in_parent=lambda: _opening.release(),
    after_in_child=_in_child,
)
