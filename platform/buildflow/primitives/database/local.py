"""A database on the local provider: one of the embedded PostgreSQL's, which all databases of a stack share."""

import contextlib
from collections.abc import Iterator
from typing import Any

from buildflow.errors import ResourceFailed
from buildflow.ir.graph import Resource
from buildflow.primitives.base import Action, Change
from buildflow.primitives.database.postgresql_database import PostgreSQLDatabase
from buildflow.primitives.database.postgresql_pool import Connection, Pool
from buildflow.providers.base import LocalSession, physical_name

_ADMINISTRATOR = "postgres"
_RESERVED = (_ADMINISTRATOR, "template0", "template1")
_LONGEST = 63
_TABLES = """
    SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
    WHERE schemaname NOT IN ('pg_catalog', 'information_schema', '_buildflow')
"""


class LocalDatabaseDriver:
    """`database` on the local stack; a `LocalDriver`. Its user owns it, and needs no password: the server knows
    whose processes connect, and lets no other user of the machine in."""

    label = "PostgreSQLDatabase"
    outputs = ("name", "url")

    def name(self, key: str, spec: Any, project: str, stack: str) -> str:
        return spec.name or physical_name(project, stack, key)

    def identify(self, resource: Resource, settings: Any) -> str:
        return f"postgresql://{resource.name}"

    def check_name(self, name: str) -> str:
        if len(name.encode()) > _LONGEST:
            return f"a database's name has {_LONGEST} bytes at most"
        if not name.isprintable() or not name.strip():
            return "a database's name has no control characters"
        if name in _RESERVED:
            return "PostgreSQL has a database of that name itself"
        return ""

    def create(self, resource: Resource, session: LocalSession) -> dict[str, Any]:
        with _administrator(session) as connection:
            _create_user(connection, _user(resource))
            if not _has_database(connection, resource.name):
                statement = _sql("CREATE DATABASE {} OWNER {}", resource.name, _user(resource))
                connection.execute(statement)
        _create_table(resource, session)
        return _outputs(resource, session)

    def exists(self, resource: Resource, session: LocalSession) -> bool:
        with _administrator(session) as connection:
            if not _has_database(connection, resource.name):
                return False
        table = _table(resource)
        if table is None:
            return True
        from buildflow.primitives.database import postgresql_table

        with _owner(resource, session) as connection:
            return postgresql_table.exists(connection, table)

    def compare(self, old: Resource, new: Resource, session: LocalSession) -> Change:
        from buildflow.primitives.database.postgresql_columns import differences

        fields = [f"{field}: {before} -> {after}" for field, before, after in _places(old, new) if before != after]
        loses = ""
        before, after = _table(old), _table(new)
        if before is not None and after is not None:
            changes = list(differences(old.columns, new.columns))
            fields += [change.words for change in changes]
            if before.upsert != after.upsert:
                fields.append(f"upsert: {_list(before.upsert)} -> {_list(after.upsert)}")
            reasons = [change.replaces for change in changes if change.replaces]
            loses = "; ".join(change.loses for change in changes if change.loses)
            loses = f"all rows of {before.name}: {'; '.join(reasons)}" if reasons else loses
        return Change(Action.UPDATE if fields else Action.NONE, tuple(fields), loses)

    def update(self, old: Resource, new: Resource, session: LocalSession) -> dict[str, Any]:
        """Does what `compare` said, data loss included: whoever calls it has asked."""
        _rename(session, old, new)
        before, after = _table(old), _table(new)
        if before is None or after is None:
            return self.create(new, session)
        from buildflow.primitives.database import postgresql_table

        with _owner(new, session) as connection:
            postgresql_table.alter(connection, before, after)
        return _outputs(new, session)

    def content(self, resource: Resource, session: LocalSession) -> str:
        with _administrator(session) as connection:
            if not _has_database(connection, resource.name):
                return ""
        with _owner(resource, session) as connection:
            tables = [name for (name,) in connection.execute(_TABLES).fetchall()]
            rows = sum(_count(connection, name) for name in tables)
        number = f"{len(tables)} table{'s' * (len(tables) != 1)}"
        return f"{number} with {rows:,} row{'s' * (rows != 1)}" if rows else ""

    def delete(self, resource: Resource, session: LocalSession) -> None:
        with _administrator(session) as connection:
            connection.execute(_sql("DROP DATABASE IF EXISTS {} WITH (FORCE)", resource.name))
            _drop_user(connection, _user(resource))

    def sink(self, resource: Resource, session: LocalSession) -> Any:
        from buildflow.primitives.database.postgresql_sink import PostgreSQLSink

        table = _table(resource)
        if table is None:
            raise ResourceFailed(f'database "{resource.key}" has no `table` and no `columns` to write to')
        return PostgreSQLSink(_pool(resource, session), table)

    def handle(self, resource: Resource, session: LocalSession) -> PostgreSQLDatabase:
        return PostgreSQLDatabase(_pool(resource, session))


def _user(resource: Resource) -> str:
    return str(resource.spec.get("user") or resource.name)


def _table(resource: Resource) -> Any:
    """The `SinkTable` that is declared, or None."""
    from buildflow.primitives.database.postgresql_table import SinkTable

    name = resource.spec.get("table")
    return SinkTable(name, resource.columns, tuple(resource.spec.get("upsert") or ())) if name else None


def _places(old: Resource, new: Resource) -> Iterator[tuple[str, str, str]]:
    yield "name", old.name, new.name
    yield "user", _user(old), _user(new)
    yield "table", str(old.spec.get("table") or "none"), str(new.spec.get("table") or "none")


def _list(names: tuple[str, ...]) -> str:
    return f"[{', '.join(names)}]"


def _outputs(resource: Resource, session: LocalSession) -> dict[str, Any]:
    return {"name": resource.name, "url": session.postgres().url(resource.name, _user(resource))}


def _pool(resource: Resource, session: LocalSession) -> Pool:
    """Of the database's owner; the server is attached to when a connection is needed."""
    return Pool(
        resource.name,
        lambda: session.postgres().url(resource.name, _user(resource)),
        revive=lambda: session.postgres().ensure(),
    )


@contextlib.contextmanager
def _connected(pool: Pool) -> Iterator[Connection]:
    try:
        with pool.connection() as connection:
            yield connection
    finally:
        pool.close()


def _owner(resource: Resource, session: LocalSession) -> Any:
    return _connected(_pool(resource, session))


def _administrator(session: LocalSession, database: str = _ADMINISTRATOR) -> Any:
    service = session.postgres()
    return _connected(Pool(database, lambda: service.url(database), revive=service.ensure))


def _sql(statement: str, *names: str) -> Any:
    from psycopg import sql

    return sql.SQL(statement).format(*map(sql.Identifier, names))


def _has_database(connection: Connection, name: str) -> bool:
    found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
    return found.fetchone() is not None


def _create_user(connection: Connection, user: str) -> None:
    if user == _ADMINISTRATOR or user.startswith("pg_"):
        raise ResourceFailed(f'PostgreSQL keeps the user "{user}" for itself', hint="give `user` another name")
    if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [user]).fetchone() is None:
        connection.execute(_sql("CREATE ROLE {} LOGIN", user))


def _drop_user(connection: Connection, user: str) -> None:
    """Unless something else is theirs, or they are the server's own."""
    import psycopg

    with contextlib.suppress(psycopg.errors.DependentObjectsStillExist, psycopg.errors.ObjectInUse):
        connection.execute(_sql("DROP ROLE IF EXISTS {}", user))


def _rename(session: LocalSession, old: Resource, new: Resource) -> None:
    before, after = _user(old), _user(new)
    with _administrator(session) as connection:
        if old.name != new.name:
            leave = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
            connection.execute(leave, [old.name])
            connection.execute(_sql("ALTER DATABASE {} RENAME TO {}", old.name, new.name))
        if before == after:
            return
        _create_user(connection, after)
        connection.execute(_sql("ALTER DATABASE {} OWNER TO {}", new.name, after))
    with _administrator(session, new.name) as connection:
        connection.execute(_sql("REASSIGN OWNED BY {} TO {}", before, after))
        _drop_user(connection, before)


def _create_table(resource: Resource, session: LocalSession) -> None:
    from buildflow.primitives.database import postgresql_table

    if (table := _table(resource)) is not None:
        with _owner(resource, session) as connection:
            postgresql_table.create(connection, table)


def _count(connection: Connection, table: str) -> int:
    [number] = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() or (0,)
    return int(number)


DRIVER = LocalDatabaseDriver()
