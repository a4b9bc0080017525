"""The handle of a local bucket. Objects appear in its folder complete or not at all, and the streams that watch
the bucket are told of each one in the same breath.

What is an object: a regular file whose path from the folder is a valid object name. Symbolic links, sockets
and the like are none, and neither is what lies in `.buildflow-tmp`, where unfinished writes and locks live.
"""

import contextlib
import errno
import fcntl
import inspect
import io
import logging
import os
import stat
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from buildflow.errors import BuildflowError, InvalidObjectName, ObjectNotFound, ResourceFailed
from buildflow.ir.graph import Resource
from buildflow.primitives.bucket.folder import (
    bucket_folder,
    fsync_folder,
    make_folders,
    walk,
)
from buildflow.primitives.bucket.object_names import HIDDEN, is_object_name, object_parts
from buildflow.providers.base import LocalSession
from buildflow.types.handles import ObjectInfo

if TYPE_CHECKING:
    from buildflow.primitives.file_change_stream.ledger import Ledger

logger = logging.getLogger(__name__)

CHUNK = 1 << 20
LOCKS = 16
DEAF = 5.0
"""Seconds in which writers leave the streams to the watcher after Redis did not answer, lest each waits."""


class LocalBucket:
    """What a handler gets of a bucket. Safe to use from several threads and processes at once."""

    def __init__(self, resource: Resource, session: LocalSession) -> None:
        self.name = resource.name
        self._folder = bucket_folder(resource, session)
        self._session = session
        self._streams = tuple(
            r for r in session.graph.referrers(resource.key) if r.type == "file_change_stream" and r.provider == "local"
        )
        self._ledgers: tuple[Ledger, ...] | None = None
        self._deaf_until = 0.0

    def __repr__(self) -> str:
        return f"LocalBucket({self.name!r})"

    def local_path(self, path: str) -> Path:
        """The file that holds the object, for reading."""
        file = self._locate(path)
        self._stat(path, file)
        return file

    def read(self, path: str) -> bytes:
        with self.open(path) as file:
            return file.read()

    def open(self, path: str) -> BinaryIO:
        file = self.local_path(path)
        try:
            return open(file, "rb")
        except FileNotFoundError as error:
            raise _not_found(path, self.name) from error

    def info(self, path: str) -> ObjectInfo:
        return _info(path, self._stat(path, self._locate(path)))

    def exists(self, path: str) -> bool:
        try:
            self.info(path)
        except ObjectNotFound:
            return False
        return True

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        for path, status in walk(str(self._folder), prefix=prefix, on_error=self._unreadable):
            if is_object_name(path):
                yield _info(path, status)

    def write(self, path: str, data: bytes | str | BinaryIO) -> ObjectInfo:
        target = self._locate(path)
        if not self._folder.is_dir():
            raise ResourceFailed(f"the bucket {self.name} has no folder {self._folder}", hint="Run platform apply.")
        unfinished = self._folder / HIDDEN / f"{uuid.uuid4().hex}.part"
        try:
            unfinished.parent.mkdir(exist_ok=True)
            with open(unfinished, "xb", buffering=0) as file:
                _fill(file, data)
                with self._locked(path):
                    known = self._known(path)
                    self._place(path, unfinished, target)
                    status = os.fstat(file.fileno())
                    self._tell(path, lambda ledger: ledger.created(path, status, known.get(ledger.key, "")))
        except OSError as error:
            raise ResourceFailed(f"{path!r} could not be written to the bucket {self.name}: {error}") from error
        finally:
            with contextlib.suppress(OSError):
                unfinished.unlink()
        return _info(path, status)

    def delete(self, path: str) -> None:
        file = self._locate(path)
        self._stat(path, file)
        try:
            with self._locked(path):
                self._stat(path, file)
                known = self._known(path)
                file.unlink()
                fsync_folder(file.parent)
                self._tell(path, lambda ledger: ledger.deleted(path, known.get(ledger.key, "")))
        except FileNotFoundError as error:
            raise _not_found(path, self.name) from error
        except OSError as error:
            raise ResourceFailed(f"{path!r} could not be deleted from the bucket {self.name}: {error}") from error
        self._remove_empty(file.parent)

    # paths

    def _locate(self, path: str) -> Path:
        """The file of this name. Raises `InvalidObjectName` when a link on its way leads out."""
        file = self._folder.joinpath(*object_parts(path))
        try:
            file.stat()
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
                raise InvalidObjectName(f"{path!r} is no object name: {error.strerror}") from error
        if not Path(os.path.realpath(file)).is_relative_to(os.path.realpath(self._folder)):
            raise InvalidObjectName(f"{path!r} is no object name: a link in the bucket leads out of it there")
        return file

    def _stat(self, path: str, file: Path) -> os.stat_result:
        try:
            status = file.stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise _not_found(path, self.name) from error
        except OSError as error:
            raise ResourceFailed(f"{path!r} cannot be read in the bucket {self.name}: {error}") from error
        if not stat.S_ISREG(status.st_mode):
            raise _not_found(path, self.name)
        return status

    def _unreadable(self, path: str, error: OSError) -> None:
        raise ResourceFailed(f"{path!r} cannot be read in the bucket {self.name}: {error}") from error

    # writing

    def _place(self, path: str, unfinished: Path, target: Path) -> None:
        while True:
            try:
                make_folders(target.parent)
                os.replace(unfinished, target)
                fsync_folder(target.parent)
                return
            except FileNotFoundError:
                if not unfinished.exists():
                    raise
                # else another delete emptied the folder between the two steps: make it again
            except IsADirectoryError as error:
                try:
                    target.rmdir()  # an empty folder is in nobody's way
                except OSError:
                    raise InvalidObjectName(f'"{path}" cannot be written: "{path}/" holds other objects') from error
            except (NotADirectoryError, FileExistsError) as error:
                raise InvalidObjectName(
                    f'"{path}" cannot be written: a part of its path is an object itself'
                ) from error

    def _remove_empty(self, folder: Path) -> None:
        """Remove the folders that a delete emptied, up to the bucket itself."""
        while folder != self._folder:
            try:
                folder.rmdir()
            except OSError:  # not empty, or gone already
                return
            folder = folder.parent

    # telling the streams

    @contextlib.contextmanager
    def _locked(self, path: str) -> Iterator[None]:
        """Hold the path against other writers, so that the file and what the streams know of it change
        together. A process that dies lets go. Without streams nobody needs it."""
        if not self._streams:
            yield
            return
        hidden = self._folder / HIDDEN
        hidden.mkdir(exist_ok=True)
        number = zlib.crc32(path.encode()) % LOCKS
        with open(hidden / f"{number:02}.lock", "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _connect(self) -> tuple["Ledger", ...]:
        if self._ledgers is None:
            # here, so that a bucket nobody watches needs no Redis
            from buildflow.primitives.file_change_stream.ledger import Ledger

            self._ledgers = tuple(Ledger(stream, self._session) for stream in self._streams)
        return self._ledgers

    def _known(self, path: str) -> dict[str, str]:
        """What each stream that wants this path knows of it; nothing when that cannot be learned."""
        known: dict[str, str] = {}
        self._tell(path, lambda ledger: known.update({ledger.key: ledger.read([path])[0]}))
        return known

    def _tell(self, path: str, step: Callable[["Ledger"], object]) -> None:
        """Do `step` for every stream that wants this path. A failure is logged only: the object is there, and
        the watch finds it at its next look."""
        if not self._streams or time.monotonic() < self._deaf_until:
            return
        import redis

        try:
            for ledger in self._connect():
                if ledger.wants(path):
                    step(ledger)
        except (redis.RedisError, BuildflowError, OSError) as error:
            self._deaf_until = time.monotonic() + DEAF
            message = "the streams of bucket %s cannot be told of %r (%s); the watcher will find it"
            logger.warning(message, self.name, path, error)


def _fill(file: io.FileIO, data: Any) -> None:
    """Write all of `data` to `file`, durably."""
    for chunk in chunks(data):
        rest = memoryview(chunk)
        while rest:
            rest = rest[file.write(rest) :]
    # The kernel's own stamp is only as fine as its tick: two versions of one size written within it would
    # look the same.
    moment = time.time_ns()
    os.utime(file.fileno(), ns=(moment, moment))
    os.fsync(file.fileno())


def chunks(data: Any) -> Iterator[bytes | bytearray | memoryview]:
    """The bytes of what a handler wants to store, a bounded piece at a time."""
    if isinstance(data, str):
        yield data.encode()
    elif isinstance(data, bytes | bytearray):
        yield data
    elif isinstance(data, memoryview):
        yield data.cast("B")
    else:
        # FastAPI's UploadFile reads asynchronously; the file in it does not.
        file = data.file if inspect.iscoroutinefunction(getattr(data, "read", None)) else data
        if not hasattr(file, "read") or isinstance(file, io.TextIOBase):
            raise TypeError(f"a bucket stores bytes, text or a binary file, not a {type(data).__name__}")
        while chunk := file.read(CHUNK):
            if not isinstance(chunk, bytes | bytearray):
                raise TypeError("a bucket stores files that were opened in binary mode")
            yield chunk


def _info(path: str, status: os.stat_result) -> ObjectInfo:
    return ObjectInfo(path, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))


def _not_found(path: str, bucket: str) -> ObjectNotFound:
    return ObjectNotFound(f"there is no object {path!r} in the bucket {bucket}")
