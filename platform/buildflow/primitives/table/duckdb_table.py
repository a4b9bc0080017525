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
from buildflow.primitives.element_ids import mark_of
from buildflow.primitives.rows import RowEncoder
from buildflow.primitives.table.duckdb_columns import quote, readable
from buildflow.primitives.table.duckdb_file import database
from buildflow.primitives.table.duckdb_query import query

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Connection
else:
    Connection = Any

PRUNE_EVERY = 3600.0
"""Seconds between prunings in one process: a pass over a column whose min-max index skips nearly all."""

_HALF = 64
"""Bits of a mark in each of its two columns."""


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
    def marks(self) -> str:
        """Its companion, which keeps the marks of the elements that were written to it."""
        return f"_buildflow.{quote(self.name_of_marks)}"

    @property
    def name_of_marks(self) -> str:
        return f"{self.schema}.{self.table}"

    @property
    def name(self) -> str:
        """What a user's SQL calls it."""
        return ".".join(readable(part) for part in (self.schema, self.table) if part != "main")


@dataclass(frozen=True)
class _Write:
    """One commit, encoded: its elements' marks (None for what is never skipped) and their rows as JSON fragments."""

    marks: tuple[int | None, ...]
    fragments: tuple[str, ...]
    fresh: bool

    def repeats(self, seen: Container[int]) -> bool:
        """Whether one of its marks was seen, or comes twice."""
        marks = [mark for mark in self.marks if mark is not None]
        return len(set(marks)) < len(marks) or any(mark in seen for mark in marks)


class TableWriter:
    """Writes rows together with the marks of the elements that they came of.

    Marks have no index, which would cost a commit ten times as much at a million of them. Under the writer's lock
    a join of their first halves is enough, and marks of one time lie together: it skips nearly all.
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
        `SeenBefore`. An empty id is never skipped and leaves no mark."""
        fragments = self._encoder.encode([list(entry.rows) for entry in entries])
        marks = tuple(mark_of(writer, entry.id) if entry.id else None for entry in entries)
        with _in_words(self._location):
            self._commit(_Write(marks, tuple(fragments), fresh))
        self._prepared = self._prepared or any(entry.id for entry in entries)

    def _commit(self, write: _Write) -> None:
        """Durable when this returns. The SQL says all that a group must share."""
        database(self._location.path).write_together(self._insert, self._run, write)

    def _run(self, connection: Connection, writes: Sequence[_Write]) -> Sequence[None]:
        seen = self._seen(connection, [mark for write in writes for mark in write.marks if mark is not None])
        fragments, new = [], []
        for write in writes:
            if write.fresh and write.repeats(seen):
                raise SeenBefore
            for mark, fragment in zip(write.marks, write.fragments, strict=True):
                if mark is not None:
                    if mark in seen:
                        continue
                    seen.add(mark)
                    new.append(mark)
                if fragment:
                    fragments.append(fragment)
        if fragments:
            connection.execute(self._insert, [f"[{','.join(fragments)}]"])
        if new:
            self._mark(connection, new)
        return [None] * len(writes)

    def _seen(self, connection: Connection, marks: Sequence[int]) -> set[int]:
        """Which of the elements were committed before. Nearly always none were, which first halves alone show."""
        if not marks:
            return set()
        if not self._prepared:
            prepare_marks(connection, self._location)
        hits = self._kept(connection, "m.key", [mark >> _HALF for mark in marks])
        found = self._kept(connection, "m.key, m.rest", [key for (key,) in hits]) if hits else []
        return {key << _HALF | rest for key, rest in found}

    def _kept(self, connection: Connection, columns: str, keys: Sequence[int]) -> list[Any]:
        """What is kept of elements whose marks have these first halves. Compared as they are (without `~`) DuckDB
        would hand the keys to the scan as a filter, which takes 30 MB and more; their range is all it needs."""
        return connection.execute(
            f"SELECT DISTINCT {columns} FROM (SELECT unnest(from_json(?, '[\"UBIGINT\"]')) AS key) n "
            f"JOIN {self._location.marks} m ON ~m.key = ~n.key WHERE m.key BETWEEN ?::UBIGINT AND ?::UBIGINT",
            [json.dumps(keys), min(keys), max(keys)],
        ).fetchall()

    def _mark(self, connection: Connection, marks: Sequence[int]) -> None:
        connection.execute(
            f"INSERT INTO {self._location.marks} SELECT n.mark.key, n.mark.rest, now() "
            """FROM (SELECT unnest(from_json(?, '[{"key":"UBIGINT","rest":"UBIGINT"}]')) AS mark) n""",
            [json.dumps([{"key": mark >> _HALF, "rest": mark % (1 << _HALF)} for mark in marks])],
        )
        if time.monotonic() >= self._prune_at:
            self._prune_at = time.monotonic() + PRUNE_EVERY
            connection.execute(f'DELETE FROM {self._location.marks} WHERE "at" < now() - INTERVAL {KEEP_DAYS} DAYS')


def prepare_marks(connection: Connection, location: Location) -> None:
    """Make the table of marks where there is none."""
    connection.execute("CREATE SCHEMA IF NOT EXISTS _buildflow")
    connection.execute(f'CREATE TABLE IF NOT EXISTS {location.marks} (key UBIGINT, rest UBIGINT, "at" TIMESTAMPTZ)')


def rename_marks(connection: Connection, before: Location, after: Location) -> None:
    prepare_marks(connection, before)
    if before.name_of_marks.lower() != after.name_of_marks.lower():  # DuckDB's names ignore case
        forget_marks(connection, after)  # of a table that somebody dropped by hand
    connection.execute(f"ALTER TABLE {before.marks} RENAME TO {quote(after.name_of_marks)}")


def forget_marks(connection: Connection, location: Location) -> None:
    """A table that is gone has seen nothing: made anew, it takes every element again."""
    connection.execute("CREATE SCHEMA IF NOT EXISTS _buildflow")
    connection.execute(f"DROP TABLE IF EXISTS {location.marks}")


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
