"""A table on the local provider: a DuckDB table in the stack's file, or where `local.database` says."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildflow.errors import ResourceFailed
from buildflow.ir.columns import Column
from buildflow.ir.graph import Resource
from buildflow.primitives.base import Action, Change
from buildflow.primitives.table.duckdb_changes import alter_statements, differences
from buildflow.primitives.table.duckdb_columns import definition, duckdb_type, quote
from buildflow.primitives.table.duckdb_file import database
from buildflow.primitives.table.duckdb_table import (
    DuckDBSink,
    DuckDBTable,
    Location,
    forget_marks,
    prepare_marks,
    rename_marks,
)
from buildflow.providers.base import LocalSession

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Connection
else:
    Connection = Any

_EXISTING = (
    "SELECT column_name, data_type, is_nullable FROM duckdb_columns() "
    "WHERE database_name = current_database() AND schema_name = ? AND table_name = ?"
)


class DuckDBTableDriver:
    """Creates, alters and connects tables. A file is made with its first table and outlives its last."""

    label = "DuckDBTable"
    outputs = ("name", "database")

    def name(self, key: str, spec: Any, project: str, stack: str) -> str:
        return spec.name or key

    def identify(self, resource: Resource, settings: Any) -> str:
        dataset = resource.spec.get("dataset")
        table = f"{dataset}.{resource.name}" if dataset else resource.name
        return f"{_database(resource, settings).as_posix()}:{table}"

    def check_name(self, name: str) -> str:
        if not name.isidentifier():
            return "a table's name is letters, digits and underscores, and begins with no digit"
        if name.startswith("_buildflow"):
            return "names that begin with _buildflow are the platform's own"
        return ""

    def create(self, resource: Resource, session: LocalSession) -> dict[str, Any]:
        location = _location(resource, session)
        with _in_words(location):
            database(location.path).write(lambda c: _create(c, location, resource.columns), create=True)
        return _outputs(resource, location, session)

    def exists(self, resource: Resource, session: LocalSession) -> bool:
        location = _location(resource, session)
        if not location.path.exists():
            return False
        with database(location.path).reading() as connection:
            return bool(_existing(connection, location))

    def compare(self, old: Resource, new: Resource, session: LocalSession) -> Change:
        before, after = _location(old, session), _location(new, session)
        moves = list(_moves(before, after, session))
        changes = list(differences(old.columns, new.columns))
        fields = tuple(words for words, _ in moves) + tuple(c.words for c in changes)
        reasons = [reason for _, reason in moves if reason] + [c.replaces for c in changes if c.replaces]
        if reasons:
            return Change(Action.REPLACE, fields, f"all rows of {before.name}: {'; '.join(reasons)}")
        if fields:
            return Change(Action.UPDATE, fields, "; ".join(c.loses for c in changes if c.loses))
        return Change(Action.NONE)

    def update(self, old: Resource, new: Resource, session: LocalSession) -> dict[str, Any]:
        """Does what `compare` said, data loss included: whoever calls it has asked."""
        before, after = _location(old, session), _location(new, session)
        if self.compare(old, new, session).action is Action.REPLACE:
            self.delete(old, session)
            return self.create(new, session)
        with _in_words(before):
            database(after.path).write(lambda c: _alter(c, before, after, old.columns, new.columns))
        return _outputs(new, after, session)

    def content(self, resource: Resource, session: LocalSession) -> str:
        if not self.exists(resource, session):
            return ""
        location = _location(resource, session)
        with database(location.path).reading() as connection:
            (rows,) = connection.execute(f"SELECT count(*) FROM {location.sql}").fetchone() or (0,)
        return f"{rows} row{'s' * (rows != 1)}" if rows else ""

    def delete(self, resource: Resource, session: LocalSession) -> None:
        location = _location(resource, session)
        if location.path.exists():
            with _in_words(location):
                database(location.path).write(lambda c: _drop(c, location))

    def sink(self, resource: Resource, session: LocalSession) -> DuckDBSink:
        return DuckDBSink(_location(resource, session), resource.columns)

    def handle(self, resource: Resource, session: LocalSession) -> DuckDBTable:
        return DuckDBTable(_location(resource, session), resource.columns)


@contextmanager
def _in_words(location: Location) -> Iterator[None]:
    import duckdb

    try:
        yield
    except duckdb.Error as exc:
        raise ResourceFailed(f'table "{location.name}" in {location.path}: DuckDB refuses: {exc}') from exc


def _database(resource: Resource, settings: Any) -> Path:
    """The file, as written: relative to the project's root."""
    own = (resource.spec.get("local") or {}).get("database")
    return Path(own) if own else Path(settings.dir) / "tables.duckdb"


def _location(resource: Resource, session: LocalSession) -> Location:
    path = session.root / _database(resource, session)
    return Location(path, resource.spec.get("dataset") or "main", resource.name)


def _outputs(resource: Resource, location: Location, session: LocalSession) -> dict[str, Any]:
    return {"name": location.name, "database": _database(resource, session).as_posix()}


def _moves(before: Location, after: Location, session: LocalSession) -> Iterator[tuple[str, str]]:
    """Changes of place: in words, and why the rows do not come along."""
    for field, old, new in (
        ("local.database", _shown(before.path, session), _shown(after.path, session)),
        ("dataset", before.schema, after.schema),
    ):
        if old != new:
            yield f"{field}: {old} -> {new}", f"it is created anew in {new}"
    if before.table != after.table:
        yield f"name: {before.table} -> {after.table}", ""


def _shown(path: Path, session: LocalSession) -> str:
    return (path.relative_to(session.root) if path.is_relative_to(session.root) else path).as_posix()


def _existing(connection: Connection, location: Location) -> dict[str, tuple[str, bool]]:
    """The columns in the file: name to type and whether it may be empty; none when there is no such table."""
    rows = connection.execute(_EXISTING, [location.schema, location.table]).fetchall()
    return {name: (kind, nullable) for name, kind, nullable in rows}


def _create(connection: Connection, location: Location, columns: Sequence[Column]) -> None:
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(location.schema)}")
    existing = _existing(connection, location)
    if not existing:
        forget_marks(connection, location)  # of a table that somebody dropped by hand
        prepare_marks(connection, location)  # for a sink that has found them before
        connection.execute(f"CREATE TABLE {location.sql} ({', '.join(map(definition, columns))})")
        return
    wrong = list(_mismatches(connection, existing, columns))
    if wrong:
        raise ResourceFailed(
            f'table "{location.name}" is in {location.path} already, with other columns: {"; ".join(wrong)}',
            hint="declare its columns as they are, give this table another name, or drop that one",
        )


def _mismatches(
    connection: Connection, existing: dict[str, tuple[str, bool]], columns: Sequence[Column]
) -> Iterator[str]:
    for column in columns:
        if column.name not in existing:
            yield f'it has no column "{column.name}"'
            continue
        kind, nullable = existing[column.name]
        (wanted,) = connection.execute(f"SELECT typeof(NULL::{duckdb_type(column)})").fetchone() or ("",)
        if kind != wanted:
            yield f'its column "{column.name}" is {kind}, not {wanted}'
        elif column.nullable and not nullable:
            yield f'its column "{column.name}" is NOT NULL'
    declared = {column.name for column in columns}
    for name, (_, nullable) in existing.items():
        if name not in declared:
            yield f'its column "{name}" is not declared' + (" and NOT NULL" if not nullable else "")


def _alter(
    connection: Connection, before: Location, after: Location, old: Sequence[Column], new: Sequence[Column]
) -> None:
    if not _existing(connection, before):
        raise ResourceFailed(f'table "{before.name}" is gone from {before.path}', hint="run: platform refresh")
    for statement in alter_statements(before.sql, old, new):
        connection.execute(statement)
    if before.table != after.table:
        connection.execute(f"ALTER TABLE {before.sql} RENAME TO {quote(after.table)}")
        rename_marks(connection, before, after)


def _drop(connection: Connection, location: Location) -> None:
    connection.execute(f"DROP TABLE IF EXISTS {location.sql}")
    forget_marks(connection, location)
    (left,) = connection.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE database_name = current_database() AND schema_name = ?",
        [location.schema],
    ).fetchone() or (0,)
    if location.schema != "main" and not left:
        connection.execute(f"DROP SCHEMA IF EXISTS {quote(location.schema)}")


DRIVER = DuckDBTableDriver()
