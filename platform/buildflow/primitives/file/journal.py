"""Journals: groups of rows on disk, each there as a whole or not at all, until a file is made of them.

A journal is a series of frames: a line with the length and the CRC-32 of what follows, then that many bytes. The
first frame says what becomes of the journal; every other one is a commit. What is torn at the end, by a crash
or a full disk, was never committed.

Who writes a journal holds its lock. One that nobody holds is ready to be published, whether it was let go or
its process died: `take` gives it to one process at a time.
"""

import contextlib
import fcntl
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

from buildflow.primitives.bucket.folder import fsync_folder
from buildflow.primitives.table.duckdb_locks import FileLock

_SUFFIX = ".journal"


class Journal:
    """One that this process holds."""

    def __init__(self, path: Path, lock: FileLock, about: Mapping[str, Any]) -> None:
        self.path = path
        self.about = about
        self.size = 0
        """Bytes of the rows that this process put in."""
        self._lock = lock
        self._file: FileIO | None = None

    @property
    def id(self) -> str:
        return self.path.name.removesuffix(_SUFFIX)

    def append(self, data: bytes) -> None:
        """Commit: on disk when this returns. After an `OSError` nothing of it is there, and nothing more may be
        appended."""
        new = self._file is None
        if self._file is None:
            self._file = FileIO(self.path, "ab")
        frames = (_frame(json.dumps(self.about).encode()) if new else b"") + _frame(data)
        file = self._file.fileno()
        status = os.fstat(file)
        if not status.st_nlink:
            raise FileNotFoundError(f"{self.path} was deleted")
        try:
            _write(file, frames)
            os.fsync(file)
            if new:
                fsync_folder(self.path.parent)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(file, status.st_size)
            raise
        self.size += len(data)

    def copy_rows(self, target: Path) -> int:
        """Write all rows to `target`, a line each; the size of the largest commit."""
        largest = 0
        with open(self.path, "rb") as source, open(target, "wb") as file:
            frames = _frames(source)
            next(frames)
            for data in frames:
                file.write(data)
                largest = max(largest, len(data))
        return largest

    def close(self) -> None:
        """Let it go: whoever takes it next publishes it."""
        if self._file is not None:
            self._file.close()
        self._lock.release()


class Journals:
    """The folder of a primitive's journals. Its own lock is held while one appears, is taken or goes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, id: str, about: Mapping[str, Any]) -> Journal:
        """A new one, which is not on disk before its first commit."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{id}{_SUFFIX}"
        with self._locked():
            return Journal(path, FileLock(path, fcntl.LOCK_EX), about)

    def take(self) -> Iterator[Journal]:
        """The journals that nobody holds, the oldest first; empty ones are removed on the way."""
        for path in self.paths():
            with self._locked():
                journal = _take(path)
            if journal is not None:
                yield journal

    def paths(self) -> list[Path]:
        return sorted(self.folder.glob(f"*{_SUFFIX}"))

    def remove(self, journal: Journal) -> None:
        with self._locked():
            journal.path.unlink(missing_ok=True)
            fsync_folder(self.folder)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        lock = FileLock(self.folder / "lock", fcntl.LOCK_EX)
        try:
            yield
        finally:
            lock.release()


def _take(path: Path) -> Journal | None:
    if not path.exists():
        return None
    try:
        lock = FileLock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    with open(path, "rb") as file:
        frames = _frames(file)
        about = next(frames, None)
        committed = next(frames, None) is not None
    if about is None or not committed:
        path.unlink()
        lock.release()
        return None
    return Journal(path, lock, json.loads(about))


def _frame(data: bytes) -> bytes:
    return b"%x %x\n%b" % (len(data), zlib.crc32(data), data)


def _frames(file: BinaryIO) -> Iterator[bytes]:
    """The whole frames from the beginning on."""
    while line := file.readline(64):
        try:
            length, checksum = (int(part, 16) for part in line.split())
        except ValueError:
            return
        data = file.read(length)
        if not line.endswith(b"\n") or len(data) < length or zlib.crc32(data) != checksum:
            return
        yield data


def _write(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]
