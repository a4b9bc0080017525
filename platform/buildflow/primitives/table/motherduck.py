"""A MotherDuck database: DuckDB as a service, which many machines read and write.

It is written like a file of ours, without the locks of one: a transaction begins by taking its turn, in a row that two
cannot change at once. MotherDuck refuses one of them, and that one is tried again.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from buildflow.errors import ServiceUnavailable
from buildflow.providers.secrets import SecretResolver

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Connection
else:
    Connection = Any

T = TypeVar("T")

TOKEN = "MOTHERDUCK_TOKEN"
"""The secret that signs in."""
_TURNS = "_buildflow.turns"
_TRIES = 20


class MotherDuck:
    """One database, `md:name`. Thread-safe; a forked child connects for itself."""

    def __init__(self, name: str, secrets: SecretResolver) -> None:
        self.name = name
        self._secrets = secrets
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._instance: Connection | None = None
        self._prepared = False

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees what is committed."""
        cursor = self._cursor()
        try:
            yield cursor
        finally:
            cursor.close()

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction of its own; its result, once that is durable. It runs again when another
        machine was quicker."""
        import duckdb

        for left in reversed(range(_TRIES)):
            try:
                with self.reading() as connection:
                    return self._transact(connection, work)
            except duckdb.TransactionException:
                if not left:
                    raise
            time.sleep(random.uniform(0.01, 0.2))
        raise AssertionError("the last try answers or raises")

    def _transact(self, connection: Connection, work: Callable[[Connection], T]) -> T:
        if not self._prepared:
            connection.execute("CREATE SCHEMA IF NOT EXISTS _buildflow")
            connection.execute(f"CREATE TABLE IF NOT EXISTS {_TURNS} (number BIGINT)")
            connection.execute(f"INSERT INTO {_TURNS} SELECT 0 WHERE NOT EXISTS (FROM {_TURNS})")
            self._prepared = True
        connection.execute("BEGIN")
        try:
            connection.execute(f"UPDATE {_TURNS} SET number = number + 1")
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            _roll_back(connection)
            raise
        return result

    def _cursor(self) -> Connection:
        if self._pid != os.getpid():
            _inherited.append(self._instance)
            self._begin()
        with self._lock:
            if self._instance is None:
                self._instance = self._connected()
            return self._instance.cursor()

    def _connected(self) -> Connection:
        import duckdb

        try:
            instance = connect(self.name, self._secrets.get(TOKEN))
            instance.execute("SET GLOBAL TimeZone = 'UTC'")
        except duckdb.Error as exc:
            words = f"MotherDuck does not answer for {self.name}: {self._secrets.masked(str(exc))}"
            hint = f"look at the secret {TOKEN}, and whether there is such a database"
            raise ServiceUnavailable(words, hint=hint) from None  # whose text may hold the token
        return instance


def connect(name: str, token: str) -> Connection:
    import duckdb

    return duckdb.connect(name, config={"motherduck_token": token})


def _roll_back(connection: Connection) -> None:
    import duckdb

    try:
        connection.execute("ROLLBACK")
    except duckdb.TransactionException:
        return  # it has ended by itself


_inherited: list[Any] = []
"""Connections of a parent, never touched."""

_opened: dict[str, MotherDuck] = {}


def motherduck(name: str, secrets: SecretResolver) -> MotherDuck:
    """This process's way to a database."""
    return _opened.setdefault(name, MotherDuck(name, secrets))
