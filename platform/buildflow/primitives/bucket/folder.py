"""A local bucket's folder: where it is, what in it is an object, and what keeps it tidy and durable."""

import contextlib
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from buildflow.ir.graph import Resource
from buildflow.primitives.bucket.object_names import HIDDEN, PATH_BYTES
from buildflow.providers.base import LocalSession

logger = logging.getLogger(__name__)

LEFT_OVER = 3600.0
"""Seconds after which an unfinished write that nobody touched belongs to a process that died."""


def bucket_folder(resource: Resource, session: LocalSession) -> Path:
    """Where the bucket's files are: absolute, its own links not yet followed."""
    return Path(os.path.abspath(session.root / relative_folder(resource, session.dir)))


def relative_folder(resource: Resource, stack_dir: Path) -> Path:
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


def fsync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folders(folder: Path) -> None:
    """Create `folder` and what is missing above it, each one durable in its parent."""
    if folder.is_dir():
        return
    make_folders(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
        fsync_folder(folder.parent)
    if not folder.is_dir():
        raise NotADirectoryError(str(folder))
