"""A database on AWS: PostgreSQL in RDS, with the pool, the sink and the handle of every PostgreSQL.

Where `apply` runs a private server is out of reach, so whoever connects first makes what is missing in it: the table
that is declared, the columns that it gained, and a database that shares another's server.
"""

import json
from typing import Any
from urllib.parse import quote

from buildflow.errors import NotApplied, ResourceFailed
from buildflow.ir.graph import Resource
from buildflow.primitives.base import Sink
from buildflow.primitives.database.postgresql_columns import alter_statements, differences
from buildflow.primitives.database.postgresql_database import PostgreSQLDatabase
from buildflow.primitives.database.postgresql_pool import Connection, Pool
from buildflow.providers.aws import AwsSession
from buildflow.providers.secret_mask import masked

_COLUMNS = "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = %s"


class RDSPool(Pool):
    """One process's connections to a database in RDS. Its password is asked for when it is needed, and again when
    PostgreSQL does not accept it: it may have been replaced."""

    def __init__(self, resource: Resource, session: AwsSession) -> None:
        missing = [name for name in ("name", "host", "port", "user") if name not in resource.outputs]
        if missing:
            raise NotApplied(f'database "{resource.key}" has no address yet', hint="run: platform apply")
        super().__init__(str(resource.outputs["name"]), self._url)
        self._resource = resource
        self._session = session
        self._password = ""
        self._is_ready = False

    def _connect(self) -> Connection:
        import psycopg

        try:
            connection = super()._connect()
        except psycopg.OperationalError as exc:
            if "password authentication failed" in str(exc):
                self._password = ""
            elif f'database "{self.name}" does not exist' in str(exc) and "instance" in self._resource.references:
                self._create_database()
            else:
                raise
            connection = super()._connect()
        if not self._is_ready:
            try:
                self._make_ready(connection)
            except BaseException:
                connection.close()
                raise
        return connection

    def _url(self) -> str:
        return self._url_of(self.name)

    def _url_of(self, database: str) -> str:
        """For psycopg and SQLAlchemy, the password included. What goes over a network is encrypted."""
        outputs = self._resource.outputs
        self._password = self._password or self._given_password()
        user, password = quote(str(outputs["user"]), safe=""), quote(self._password, safe="")
        host, port = str(outputs["host"]), outputs["port"]
        if host.startswith("/"):  # the folder of a socket
            return f"postgresql://{user}:{password}@/{quote(database, safe='')}?host={quote(host, safe='')}&port={port}"
        return f"postgresql://{user}:{password}@{host}:{port}/{quote(database, safe='')}?sslmode=require"

    def _given_password(self) -> str:
        """Out of Secrets Manager; of a server that is not managed here, what the file refers to."""
        arn = self._resource.outputs.get("secret_arn")
        if not arn:
            declared = self._session.secrets.put_in({"password": self._resource.spec.get("password") or ""})
            return str(declared["password"])
        with self._session.spoken("secretsmanager", f'the password of database "{self._resource.key}"'):
            client = self._session.client("secretsmanager", self._session.region_of(self._resource))
            text = client.get_secret_value(SecretId=arn)["SecretString"]
        password = _password_in(text, str(arn))
        masked.add(password)
        return password

    def _create_database(self) -> None:
        """On the server of another one, whose database is there."""
        import psycopg
        from psycopg import sql

        other = self._session.graph[self._resource.references["instance"]]
        url = self._url_of(str(other.outputs["name"]))
        with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
            try:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self.name)))
            except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                return  # another process was quicker

    def _make_ready(self, connection: Connection) -> None:
        if self._resource.spec.get("table"):
            _make_table(connection, self._resource)
        self._is_ready = True


def _password_in(text: str, arn: str) -> str:
    try:
        return str(json.loads(text)["password"])
    except (ValueError, TypeError, KeyError):  # whose text holds what it read
        raise ResourceFailed(f'the secret {arn} is no JSON object with a "password"') from None


def _make_table(connection: Connection, resource: Resource) -> None:
    """Make the declared table, or give it the columns that it lacks. Nothing of it is ever taken away here."""
    from buildflow.primitives.database import postgresql_table

    table = sink_table(resource)
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('_buildflow'))")
        there = {name for (name,) in connection.execute(_COLUMNS, [table.name]).fetchall()}
        held = [column for column in resource.columns if column.name in there]
        if there:
            for change in differences(held, resource.columns):
                if change.replaces or change.loses:
                    words = f'table "{table.name}" of database "{resource.key}": {change.words}'
                    hint = "give the column a default, or let it be empty; or change the table yourself"
                    raise ResourceFailed(f"{words}: {change.replaces or change.loses}", hint=hint)
            for statement in alter_statements(table.rows, held, resource.columns):
                connection.execute(statement)
        postgresql_table.create(connection, table)


def sink_table(resource: Resource) -> Any:
    """The `SinkTable` that is declared."""
    from buildflow.primitives.database.postgresql_table import SinkTable

    return SinkTable(resource.spec["table"], resource.columns, tuple(resource.spec.get("upsert") or ()))


def database_sink(resource: Resource, session: AwsSession) -> Sink:
    from buildflow.primitives.database.postgresql_sink import PostgreSQLSink

    if not resource.spec.get("table"):
        raise ResourceFailed(f'database "{resource.key}" has no `table` and no `columns` to write to')
    return PostgreSQLSink(RDSPool(resource, session), sink_table(resource))


def database_handle(resource: Resource, session: AwsSession) -> PostgreSQLDatabase:
    return PostgreSQLDatabase(RDSPool(resource, session))
