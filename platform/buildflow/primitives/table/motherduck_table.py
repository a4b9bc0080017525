"""A table in MotherDuck: what the local driver does, in another place."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from buildflow.errors import BuildflowError
from buildflow.ir.columns import Column
from buildflow.ir.graph import Resource
from buildflow.primitives.table.duckdb_query import _fetch, _require_select
from buildflow.primitives.table.duckdb_table import (
    DuckDBSink,
    DuckDBTable,
    Location,
    TableWriter,
    _Write,
)
from buildflow.primitives.table.local import (
    DuckDBTableDriver,
    _alter,
    _create,
    _database,
    _drop,
    _existing,
    _location,
)
from buildflow.primitives.table.local import _in_words as _changed_in_words

if TYPE_CHECKING:
    from buildflow.primitives.table.motherduck import MotherDuck


class MotherDuckTableDriver(DuckDBTableDriver):
    """Where `local.database` is `md:name`."""

    def create(self, resource: Resource, session: Any) -> dict[str, Any]:
        location = _location(resource, session)
        with _changed_in_words(location):
            _store(resource, session).write(lambda c: _create(c, location, resource.columns))
        return {"name": location.name, "database": str(_database(resource, session))}

    def exists(self, resource: Resource, session: Any) -> bool:
        with _store(resource, session).reading() as connection:
            return bool(_existing(connection, _location(resource, session)))

    def update(self, old: Resource, new: Resource, session: Any) -> dict[str, Any]:
        before, after = _location(old, session), _location(new, session)
        with _changed_in_words(before):
            _store(new, session).write(lambda c: _alter(c, before, after, old.columns, new.columns))
        return {"name": after.name, "database": str(_database(new, session))}

    def content(self, resource: Resource, session: Any) -> str:
        location = _location(resource, session)
        with _store(resource, session).reading() as connection:
            if not _existing(connection, location):
                return ""
            (rows,) = connection.execute(f"SELECT count(*) FROM {location.sql}").fetchone() or (0,)
        return f"{rows} row{'s' * (rows != 1)}" if rows else ""

    def delete(self, resource: Resource, session: Any) -> None:
        location = _location(resource, session)
        with _changed_in_words(location):
            _store(resource, session).write(lambda c: _drop(c, location))

    def sink(self, resource: Resource, session: Any) -> "MotherDuckSink":
        return MotherDuckSink(_store(resource, session), _location(resource, session), resource.columns)

    def handle(self, resource: Resource, session: Any) -> "MotherDuckTable":
        return MotherDuckTable(_store(resource, session), _location(resource, session), resource.columns)


def _store(resource: Resource, session: Any) -> "MotherDuck":
    from buildflow.primitives.table.motherduck import motherduck

    return motherduck(str(_database(resource, session)), session.secrets)


class MotherDuckWriter(TableWriter):
    """Writes where a store of its own says who is next, one commit at a time."""

    def __init__(self, store: "MotherDuck", location: Location, columns: Sequence[Column]) -> None:
        super().__init__(location, columns)
        self._store = store

    def _commit(self, write: _Write) -> None:
        self._store.write(lambda connection: self._run(connection, [write]))


class MotherDuckSink(DuckDBSink):
    """The `Sink` of a table."""

    def __init__(self, store: "MotherDuck", location: Location, columns: Sequence[Column]) -> None:
        self._rows = MotherDuckWriter(store, location, columns)


class MotherDuckTable(DuckDBTable):
    """The `Table` that a handler gets. Safe in threads and after a fork."""

    def __init__(self, store: "MotherDuck", location: Location, columns: Sequence[Column]) -> None:
        super().__init__(location, columns)
        self._store = store
        self._rows = MotherDuckWriter(store, location, columns)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        import duckdb

        _require_select(sql)
        with self._store.reading() as connection:
            connection.execute("BEGIN TRANSACTION READ ONLY")
            try:
                return _fetch(connection, sql, list(parameters))
            except duckdb.Error as exc:
                raise BuildflowError(f"DuckDB refuses this query: {exc}") from exc
            finally:
                connection.execute("ROLLBACK")
