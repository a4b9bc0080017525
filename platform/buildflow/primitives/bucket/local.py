"""bucket on this machine: a folder. Objects appear in it complete or not at all, and the streams that watch
the bucket are told of each one in the same breath.

What is an object: a regular file whose path from the folder is a valid object name. Symbolic links, sockets
and the like are none, and neither is what lies in `.buildflow-tmp`, where unfinished writes and locks live.
"""

import contextlib
import errno
import fcntl
import hashlib
import inspect
import io
import logging
import os
import re
import shutil
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
from buildflow.primitives.base import Action, Change
from buildflow.providers.base import LocalSession
from buildflow.types.handles import ObjectInfo

if TYPE_CHECKING:
    from buildflow.primitives.file_change_stream.ledger import Ledger

logger = logging.getLogger(__name__)

HIDDEN = ".buildflow-tmp"
"""The folder in a bucket for unfinished writes and locks; no object name may contain it."""
PART_BYTES = 255
"""What file systems allow between two slashes."""
PATH_BYTES = 1024
"""What S3 and Cloud Storage allow as a whole."""
CHUNK = 1 << 20
LEFT_OVER = 3600.0
"""Seconds after which an unfinished write that nobody touched belongs to a process that died."""
LOCKS = 16
DEAF = 5.0
"""Seconds in which writers leave the streams to the watcher after Redis did not answer, lest each waits."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


# Object names


def object_parts(path: str) -> tuple[str, ...]:
    """The parts of an object's path. Raises `InvalidObjectName`, in words, for one that is none."""
    refusal = _refusal(path)
    if refusal:
        raise InvalidObjectName(
            f"{path!r} is no object name: {refusal}",
            hint="Names are relative, with / between parts: photos/cat.png",
        )
    return tuple(path.split("/"))


def is_object_name(path: str) -> bool:
    """Whether a file of this path in a bucket is an object."""
    return not _refusal(path)


def _refusal(path: object) -> str:
    """Why this is no object name; empty when it is one."""
    if not isinstance(path, str):
        return "a name is text"
    if not path:
        return "it is empty"
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    if len(encoded) > PATH_BYTES:
        return f"it is longer than {PATH_BYTES} bytes"
    if "\0" in path:
        return "it contains a NUL character"
    if "\\" in path:
        return "it contains a backslash; parts are separated by /"
    if path.startswith("/"):
        return "it begins with /"
    return next(filter(None, map(_part_refusal, path.split("/"))), "")


def _part_refusal(part: str) -> str:
    if not part:
        return "it has an empty part (a double or a last /)"
    if part in (".", ".."):
        return f'it has the part "{part}"'
    if part.casefold() == HIDDEN:
        return f"the part {HIDDEN} is the bucket's own"
    if len(part.encode()) > PART_BYTES:
        return f"a part of it is longer than {PART_BYTES} bytes"
    return ""


# The folder


def bucket_folder(resource: Resource, session: LocalSession) -> Path:
    """Where the bucket's files are: absolute, its own links not yet followed."""
    return Path(os.path.abspath(session.root / _relative_folder(resource, session.dir)))


def _relative_folder(resource: Resource, stack_dir: Path) -> Path:
    path = (resource.spec.get("local") or {}).get("path")
    return Path(path) if path else stack_dir / "buckets" / resource.name


def walk(
    folder: str,
    below: str = "",
    prefix: str = "",
    on_error: Callable[[str, OSError], None] | None = None,
    on_folder: Callable[[str], None] | None = None,
) -> Iterator[tuple[str, os.stat_result]]:
    """Every regular file under `folder/below` as (path in the bucket, stat), in order of path, those that
    start with `prefix` only; links are not followed.

    A folder that cannot be read goes to `on_error` with its path in the bucket; one that is gone is left out.
    """
    here = f"{folder}/{below}" if below else folder
    try:
        with os.scandir(here) as found:
            entries = [(e.name + "/" if e.is_dir(follow_symlinks=False) else e.name, e) for e in found]
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        if on_error is None:
            raise
        on_error(below, error)
        return
    if on_folder is not None:
        on_folder(below)
    for name, entry in sorted(entries, key=lambda pair: pair[0]):
        path = f"{below}/{name}" if below else name
        if name.endswith("/"):
            shared = min(len(path), len(prefix))
            if path[:shared] != prefix[:shared] or entry.name.casefold() == HIDDEN:
                continue
            if len(path) <= PATH_BYTES:  # below, no name is an object's
                yield from walk(folder, path[:-1], prefix, on_error, on_folder)
        elif path.startswith(prefix):
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            except OSError as error:
                if on_error is None:
                    raise
                on_error(path, error)
                continue
            if stat.S_ISREG(status.st_mode):
                yield path, status


def sweep(folder: Path) -> None:
    """Remove unfinished writes that nobody has touched for an hour: their processes died."""
    oldest = time.time() - LEFT_OVER
    with contextlib.suppress(FileNotFoundError), os.scandir(folder / HIDDEN) as found:
        for entry in found:
            if entry.name.endswith(".part") and entry.stat(follow_symlinks=False).st_mtime < oldest:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(entry.path)


def _fsync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_folders(folder: Path) -> None:
    """Create `folder` and what is missing above it, each one durable in its parent."""
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
        _fsync_folder(folder.parent)
    if not folder.is_dir():
        raise NotADirectoryError(str(folder))


# The handle


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
                _fsync_folder(file.parent)
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
                _make_folders(target.parent)
                os.replace(unfinished, target)
                _fsync_folder(target.parent)
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
    for chunk in _chunks(data):
        rest = memoryview(chunk)
        while rest:
            rest = rest[file.write(rest) :]
    # The kernel's own stamp is only as fine as its tick: two versions of one size written within it would
    # look the same.
    moment = time.time_ns()
    os.utime(file.fileno(), ns=(moment, moment))
    os.fsync(file.fileno())


def _chunks(data: Any) -> Iterator[bytes | bytearray | memoryview]:
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


# The driver


class LocalBucketDriver:
    """Creates, compares and removes the folder."""

    label = "LocalBucket"

    def name(self, key: str, spec: Any, project: str, stack: str) -> str:
        if spec.name:
            return str(spec.name)
        name = f"{project}-{stack}-{key}"
        return name if len(name) <= 63 else f"{name[:54]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"

    def identify(self, resource: Resource, settings: Any) -> str:
        return f"file://{_relative_folder(resource, settings.dir).as_posix()}"

    def check_name(self, name: str) -> str:
        if not 1 <= len(name) <= 63:
            return "a bucket's name has 1 to 63 characters"
        if not _NAME.fullmatch(name):
            return (
                "a bucket's name consists of letters, digits, dots, hyphens and underscores, "
                "and begins with a letter or a digit"
            )
        return ""

    def create(self, resource: Resource, session: LocalSession) -> dict[str, Any]:
        folder = bucket_folder(resource, session)
        self._refuse_neighbours(resource, folder, session)
        for other in _other_buckets(resource, session):
            if folder.resolve().is_relative_to(bucket_folder(other, session).resolve()):
                raise ResourceFailed(f"the bucket {resource.key} lies in the folder of the bucket {other.key}")
        try:
            _make_folders(folder)
            sweep(folder)
        except OSError as error:
            raise ResourceFailed(f"the bucket {resource.name} could not be created: {error}") from error
        return {"path": str(folder), "url": folder.as_uri()}

    def exists(self, resource: Resource, session: LocalSession) -> bool:
        return bucket_folder(resource, session).is_dir()

    def compare(self, old: Resource, new: Resource, session: LocalSession) -> Change:
        fields = tuple(
            f"{field}: {before} -> {after}"
            for field, before, after in (
                ("name", old.name, new.name),
                ("path", *(_relative_folder(r, session.dir).as_posix() for r in (old, new))),
                ("force_destroy", *(_words(r.spec.get("force_destroy", False)) for r in (old, new))),
            )
            if before != after
        )
        if bucket_folder(old, session) != bucket_folder(new, session):
            return Change(Action.REPLACE, fields, self.content(old, session))
        return Change(Action.UPDATE if fields else Action.NONE, fields)

    def update(self, old: Resource, new: Resource, session: LocalSession) -> dict[str, Any]:
        return self.create(new, session)

    def content(self, resource: Resource, session: LocalSession) -> str:
        """Counts whatever a delete would remove, files that are no objects included."""
        folder = str(bucket_folder(resource, session))
        count = 0
        try:
            for here, folders, files in os.walk(folder, onerror=_reraise):
                folders[:] = [f for f in folders if f != HIDDEN]
                links = sum(os.path.islink(os.path.join(here, f)) for f in folders)
                count += len(files) + links
        except FileNotFoundError:
            pass
        except OSError as error:
            raise ResourceFailed(f"what the bucket {resource.name} holds cannot be read: {error}") from error
        return f"{count} object{'' if count == 1 else 's'}" if count else ""

    def delete(self, resource: Resource, session: LocalSession) -> None:
        """Remove the folder. A link is removed, never what it leads to."""
        folder = bucket_folder(resource, session)
        try:
            if folder.is_symlink():
                folder.unlink()
            elif folder.exists():
                self._refuse_neighbours(resource, folder, session)
                shutil.rmtree(folder)
        except OSError as error:
            raise ResourceFailed(f"the bucket {resource.name} could not be deleted: {error}") from error

    def handle(self, resource: Resource, session: LocalSession) -> LocalBucket:
        return LocalBucket(resource, session)

    def _refuse_neighbours(self, resource: Resource, folder: Path, session: LocalSession) -> None:
        """A bucket owns its folder and is deleted with it, so nothing of others may lie in it."""
        others = [(session.root, "the project"), (session.root / session.dir, "the stack's state")]
        others += [(bucket_folder(o, session), f"the bucket {o.key}") for o in _other_buckets(resource, session)]
        for place, owner in others:
            if place.resolve().is_relative_to(folder.resolve()):
                raise ResourceFailed(
                    f"the bucket {resource.key} cannot have the folder {folder}: {owner} lies in it",
                    hint="Give it a folder of its own in local.path.",
                )


def _other_buckets(resource: Resource, session: LocalSession) -> list[Resource]:
    return [
        r for r in session.graph.resources if r.type == "bucket" and r.provider == "local" and r.key != resource.key
    ]


def _words(value: bool) -> str:
    return "true" if value else "false"


def _reraise(error: OSError) -> None:
    raise error


DRIVER = LocalBucketDriver()
