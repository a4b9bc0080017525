"""A bucket as a sink: objects named after the element that they came of."""

import hashlib
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildflow.errors import InvalidRow, ResourceFailed
from buildflow.interrupts import whole
from buildflow.ir.graph import Resource
from buildflow.primitives.base import AT_LEAST_ONCE, Entry
from buildflow.primitives.bucket.object_template import fill
from buildflow.primitives.file.formats import Conversion, RowFormat
from buildflow.primitives.rows import describe

if TYPE_CHECKING:
    from buildflow.primitives.bucket.local_handle import LocalBucket

WRITERS = 8
"""Objects that are written at once: each waits for the disk, which takes several in one go."""

_Group = tuple[str, Sequence[Any]]
"""An object to be: its id, and its rows."""


class BucketSink:
    """`raw` and `json`: an object a row; `jsonl`, `csv` and `parquet`: an object an entry (an element, or a batch).

    An element that comes again writes the same objects again, unless their path has a date and that has changed;
    a batch that comes again may hold other elements. Objects appear one by one, after all of them were encoded.
    """

    guarantee = AT_LEAST_ONCE

    def __init__(
        self,
        resource: Resource,
        bucket: "LocalBucket",
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._bucket = bucket
        self._now = now
        self._template = resource.spec.get("object", "{id}.{extension}")
        self._format = resource.spec.get("format", "json")
        self._rows = (
            None if self._format == "raw" else RowFormat(f'bucket "{resource.key}"', self._format, resource.columns)
        )

    def check(self, row: Any) -> None:
        if self._rows is not None:
            self._rows.lines([row])
        elif not isinstance(row, str | bytes | bytearray | memoryview):
            raise InvalidRow(f"an object in `format: raw` is bytes or text, this is {describe(row)}")

    @whole()
    def commit(self, writer: str, entries: Sequence[Entry], *, fresh: bool = False) -> None:  # noqa: ARG002
        groups = list(self._groups(writer, entries))
        moment = self._now()
        paths = [
            fill(self._template, id=id, moment=moment, consumer=writer, extension=self._extension(rows))
            for id, rows in groups
        ]
        objects = self._encoded(groups)
        with ThreadPoolExecutor(WRITERS) as pool:
            for _ in pool.map(self._bucket.write, paths, objects):
                pass  # but for what it raises

    def close(self) -> None:
        """Nothing stays open between commits."""

    def _groups(self, writer: str, entries: Sequence[Entry]) -> Iterator[_Group]:
        for entry in entries:
            element = entry.id or uuid.uuid4().hex
            if self._format in ("raw", "json"):
                for index, row in enumerate(entry.rows):
                    yield _object_id(writer, element, str(index)), [row]
            elif entry.rows:
                yield _object_id(writer, element), entry.rows

    def _extension(self, rows: Sequence[Any]) -> str:
        if self._format != "raw":
            return str(self._format)
        return "txt" if isinstance(rows[0], str) else "bin"

    def _encoded(self, groups: Sequence[_Group]) -> list[bytes | str]:
        if self._rows is None:
            for _, rows in groups:
                self.check(rows[0])
            return [rows[0] for _, rows in groups]
        lines = [self._rows.lines(rows) for _, rows in groups]
        return list(lines) if self._rows.as_it_is else list(_converted(self._rows, lines))


def _object_id(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _converted(format: RowFormat, groups: Sequence[bytes]) -> Iterator[bytes]:
    try:
        with tempfile.TemporaryDirectory(prefix="buildflow-") as folder:
            conversions = []
            for index, lines in enumerate(groups):
                conversion = Conversion(Path(folder, f"{index}.lines"), Path(folder, f"{index}"), len(lines))
                conversion.lines.write_bytes(lines)
                conversions.append(conversion)
            format.convert(conversions, Path(folder))
            for conversion in conversions:
                yield conversion.target.read_bytes()
    except OSError as error:
        raise ResourceFailed(f"rows could not be made {format.format}: {error}") from error
