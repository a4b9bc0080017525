"""The `Database` that a handler gets."""

from collections.abc import Sequence
from typing import Any

from buildflow.primitives.database.postgresql_pool import Pool


class PostgreSQLDatabase:
    """Safe in threads and after a fork: each statement takes a connection of its process's pool."""

    def __init__(self, pool: Pool) -> None:
        self.name = pool.name
        self._pool = pool

    @property
    def url(self) -> str:
        return self._pool.url()

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        from psycopg.rows import dict_row

        with self._pool.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute(sql.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        with self._pool.connection() as connection, connection.transaction():
            return max(connection.execute(sql.encode(), parameters or None).rowcount, 0)

    def read(self, sql: str) -> list[dict[str, Any]]:
        """The rows of one statement that only reads: any other is refused by the server."""
        from psycopg.rows import dict_row

        with self._pool.connection() as connection, connection.transaction():
            connection.execute("SET TRANSACTION READ ONLY")
            with connection.cursor(row_factory=dict_row) as cursor:
                cursor.execute(sql.encode(), prepare=True)  # which takes one statement: no COMMIT slips in
                return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        self._pool.close()
