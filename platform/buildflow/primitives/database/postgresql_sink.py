"""A database as a sink: rows and the marks of their elements in one transaction."""

import base64
import re
import time
from collections.abc import Sequence
from typing import Any

from psycopg import errors, sql

from buildflow.primitives.base import EFFECTIVELY_ONCE, KEEP_DAYS, Entry, SeenBefore
from buildflow.primitives.database.postgresql_columns import type_of
from buildflow.primitives.database.postgresql_pool import Connection, Pool
from buildflow.primitives.database.postgresql_table import SinkTable, prepare_marks
from buildflow.primitives.element_ids import mark_of
from buildflow.primitives.rows import RowEncoder, Wire
from buildflow.primitives.table.duckdb_table import PRUNE_EVERY

_TRIES = 4
"""Commits that PostgreSQL ends in favour of another one are tried again."""
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def _hexadecimal(value: bytes) -> str:
    return "\\x" + value.hex()


def _refuses(fragment: str) -> str:
    return "text holds the character NUL, which PostgreSQL does not store" if _NUL.search(fragment) else ""


_IN_RECORDS = Wire(
    plain_bytes=lambda value: base64.b64encode(value).decode(),
    listed_bytes=lambda value: base64.b64encode(value).decode(),
    json_as_text=False,
)
_WIRE = Wire(_hexadecimal, _hexadecimal, inner=_IN_RECORDS, refuses=_refuses)


class PostgreSQLSink:
    """The `Sink` of a database. Safe in threads and after a fork."""

    guarantee = EFFECTIVELY_ONCE

    def __init__(self, pool: Pool, table: SinkTable) -> None:
        self._pool = pool
        self._table = table
        self._encoder = RowEncoder(f'table "{table.name}"', table.columns, _WIRE)
        self._insert = _insert(table, self._encoder.keys)
        self._prepared = False
        self._prune_at = 0.0

    def check(self, row: Any) -> None:
        self._encoder.encode([[row]])

    def commit(self, writer: str, entries: Sequence[Entry], *, fresh: bool = False) -> None:
        """All or none; entries of a (writer, id) that was committed before are skipped, or with `fresh` refused by
        `SeenBefore`. An empty id is never skipped and leaves no mark."""
        fragments = self._encoder.encode([list(entry.rows) for entry in entries])
        keys = [_key(writer, entry.id) if entry.id else "" for entry in entries]
        for left in reversed(range(_TRIES)):
            with self._pool.connection() as connection:
                try:
                    self._write(connection, keys, fragments, fresh=fresh)
                    self._prune(connection)
                    return
                except (errors.DeadlockDetected, errors.SerializationFailure):
                    if not left:
                        raise

    def close(self) -> None:
        self._pool.close()

    def _write(self, connection: Connection, keys: Sequence[str], fragments: Sequence[str], *, fresh: bool) -> None:
        if not self._prepared:
            prepare_marks(connection, self._table)
            self._prepared = True
        with connection.transaction():
            new = self._marked(connection, keys)
            if fresh and len(new) < sum(map(bool, keys)):
                raise SeenBefore
            written = []
            for key, fragment in zip(keys, fragments, strict=True):
                if key:
                    if key not in new:
                        continue
                    new.remove(key)  # an id that repeats writes once
                if fragment:
                    written.append(fragment)
            if written:
                connection.execute(self._insert, [f"[{','.join(written)}]"])

    def _marked(self, connection: Connection, keys: Sequence[str]) -> set[str]:
        """Mark elements as committed; which of them are new. A second writer of one waits here for the first to
        commit or to fail; all ask in the same order, so that no two wait for each other."""
        asked = sorted({key for key in keys if key})
        if not asked:
            return set()
        insert = sql.SQL("INSERT INTO {} (key) SELECT unnest(%s::uuid[]) ON CONFLICT DO NOTHING RETURNING key")
        cursor = connection.execute(insert.format(self._table.marks), [f"{{{','.join(asked)}}}"])
        return set(asked) if cursor.rowcount == len(asked) else {key.hex for (key,) in cursor.fetchall()}

    def _prune(self, connection: Connection) -> None:
        if time.monotonic() < self._prune_at:
            return
        self._prune_at = time.monotonic() + PRUNE_EVERY
        old = "SELECT key FROM {} WHERE at < now() - make_interval(days => %s) FOR UPDATE SKIP LOCKED"
        delete = sql.SQL(f"DELETE FROM {{}} WHERE key IN ({old})")
        connection.execute(delete.format(self._table.marks, self._table.marks), [KEEP_DAYS])


def _key(writer: str, id: str) -> str:
    """A mark as PostgreSQL's `uuid`."""
    return f"{mark_of(writer, id):032x}"


def _insert(table: SinkTable, keys: Sequence[str]) -> sql.Composed:
    """Rows out of one parameter, a JSON list of records. With `upsert`, the last row of a key stands for it; rows go
    in the order of their keys, so that no two commits wait for each other."""
    identifiers = {c.name: sql.Identifier(key) for c, key in zip(table.columns, keys, strict=True)}
    as_text = {c.name: c.kind == "json" for c in table.columns}
    comma = sql.SQL(", ")
    wire = [
        sql.SQL("{} {}").format(
            identifiers[c.name], sql.SQL("text[]" if c.repeated else "text") if as_text[c.name] else type_of(c)
        )
        for c in table.columns
    ]
    values = [sql.SQL("r.{}::{}").format(identifiers[c.name], type_of(c)) for c in table.columns]
    rows = sql.SQL("ROWS FROM (json_to_recordset(%s::json) AS ({})) WITH ORDINALITY AS r ({}, n)").format(
        comma.join(wire), comma.join(identifiers.values())
    )
    names = comma.join(sql.Identifier(c.name) for c in table.columns)
    if not table.upsert:
        insert = sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {}")
        return insert.format(table.rows, names, comma.join(values), rows)
    told_apart = comma.join(sql.SQL("r.{}").format(identifiers[name]) for name in table.upsert)
    others = [sql.Identifier(c.name) for c in table.columns if c.name not in table.upsert]
    update = comma.join(sql.SQL("{} = EXCLUDED.{}").format(name, name) for name in others)
    return sql.SQL(
        "INSERT INTO {} ({}) SELECT DISTINCT ON ({}) {} FROM {} ORDER BY {}, r.n DESC ON CONFLICT ({}) DO {}"
    ).format(
        table.rows,
        names,
        told_apart,
        comma.join(values),
        rows,
        told_apart,
        comma.join(map(sql.Identifier, table.upsert)),
        sql.SQL("UPDATE SET {}").format(update) if others else sql.SQL("NOTHING"),
    )
