"""A rollback journal for a DuckDB file, as SQLite has one: what a checkpoint overwrites can be put back.

DuckDB's checkpoint writes rows to blocks that nothing uses, and its header last, but its metadata shares blocks of
256 KiB with the metadata of before. A process that dies while it writes one of those leaves a file that nothing can
read any more. So they are copied to a side file first. As long as DuckDB's header is the one of before, the copies
are what belongs to it; the rows that were committed since are in its write-ahead log.
"""

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_HEADERS = 3 * 4096
"""Bytes before the first block: what the file is, and two headers that checkpoints write in turn."""
_COUNT_AND_SIZE = struct.Struct("<QQ")
_AT = 32
"""Where a header says how many blocks there are, and how large one is. Source: `DatabaseHeader` in DuckDB."""
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
        """Put back what an unfinished checkpoint has overwritten; nothing, where it had written its header."""
        saved = self._load()
        if saved is not None and self._path.exists():
            file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            try:
                headers, size, blocks = saved
                if os.pread(file, _HEADERS, 0) == headers:
                    for number, block in blocks.items():
                        _write(file, block, _HEADERS + number * size)
                    _sync(file)
            finally:
                os.close(file)
        self._clear()

    def _save(self, file: int, blocks: Sequence[int]) -> None:
        headers = os.pread(file, _HEADERS, 0)
        _, size = _COUNT_AND_SIZE.unpack_from(headers, 4096 + _AT)
        parts = [headers, struct.pack(f"<{len(blocks)}Q", *blocks)]
        parts += [os.pread(file, size, _HEADERS + number * size) for number in blocks]
        payload = b"".join(parts)
        new = not self._journal.exists()
        journal = os.open(self._journal, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            _write(journal, _START.pack(_MAGIC, zlib.crc32(payload), len(blocks), size) + payload, 0)
            _sync(journal)
        finally:
            os.close(journal)
        if new:
            _sync_folder(self._journal.parent)

    def _load(self) -> tuple[bytes, int, dict[int, bytes]] | None:
        """The headers, the size of a block, and blocks by number. None of a journal that was not written to its
        end: its checkpoint had not begun."""
        content = self._journal.read_bytes()
        if len(content) < _START.size:
            return None
        magic, checksum, count, size = _START.unpack_from(content)
        length = _HEADERS + count * (8 + size)
        payload = content[_START.size : _START.size + length]
        if magic != _MAGIC or len(payload) < length or zlib.crc32(payload) != checksum:
            return None
        numbers = struct.unpack_from(f"<{count}Q", payload, _HEADERS)
        first = _HEADERS + 8 * count
        blocks = {number: payload[first + i * size : first + (i + 1) * size] for i, number in enumerate(numbers)}
        return payload[:_HEADERS], size, blocks

    def _clear(self) -> None:
        journal = os.open(self._journal, os.O_WRONLY | os.O_CLOEXEC)
        try:
            _write(journal, bytes(len(_MAGIC)), 0)
        finally:
            os.close(journal)


def _write(file: int, content: bytes, at: int) -> None:
    while content:
        written = os.pwrite(file, content, at)
        content, at = content[written:], at + written


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
