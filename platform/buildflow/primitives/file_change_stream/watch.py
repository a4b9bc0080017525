"""The watch of one local bucket: finds what others than the bucket's handles put into it, changed or took.

Changes come from the operating system and, because that forgets under load and sees nothing while we are not
there, from a look at everything at the start and every 30 s. Either only makes a path pending. It counts once
its size and time have stayed the same for `SETTLE`; then the ledger decides whether it is news. So the watch
keeps nothing that it could lose: killed at any point, the next one finds what is missing and tells nothing
twice.

A gone bucket folder (an unmounted disk, say) does not mean that its objects were deleted: the watch waits for
it to come back and compares then. The same holds for folders in it that cannot be read.

Links are not objects and are not followed, but the operating system's watch does follow a link to a folder to
look for changes there, in vain: a link to a very large folder costs watches.
"""

import contextlib
import logging
import os
import stat
import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import redis
import watchfiles
from watchfiles._rust_notify import WatchfilesRustInternalError

from buildflow.errors import BuildflowError
from buildflow.ir.graph import Resource
from buildflow.primitives.bucket.folder import bucket_folder, sweep, walk
from buildflow.primitives.bucket.object_names import HIDDEN, is_object_name
from buildflow.primitives.file_change_stream.ledger import Ledger, bucket_of, creation, deletion, version
from buildflow.providers.base import LocalSession

logger = logging.getLogger(__name__)
# It reports every change as INFO; the gateway's and worker's own logs say what became of them.
logging.getLogger("watchfiles.main").setLevel(logging.WARNING)

SETTLE = 0.5
"""Seconds for which a file must stay the same before it counts as complete."""
RESCAN = 30.0
"""Seconds between two looks at everything; a large bucket is given ten times as long as one look takes."""
POLL = 2.0
"""The same, where the operating system does not watch for us."""
TICK = 0.25
BATCH = 500
LONGEST_PAUSE = 5.0


@dataclass(frozen=True, slots=True)
class Sighting:
    """A path as it was first seen in this state: its version, "" for gone, and when (monotonic)."""

    version: str
    since: float


class DirectoryWatch:
    """Tells one `file_change_stream` of its bucket's changes. One at a time suffices; two do no harm."""

    def __init__(self, resource: Resource, session: LocalSession) -> None:
        bucket = bucket_of(resource, session)
        self._name = bucket.name
        self._declared = bucket_folder(bucket, session)
        self._ledger = Ledger(resource, session)
        self._folder = ""
        self._identity: tuple[int, int] | None = None
        self._pending: dict[str, Sighting] = {}
        self._folders: set[str] = set()
        self._warned: set[str] = set()
        self._rescan_at = 0.0
        self._soonest = 0.0
        self._every = RESCAN
        self._retry_at = 0.0
        self._pause = 0.0

    def run(self, stop: threading.Event) -> None:
        """Watch until `stop` is set. Survives the loss of Redis and of the folder."""
        while not stop.is_set():
            self._folder = str(self._declared.resolve())
            self._identity = _identity(self._folder)
            if self._identity is None:
                self._warn("", "the bucket %s has no folder %s; waiting for it", self._name, self._declared)
                stop.wait(1.0)
                continue
            self._warned.discard("")
            self._rescan_at = self._soonest
            self._sweep()
            with contextlib.closing(self._changes(stop)) as changes:
                for paths in changes:
                    if not self._still_there():
                        self._pending.clear()
                        break
                    self._step(paths, stop)
            stop.wait(TICK)

    def _sweep(self) -> None:
        try:
            sweep(Path(self._folder))
        except OSError as error:  # not ours to change; it only takes up room
            self._warn("sweep", "unfinished writes in %s cannot be removed: %s", self._folder, error)

    def _still_there(self) -> bool:
        return str(self._declared.resolve()) == self._folder and _identity(self._folder) == self._identity

    def _changes(self, stop: threading.Event) -> Generator[set[str], None, None]:
        """Paths where something may have changed; an empty set after a tick without any."""
        try:
            for changes in watchfiles.watch(
                self._folder,
                watch_filter=None,
                debounce=200,
                step=50,
                stop_event=stop,
                rust_timeout=int(TICK * 1000),
                yield_on_timeout=True,
                ignore_permission_denied=True,
            ):
                yield {path for _, path in changes}
                if (watchfiles.Change.deleted, self._folder) in changes:
                    return  # there may be another one by now, even with the same inode
        except FileNotFoundError:
            return
        except WatchfilesRustInternalError as error:  # it gives up at a name that is not UTF-8
            self._warn(str(error), "the watch of %s begins anew: %s", self._folder, error)
            stop.wait(1.0)
        except OSError as error:  # more folders than the system lets us watch
            self._warn("watch", "%s cannot be watched (%s); looking every %g s instead", self._folder, error, POLL)
            self._every = POLL
            while not stop.wait(TICK):
                yield set()

    def _step(self, paths: set[str], stop: threading.Event) -> None:
        now = time.monotonic()
        for path in paths:
            self._look(os.path.relpath(path, self._folder), now)
        if now < self._retry_at:
            return
        try:
            if now >= self._rescan_at:
                self._rescan(now)
            ripe = [path for path, sighting in self._pending.items() if now - sighting.since >= SETTLE]
            for start in range(0, len(ripe), BATCH):
                if stop.is_set():
                    return
                self._commit(ripe[start : start + BATCH])
        except (redis.RedisError, BuildflowError, OSError) as error:
            self._back_off(error)
        else:
            if self._pause:
                logger.info("the stream %s of bucket %s is told of changes again", self._ledger.key, self._name)
                self._pause = 0.0

    def _back_off(self, error: Exception) -> None:
        """Keep what is pending and try again later; then look at everything: Redis may have forgotten."""
        if not self._pause:
            message = "the stream %s of bucket %s cannot be told of changes (%s); trying again until it can"
            logger.warning(message, self._ledger.key, self._name, error)
        self._pause = min(2 * self._pause or 0.5, LONGEST_PAUSE)
        self._retry_at = time.monotonic() + self._pause
        self._rescan_at = 0.0

    # looking

    def _look(self, path: str, now: float) -> None:
        """Something may have changed at `path`, a path from the folder."""
        if path == "." or HIDDEN in path.casefold().split("/"):
            return
        try:
            status = self._status(path)
        except OSError:  # unreadable; the next rescan says so
            return
        if status is None and path in self._folders:
            self._rescan_at = min(self._rescan_at, self._soonest)  # what was in it has gone without a word
        elif status is not None and stat.S_ISDIR(status.st_mode):
            for below, its in walk(self._folder, path, on_error=self._closed, on_folder=self._folders.add):
                self._see(below, version(its), now)
        else:
            self._see(path, _version(status), now)

    def _see(self, path: str, seen: str, now: float) -> None:
        if not is_object_name(path):
            self._warn(path, "%r in bucket %s is no object: its name is no object name", path, self._name)
        elif self._ledger.wants(path):
            before = self._pending.get(path)
            if before is None or before.version != seen:
                self._pending[path] = Sighting(seen, now)

    def _status(self, path: str) -> os.stat_result | None:
        """The file or folder at `path`, None when there is none or when a link leads there."""
        full = os.path.join(self._folder, path)
        parent = os.path.dirname(full)
        try:
            status = os.lstat(full)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return status if os.path.realpath(parent) == parent else None

    def _closed(self, path: str, error: OSError) -> None:
        self._warn(path, "%r in bucket %s cannot be read: %s", path, self._name, error)

    def _rescan(self, now: float) -> None:
        """Make every difference between the folder and the ledger pending."""
        began = time.monotonic()
        known = dict(self._ledger.entries())
        folders: set[str] = set()
        closed: list[str] = []

        def on_error(path: str, error: OSError) -> None:
            closed.append(path)
            self._closed(path, error)

        for path, status in walk(self._folder, on_error=on_error, on_folder=folders.add):
            seen = version(status)
            if not is_object_name(path) or (self._ledger.wants(path) and known.pop(path, "") != seen):
                self._see(path, seen, now)
        if not self._still_there():
            return
        self._ledger.forget([path for path in known if not self._ledger.wants(path)])
        for path in known:
            if not any(_below(path, folder) for folder in closed):
                self._see(path, "", now)
        self._folders = folders
        ended = time.monotonic()
        self._rescan_at = ended + max(self._every, 10 * (ended - began))
        self._soonest = ended + max(1.0, 10 * (ended - began))

    # telling

    def _commit(self, paths: Sequence[str]) -> None:
        """Tell the stream of those that are still as they were seen; see the others anew."""
        steady: dict[str, os.stat_result | None] = {}
        for path in paths:
            try:
                status = self._status(path)
            except OSError:  # out of sight, not deleted
                del self._pending[path]
                continue
            if _version(status) == self._pending[path].version:
                steady[path] = status
            else:
                self._pending[path] = Sighting(_version(status), time.monotonic())
        if not steady or not self._still_there():
            return
        known = dict(zip(steady, self._ledger.read(list(steady)), strict=True))
        changes = [
            creation(path, status, known[path]) if status and _version(status) else deletion(path, known[path])
            for path, status in steady.items()
            if known[path] != _version(status)
        ]
        made = self._ledger.commit(changes) if changes else []
        refused = {change.path for change, was in zip(changes, made, strict=True) if not was}
        for path in steady:
            if path in refused:  # a handle was quicker: look once more
                self._pending[path] = Sighting(self._pending[path].version, time.monotonic())
            else:
                del self._pending[path]

    def _warn(self, about: str, message: str, *values: object) -> None:
        """Once for each thing."""
        if about not in self._warned:
            self._warned.add(about)
            logger.warning(message, *values)


def _identity(folder: str) -> tuple[int, int] | None:
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else None


def _version(status: os.stat_result | None) -> str:
    """The version of an object, "" for what is none."""
    return version(status) if status is not None and stat.S_ISREG(status.st_mode) else ""


def _below(path: str, folder: str) -> bool:
    return not folder or path == folder or path.startswith(f"{folder}/")
