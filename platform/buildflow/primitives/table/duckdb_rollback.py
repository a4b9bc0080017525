"""A rollback journal for a DuckDB file, as SQLite has one: what a checkpoint overwrites can be put back.

DuckDB's checkpoint writes rows to blocks that nothing uses, and its header last, but its metadata shares blocks of
256 KiB with the metadata of before. A process that dies while it writes one of those leaves a file that nothing can
read any more. So they are copied to a side file first. As long as DuckDB's header is the one of before, the copies
are what belongs to it; the rows that were committed since are in its write-ahead log.
"""

import errno
import fcntl
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from buildflow.primitives.bucket.folder import fsync_folder

_HEADERS = 3 * 4096
"""Bytes before the first block: what the file is, and two headers that checkpoints write in turn."""
_SIZE = struct.Struct("<Q")
_SIZE_AT = 4096 + 40
"""Where the first of the two headers says how large a block is. Source: `DatabaseHeader` in DuckDB."""
_DEFAULT_SIZE = 1 << 18
"""What a size of zero means, as older versions have it."""
_MAGIC = b"rollback"
_START = struct.Struct("<8sIIQ")
"""Magic (or zeros: nothing to put back), checksum of the rest, how many blocks, the size of one. Then the headers,
the numbers of the blocks, the blocks."""

_sync = getattr(os, "fdatasync", os.fsync)


class RollbackJournal:
    """The journal of one DuckDB file, `.<name>.rollback` beside it, which is never deleted. Whoever uses it has the
    store's exclusive lock; `hot` needs the shared one only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._journal = path.with_name(f".{path.name}.rollback")

    @contextmanager
    def keeping(self, blocks: Sequence[int]) -> Iterator[None]:
        """Around a checkpoint that may overwrite these blocks, by number. When it fails, the journal stays hot.

        The file is open here until then. Leave this only when DuckDB has closed it too: with any closing of a file
        a process loses all its POSIX locks on it, and DuckDB's is what keeps out programs that do not know ours.
        """
        file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._save(file, blocks)
            yield
        finally:
            os.close(file)
        self._clear()

    def hot(self) -> bool:
        """Whether a checkpoint was begun and not ended: nobody may read the file before `roll_back`."""
        try:
            journal = os.open(self._journal, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return os.pread(journal, len(_MAGIC), 0) == _MAGIC
        finally:
            os.close(journal)

    def roll_back(self) -> None:
        """Put back what an unfinished checkpoint has overwritten; nothing, where it had written its header.

        Raises `BlockingIOError` while another program has the file open.
        """
        if self._path.exists():
            journal = os.open(self._journal, os.O_RDONLY | os.O_CLOEXEC)
            file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as DuckDB does
                if self._is_whole(journal) and os.pread(file, _HEADERS, 0) == _read(journal, _HEADERS, _START.size):
                    for at, size, place in self._blocks(journal):
                        _write(file, _read(journal, size, place), at)
                    _sync(file)
            finally:
                os.close(file)
                os.close(journal)
        self._clear()

    def _save(self, file: int, blocks: Sequence[int]) -> None:
        headers = _read(file, _HEADERS, 0)
        (size,) = _SIZE.unpack_from(headers, _SIZE_AT)
        size = size or _DEFAULT_SIZE
        new = not self._journal.exists()
        journal = os.open(self._journal, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            if new:
                os.fchmod(journal, os.fstat(file).st_mode & 0o777)  # whoever may write the one writes the other
            checksum, at = 0, _START.size
            numbers = struct.pack(f"<{len(blocks)}Q", *blocks)
            for part in chain([headers, numbers], (_read(file, size, _HEADERS + n * size) for n in blocks)):
                _write(journal, part, at)
                checksum, at = zlib.crc32(part, checksum), at + len(part)
            _write(journal, _START.pack(_MAGIC, checksum, len(blocks), size), 0)
            _sync(journal)
        finally:
            os.close(journal)
        if new:
            fsync_folder(self._journal.parent)

    def _is_whole(self, journal: int) -> bool:
        """Whether it was written to its end: if not, its checkpoint had not begun."""
        start = os.pread(journal, _START.size, 0)
        if len(start) < _START.size:
            return False
        _, checksum, count, size = _START.unpack(start)
        found, at, left = 0, _START.size, _HEADERS + count * (8 + size)
        while left and (part := os.pread(journal, min(left, _DEFAULT_SIZE), at)):
            found, at, left = zlib.crc32(part, found), at + len(part), left - len(part)
        return not left and found == checksum

    def _blocks(self, journal: int) -> Iterator[tuple[int, int, int]]:
        """Where in the file each block belongs, its size, and where in the journal it is."""
        _, _, count, size = _START.unpack(_read(journal, _START.size, 0))
        at = _START.size + _HEADERS
        numbers = struct.unpack(f"<{count}Q", _read(journal, 8 * count, at))
        for index, number in enumerate(numbers):
            yield _HEADERS + number * size, size, at + 8 * count + index * size

    def _clear(self) -> None:
        journal = os.open(self._journal, os.O_WRONLY | os.O_CLOEXEC)
        try:
            _write(journal, bytes(len(_MAGIC)), 0)
        finally:
            os.close(journal)


def _read(file: int, size: int, at: int) -> bytes:
    """Exactly so much."""
    content = os.pread(file, size, at)
    if len(content) < size:
        raise OSError(errno.EIO, f"{len(content)} bytes instead of {size} at {at}")
    return content


def _write(file: int, content: bytes, at: int) -> None:
    while content:
        written = os.pwrite(file, content, at)
        content, at = content[written:], at + written
