"""A DuckDB table to write to and to read from: the sink of consumers and the handle of handlers."""

import json
import time
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from buildflow.errors import BuildflowError, InvalidRow, ResourceFailed, ServiceUnavailable
from buildflow.ir.columns import Column
from buildflow.primitives.base import EFFECTIVELY_ONCE, KEEP_DAYS, Entry, SeenBefore
from buildflow.primitives.rows import RowEncoder
from buildflow.primitives.table.duckdb_columns import quote, readable, text
from buildflow.primitives.table.duckdb_file import database
from buildflow.primitives.table.duckdb_query import query

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Connection
else:
    Connection = Any

PRUNE_EVERY = 3600.0
"""Seconds between prunings in one process: a pass over a column whose min-max index skips nearly all."""

MARKERS = "_buildflow.elements"


@dataclass(frozen=True)
class Location:
    """Where a table is: its file, its schema, its name."""

    path: Path
    schema: str
    table: str

    @property
    def sql(self) -> str:
        return f"{quote(self.schema)}.{quote(self.table)}"

    @property
    def name(self) -> str:
        """What a user's SQL calls it."""
        return ".".join(readable(part) for part in (self.schema, self.table) if part != "main")


@dataclass(frozen=True)
class _Write:
    """One commit, encoded: a writer, its elements' ids and their rows as JSON fragments."""

    writer: str
    ids: tuple[str, ...]
    fragments: tuple[str, ...]
    fresh: bool

    def repeats(self, seen: Container[tuple[str, str]]) -> bool:
        """Whether one of its ids was seen, or comes twice."""
        ids = [id for id in self.ids if id]
        return len(set(ids)) < len(ids) or any((self.writer, id) in seen for id in ids)


class TableWriter:
    """Writes rows together with the ids of the elements that they came of.

    Markers have no index, which would cost a commit ten times as much at a million ids; under the writer's
    lock a join is enough. They name the table, so that one element may go to two sinks.
    """

    def __init__(self, location: Location, columns: Sequence[Column]) -> None:
        self._location = location
        self._encoder = RowEncoder(f'table "{location.name}"', columns)
        self._insert = f"INSERT INTO {location.sql} ({self._encoder.columns_sql}) {self._encoder.select}"
        self._prepared = False
        self._prune_at = 0.0

    def check(self, rows: Sequence[Any]) -> None:
        self._encoder.encode([rows])

    def write(self, writer: str, entries: Sequence[Entry], *, fresh: bool = False) -> None:
        """All or none; entries of a (writer, id) that was written before are skipped, or with `fresh` refused by
        `SeenBefore`. An empty id is never skipped and leaves no marker."""
        fragments = self._encoder.encode([list(entry.rows) for entry in entries])
        job = _Write(writer, tuple(entry.id for entry in entries), tuple(fragments), fresh)
        with _in_words(self._location):
            file = database(self._location.path)
            if not self._prepared:
                file.write(prepare_markers)
                self._prepared = True
            file.write_together(self._insert, self._run, job)  # the SQL says all that a group must share

    def _run(self, connection: Connection, writes: Sequence[_Write]) -> Sequence[None]:
        seen = self._seen(connection, writes)
        fragments, marks = [], []
        for write in writes:
            if write.fresh and write.repeats(seen):
                raise SeenBefore
            for id, fragment in zip(write.ids, write.fragments, strict=True):
                if id:
                    if (write.writer, id) in seen:
                        continue
                    seen.add((write.writer, id))
                    marks.append({"w": write.writer, "i": id})
                if fragment:
                    fragments.append(fragment)
        if fragments:
            connection.execute(self._insert, [f"[{','.join(fragments)}]"])
        if marks:
            self._mark(connection, marks)
        return [None] * len(writes)

    def _seen(self, connection: Connection, writes: Sequence[_Write]) -> set[tuple[str, str]]:
        """Which of the elements were committed before. Nearly always none were, which the keys alone show."""
        asked = [{"w": write.writer, "i": id} for write in writes for id in write.ids if id]
        if not asked:
            return set()
        hits = connection.execute(
            f"SELECT DISTINCT e.key FROM {_elements(self._location)} n JOIN {MARKERS} e ON e.key = n.key",
            [json.dumps(asked)],
        ).fetchall()
        if not hits:
            return set()
        found = connection.execute(
            f'SELECT writer, id FROM {MARKERS} WHERE "table" = ? '
            "AND key IN (SELECT unnest(from_json(?, '[\"UBIGINT\"]')))",
            [self._location.sql, json.dumps([key for (key,) in hits])],
        ).fetchall()
        return set(found)

    def _mark(self, connection: Connection, marks: Sequence[Mapping[str, str]]) -> None:
        connection.execute(f"INSERT INTO {MARKERS} SELECT n.* FROM {_elements(self._location)} n", [json.dumps(marks)])
        if time.monotonic() >= self._prune_at:
            self._prune_at = time.monotonic() + PRUNE_EVERY
            connection.execute(f'DELETE FROM {MARKERS} WHERE "at" < now() - INTERVAL {KEEP_DAYS} DAYS')


def _elements(location: Location) -> str:
    """The elements in a parameter, JSON records of writer `w` and id `i`, as rows of the marker table."""
    wire = '[{"w":"VARCHAR","i":"VARCHAR"}]'
    return (
        f'(SELECT {text(location.sql)} AS "table", r.w AS writer, r.i AS id, now() AS "at", '
        f"{marker_key(text(location.sql), 'r.w', 'r.i')} AS key "
        f"FROM (SELECT unnest(from_json(?, '{wire}')) AS r))"
    )


def marker_key(table: str, writer: str, id: str) -> str:
    """A marker's key, as SQL: 64 bits to compare instead of three texts."""
    return f"md5_number_lower(concat_ws(chr(0), {table}, {writer}, {id}))"


def prepare_markers(connection: Connection) -> None:
    connection.execute("CREATE SCHEMA IF NOT EXISTS _buildflow")
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {MARKERS} "
        '("table" VARCHAR, writer VARCHAR, id VARCHAR, "at" TIMESTAMPTZ, key UBIGINT)'
    )


def rename_markers(connection: Connection, before: Location, after: Location) -> None:
    prepare_markers(connection)
    connection.execute(
        f'UPDATE {MARKERS} SET "table" = {text(after.sql)}, key = {marker_key(text(after.sql), "writer", "id")} '
        f'WHERE "table" = {text(before.sql)}'
    )


def forget_markers(connection: Connection, location: Location) -> None:
    """A table that is gone has seen nothing: made anew, it takes every element again."""
    prepare_markers(connection)
    connection.execute(f'DELETE FROM {MARKERS} WHERE "table" = {text(location.sql)}')


class DuckDBSink:
    """The `Sink` of a table."""

    guarantee = EFFECTIVELY_ONCE

    def __init__(self, location: Location, columns: Sequence[Column]) -> None:
        self._rows = TableWriter(location, columns)

    def check(self, row: Any) -> None:
        self._rows.check([row])

    def commit(self, writer: str, entries: Sequence[Entry], *, fresh: bool = False) -> None:
        if entries:
            self._rows.write(writer, entries, fresh=fresh)

    def close(self) -> None:
        """Nothing stays open between commits."""


class DuckDBTable:
    """The `Table` that a handler gets. Safe in threads and after a fork: it keeps nothing open."""

    def __init__(self, location: Location, columns: Sequence[Column]) -> None:
        self.name = location.name
        self._location = location
        self._rows = TableWriter(location, columns)

    def rows(
        self, *, where: str = "", parameters: Sequence[Any] = (), order_by: str = "", limit: int | None = None
    ) -> list[dict[str, Any]]:
        sql = f"SELECT * FROM {self._location.sql}"
        sql += f"\nWHERE (\n{where}\n)" if where else ""
        sql += f"\nORDER BY {order_by}" if order_by else ""
        sql += f"\nLIMIT {int(limit)}" if limit is not None else ""
        return self.query(sql, parameters)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        return query(self._location.path, sql, parameters)

    def insert(self, rows: Any) -> int:
        """Write one row or any iterable of rows; how many there were."""
        entry = Entry("", _each(rows))
        if entry.rows:
            self._rows.write("", [entry])
        return len(entry.rows)


def _each(rows: Any) -> list[Any]:
    """The rows of what `insert` was given: one row, which may well be iterable itself, or several."""
    if rows is None:
        return []
    one = isinstance(rows, Mapping | BaseModel | str | bytes) or hasattr(rows, "_asdict") or is_dataclass(rows)
    return [rows] if one or not isinstance(rows, Iterable) else list(rows)


@contextmanager
def _in_words(location: Location) -> Iterator[None]:
    """DuckDB's errors while writing, in the platform's tree."""
    import duckdb

    try:
        yield
    except (duckdb.CatalogException, duckdb.BinderException) as exc:
        raise ResourceFailed(
            f'table "{location.name}" in {location.path} is not as declared: {exc}',
            hint="run: platform apply",
        ) from exc
    except (duckdb.ConstraintException, duckdb.ConversionException) as exc:
        raise InvalidRow(f'table "{location.name}": {exc}') from exc
    except (duckdb.IOException, duckdb.TransactionException) as exc:  # what a full disk is at a commit
        raise ServiceUnavailable(f"{location.path} cannot be written: {exc}") from exc
    except duckdb.Error as exc:
        raise BuildflowError(f"writing to {location.path} failed: {exc}") from exc
