"""Columns as PostgreSQL's definitions, and the statements that bring a table from old to new ones.

A record is one JSON value: when its fields change, what was written stays as it was written.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from psycopg import sql

from buildflow.ir.column_types import postgresql_type
from buildflow.ir.columns import Column
from buildflow.primitives.table import duckdb_changes
from buildflow.primitives.table.duckdb_changes import ColumnChange
from buildflow.primitives.table.duckdb_columns import same_name, utc_text


def differences(old: Sequence[Column], new: Sequence[Column]) -> Iterator[ColumnChange]:
    """Every difference of two sets of columns; in records, nothing is lost."""
    for change in duckdb_changes.differences(old, new):
        path = change.words.removeprefix("columns.").partition(":")[0]
        is_inner = not any(same_name(columns, path) for columns in (old, new))
        yield replace(change, loses="", replaces="") if is_inner else change


def definition(column: Column) -> sql.Composed:
    """The column in CREATE TABLE and ADD COLUMN."""
    parts: list[sql.Composable] = [sql.Identifier(column.name), type_of(column)]
    if _has_default(column):
        parts += [sql.SQL("DEFAULT"), _default(column)]
    if not column.nullable:
        parts.append(sql.SQL("NOT NULL"))
    return sql.SQL(" ").join(parts)


def definitions(columns: Sequence[Column]) -> sql.Composed:
    return sql.SQL(", ").join(map(definition, columns))


def type_of(column: Column) -> sql.SQL:
    return sql.SQL(postgresql_type(column))


def alter_statements(table: sql.Composable, old: Sequence[Column], new: Sequence[Column]) -> Iterator[sql.Composed]:
    """Bring a table from old to new columns, in one transaction; not where a difference `replaces` it."""
    kept = [c.name for c in new if (before := same_name(old, c.name)) and duckdb_changes.converts(before, c)]
    for column in old:
        if column.name not in kept:
            yield _alter(table, "DROP COLUMN {}", column)
    for column in new:
        before = same_name(old, column.name)
        if before is None or column.name not in kept:
            yield sql.SQL("ALTER TABLE {} ADD COLUMN {}").format(table, definition(column))
        else:
            yield from _changes(table, before, column)


def _changes(table: sql.Composable, old: Column, new: Column) -> Iterator[sql.Composed]:
    if postgresql_type(old) != postgresql_type(new):
        yield _alter(table, "ALTER COLUMN {} TYPE {type}", new)
    if (old.has_default, old.default) != (new.has_default, new.default):
        yield _alter(table, "ALTER COLUMN {} SET DEFAULT {default}" if _has_default(new) else _NO_DEFAULT, new)
    if new.nullable and not old.nullable:
        yield _alter(table, "ALTER COLUMN {} DROP NOT NULL", new)
    elif old.nullable and not new.nullable:
        empty = "UPDATE {table} SET {} = {default} WHERE {} IS NULL"
        yield _format(empty if _has_default(new) else "DELETE FROM {table} WHERE {} IS NULL", table, new)
        yield _alter(table, "ALTER COLUMN {} SET NOT NULL", new)


_NO_DEFAULT = "ALTER COLUMN {} DROP DEFAULT"


def _alter(table: sql.Composable, change: str, column: Column) -> sql.Composed:
    return _format("ALTER TABLE {table} " + change, table, column)


def _format(statement: str, table: sql.Composable, column: Column) -> sql.Composed:
    name = sql.Identifier(column.name)
    return sql.SQL(statement.replace("{}", "{name}")).format(
        name=name, table=table, type=type_of(column), default=_default(column)
    )


def _has_default(column: Column) -> bool:
    return column.has_default and column.default is not None


def _default(column: Column) -> sql.Composed:
    return sql.SQL("{}::{}").format(sql.Literal(_plain(column, column.default)), type_of(column))


def _plain(column: Column, value: Any) -> Any:
    """A default as what psycopg writes into SQL."""
    if value is None:
        return None
    if column.kind == "record" or (column.kind == "json" and not column.repeated):
        return json.dumps(value)
    if column.repeated:
        one = column.model_copy(update={"repeated": False})
        return [_plain(one, item) for item in value]
    if column.kind == "timestamp":
        return utc_text(value)
    if column.kind == "bytes":
        return value.encode() if isinstance(value, str) else bytes(value)
    return value if isinstance(value, bool | int | float) else str(value)
