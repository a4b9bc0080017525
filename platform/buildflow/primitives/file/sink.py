"""Rows into files that appear complete: commits go to a journal, and a journal that is large or old enough
becomes a file."""

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from buildflow.errors import BuildflowError, ResourceFailed
from buildflow.interrupts import whole
from buildflow.ir.columns import Column
from buildflow.primitives.base import AT_LEAST_ONCE, Entry
from buildflow.primitives.bucket.folder import fsync_folder, make_folders
from buildflow.primitives.bucket.object_template import fill
from buildflow.primitives.file.formats import Conversion, RowFormat
from buildflow.primitives.file.journal import Journal, Journals

if TYPE_CHECKING:
    from buildflow.primitives.bucket.local_handle import LocalBucket

logger = logging.getLogger(__name__)

ID = r"\d{8}T\d{6}-[0-9a-f]{8}"
"""What a file's id looks like."""
LOOK = 5.0
"""Seconds between looks for journals that dead processes left, or that could not be published."""


class Place(Protocol):
    """Where files appear."""

    def holds(self, name: str) -> bool: ...

    def put(self, name: str, id: str, write: Callable[[Path], None]) -> None:
        """Have `write` write a file, and let it appear as `name`, complete."""
        ...


class FolderPlace:
    """Below a folder. A file that is not complete is a hidden one beside where it will appear."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def holds(self, name: str) -> bool:
        return (self._folder / name).exists()

    def put(self, name: str, id: str, write: Callable[[Path], None]) -> None:
        target = self._folder / name
        make_folders(target.parent)
        part = target.with_name(f".{id}.part")
        try:
            write(part)
            _fsync(part)
            os.replace(part, target)
            fsync_folder(target.parent)
        finally:
            part.unlink(missing_ok=True)


class BucketPlace:
    """In a bucket, whose streams are told."""

    def __init__(self, bucket: "LocalBucket", scratch: Path) -> None:
        self._bucket = bucket
        self._scratch = scratch

    def holds(self, name: str) -> bool:
        return self._bucket.exists(name)

    def put(self, name: str, id: str, write: Callable[[Path], None]) -> None:
        part = self._scratch / f"{id}.part"
        try:
            write(part)
            with open(part, "rb") as file:
                self._bucket.write(name, file)
        finally:
            part.unlink(missing_ok=True)


class _Here:
    """What a sink has open in one process; a forked child has its own."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.changed = threading.Condition()
        self.open: dict[str, tuple[Journal, float]] = {}
        """By consumer where the path says it, else by "": a journal and when it is to be published."""
        self.thread: threading.Thread | None = None
        self.look = True
        self.stopping = False


class FileSink:
    """The `Sink` of a file. What was committed twice is there twice: nothing remembers the elements."""

    guarantee = AT_LEAST_ONCE

    def __init__(
        self,
        key: str,
        template: str,
        format: RowFormat,
        journals: Journals,
        place: Place,
        *,
        size: int,
        every: float,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._key = key
        self._template = template
        self._format = format
        self._journals = journals
        self._place = place
        self._size = size
        self._every = every
        self._clock = clock
        self._now = now
        self._state: _Here | None = None
        self._told = ""

    def check(self, row: Any) -> None:
        self._format.lines([row])

    def commit(self, writer: str, entries: Sequence[Entry], *, fresh: bool = False) -> None:  # noqa: ARG002
        data = self._format.lines([row for entry in entries for row in entry.rows])
        with whole():
            here = self._here()
            with here.changed:
                if data:
                    self._append(here, writer if "{consumer}" in self._template else "", data)
                self._start(here)

    def rotate(self) -> None:
        """Publish what is old enough, and what nobody holds any more."""
        self._rotate(self._here())

    @whole()
    def close(self) -> None:
        """Publish everything. What cannot be published now is left to the next process that opens the sink."""
        here, self._state = self._here(), None
        with here.changed:
            here.stopping = True
            here.changed.notify_all()
            for writer in list(here.open):
                self._let_go(here, writer)
        if here.thread is not None:
            here.thread.join()
            self._publish_free()

    # commits

    def _here(self) -> _Here:
        if self._state is None or self._state.pid != os.getpid():
            self._state = _Here()
        return self._state

    def _append(self, here: _Here, writer: str, data: bytes) -> None:
        held = here.open.get(writer)
        if held and (held[0].size + len(data) > self._size or held[1] <= self._clock()):
            self._let_go(here, writer)
            held = None
        try:
            journal, _ = held or here.open.setdefault(writer, (self._begin(writer), self._clock() + self._every))
            journal.append(data)
        except OSError as error:
            if writer in here.open:
                self._let_go(here, writer)
            raise ResourceFailed(f'rows of file "{self._key}" could not be written: {error}') from error
        if journal.size >= self._size:
            self._let_go(here, writer)

    def _begin(self, writer: str) -> Journal:
        moment = self._now()
        id = f"{moment:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
        about = {
            "name": fill(self._template, id=id, moment=moment, consumer=writer),
            "format": self._format.format,
            "columns": [column.model_dump(mode="json") for column in self._format.columns],
        }
        return self._journals.begin(id, about)

    def _let_go(self, here: _Here, writer: str) -> None:
        journal, _ = here.open.pop(writer)
        journal.close()
        here.look = True
        here.changed.notify_all()

    # publication

    def _rotate(self, here: _Here) -> None:
        with here.changed:
            here.look = False
            now = self._clock()
            for writer in [writer for writer, (_, until) in here.open.items() if until <= now]:
                self._let_go(here, writer)
        self._publish_free()

    def _publish_free(self) -> None:
        try:
            for journal in self._journals.take():
                with closing(journal):
                    self._publish(journal)
        except OSError as error:
            self._tell(error)

    def _publish(self, journal: Journal) -> None:
        """Make the file of a journal, and remove that. Its name was fixed when the journal began: after a crash
        in between the file is there, and is not made again."""
        try:
            name = journal.about["name"]
            if not self._place.holds(name):
                self._place.put(name, journal.id, lambda part: self._convert(journal, part))
            self._journals.remove(journal)
            self._told = ""
        except (OSError, BuildflowError) as error:
            self._tell(error)

    def _tell(self, error: Exception) -> None:
        """Once, not at every look."""
        words = f'a file of "{self._key}" cannot be made yet, its rows are kept in {self._journals.folder}: {error}'
        if words != self._told:
            logger.warning(words)
        self._told = words

    def _convert(self, journal: Journal, part: Path) -> None:
        columns = [Column.model_validate(column) for column in journal.about["columns"]]
        format = RowFormat(f'file "{self._key}"', journal.about["format"], columns)
        if format.as_it_is:
            journal.copy_rows(part)
            return
        lines = journal.path.with_suffix(".lines")
        try:
            longest = journal.copy_rows(lines)
            format.convert([Conversion(lines, part, longest)], self._journals.folder)
        finally:
            lines.unlink(missing_ok=True)

    def _start(self, here: _Here) -> None:
        if here.thread is None or not here.thread.is_alive():
            here.thread = threading.Thread(target=self._serve, args=[here], name=f"files of {self._key}", daemon=True)
            here.thread.start()

    def _serve(self, here: _Here) -> None:
        """Publishes in time, whether rows come or not, also what processes that died had."""
        while not here.stopping:
            self._rotate(here)
            with here.changed:
                if not here.look and not here.stopping:
                    until = [until - self._clock() for _, until in here.open.values()]
                    here.changed.wait(max(0.0, min([LOOK, *until])))


def _fsync(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())
