"""The table of a database that is a sink, and the marks of the elements that were written to it.

    public.<table>        the rows
    _buildflow.<table>    a key for every element that was committed, and when

A key is an element's mark (`element_ids`): 128 bits, so that an index of them stays small and quick.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from psycopg import sql

from buildflow.errors import ResourceFailed
from buildflow.ir.column_types import postgresql_type
from buildflow.ir.columns import Column
from buildflow.primitives.database.postgresql_columns import alter_statements, definitions, differences
from buildflow.primitives.database.postgresql_pool import Connection

_UPSERT_INDEX = "_buildflow_upsert"
_EXISTING = """
    SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute
    WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped
"""


@dataclass(frozen=True)
class SinkTable:
    """What a database declares as a sink."""

    name: str
    columns: tuple[Column, ...]
    upsert: tuple[str, ...] = ()

    @property
    def rows(self) -> sql.Identifier:
        return sql.Identifier("public", self.name)

    @property
    def marks(self) -> sql.Identifier:
        return sql.Identifier("_buildflow", self.name)


def exists(connection: Connection, table: SinkTable) -> bool:
    return bool(connection.execute(_EXISTING, [table.rows.as_string(connection)]).fetchone())


def create(connection: Connection, table: SinkTable) -> None:
    """Make the table, or adopt the one that is there. Raises `ResourceFailed` where that has other columns."""
    with connection.transaction():
        rows = connection.execute(_EXISTING, [table.rows.as_string(connection)]).fetchall()
        existing = {name: (kind, required) for name, kind, required in rows}
        if not existing:
            connection.execute(sql.SQL("CREATE TABLE {} ({})").format(table.rows, definitions(table.columns)))
        elif wrong := list(_mismatches(connection, existing, table.columns)):
            raise ResourceFailed(
                f'it holds a table "{table.name}" already, with other columns: {"; ".join(wrong)}',
                hint="declare its columns as they are, give `table` another name, or drop that one",
            )
        prepare_marks(connection, table)
        _index(connection, table)


def prepare_marks(connection: Connection, table: SinkTable) -> None:
    """Make the table of marks where there is none."""
    name = table.marks.as_string(connection)
    with connection.transaction():
        if connection.execute("SELECT to_regclass(%s)", [name]).fetchone() != (None,):
            return
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('_buildflow'))")
        connection.execute("CREATE SCHEMA IF NOT EXISTS _buildflow")
        columns = sql.SQL("(key uuid PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())")
        connection.execute(sql.SQL("CREATE TABLE IF NOT EXISTS {} {}").format(table.marks, columns))


def alter(connection: Connection, before: SinkTable, after: SinkTable) -> None:
    """Bring the table from its old to its new declaration, data loss included: whoever calls it has asked."""
    with connection.transaction():
        if before.name != after.name:
            for old in (before.rows, before.marks):
                name = sql.Identifier(after.name)
                connection.execute(sql.SQL("ALTER TABLE IF EXISTS {} RENAME TO {}").format(old, name))
        connection.execute(sql.SQL("DROP INDEX IF EXISTS public.{}").format(sql.Identifier(_UPSERT_INDEX)))
        if any(change.replaces for change in differences(before.columns, after.columns)):
            connection.execute(sql.SQL("DROP TABLE {}").format(after.rows))
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(after.marks))
        else:
            for statement in alter_statements(after.rows, before.columns, after.columns):
                connection.execute(statement)
        create(connection, after)


def _index(connection: Connection, table: SinkTable) -> None:
    """What `upsert` tells rows apart by. Rows that are there already and cannot be told apart refuse it."""
    if table.upsert:
        connection.execute(
            sql.SQL("CREATE UNIQUE INDEX IF NOT EXISTS {} ON {} ({}) NULLS NOT DISTINCT").format(
                sql.Identifier(_UPSERT_INDEX), table.rows, sql.SQL(", ").join(map(sql.Identifier, table.upsert))
            )
        )


def _mismatches(
    connection: Connection, existing: dict[str, tuple[str, bool]], columns: Sequence[Column]
) -> Iterator[str]:
    for column in columns:
        if column.name not in existing:
            yield f'it has no column "{column.name}"'
            continue
        kind, required = existing[column.name]
        [wanted] = connection.execute("SELECT %s::regtype::text", [postgresql_type(column)]).fetchone() or ("",)
        if kind != wanted:
            yield f'its column "{column.name}" is {kind}, not {wanted}'
        elif column.nullable and required:
            yield f'its column "{column.name}" is NOT NULL'
    declared = {column.name for column in columns}
    for name, (_, required) in existing.items():
        if name not in declared and required:
            yield f'its column "{name}" is not declared and NOT NULL'
