"""One process's connections to one database, and psycopg's errors in the platform's tree.

`import psycopg` takes a quarter of a second, so nothing here imports it before a connection is made.
"""

import os
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from buildflow.errors import BuildflowError, InvalidRow, ResourceFailed, ServiceUnavailable

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[tuple[Any, ...]]
else:
    Connection = Any

LIMIT = 8
"""Connections of one process at once; whoever needs one more waits. A server takes 100 unless told otherwise."""
_CONNECT_SECONDS = 5
_PASSES = ("08", "40", "53", "55P03", "57", "58")
"""Lost connections, rolled back transactions, lacking resources, locks that were not had, a server that ends or that
the machine fails. Source: https://www.postgresql.org/docs/current/errcodes-appendix.html"""


class Pool:
    """Connections in autocommit mode: made when they are needed, kept, made anew after the server was away and in
    a child after a fork. `revive` starts a server that is gone."""

    def __init__(self, name: str, url: Callable[[], str], revive: Callable[[], None] | None = None) -> None:
        self.name = name
        self.url = url
        self._revive = revive
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._idle: list[Connection] = []
        self._free = threading.BoundedSemaphore(LIMIT)

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection for one use. What psycopg raises meanwhile comes out in the platform's words."""
        if self._pid != os.getpid():
            _inherited.extend(self._idle)
            self._begin()
        with self._free, in_words(self.name):
            connection = self._taken()
            try:
                yield connection
            finally:
                if connection.closed:
                    connection.close()
                else:
                    self._idle.append(connection)

    def close(self) -> None:
        while self._pid == os.getpid() and self._idle:
            self._idle.pop().close()

    def _taken(self) -> Connection:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self._connect()
            if not _has_spoken(connection):
                return connection
            connection.close()

    def _connect(self) -> Connection:
        import psycopg

        try:
            return psycopg.connect(self.url(), autocommit=True, connect_timeout=_CONNECT_SECONDS)
        except psycopg.OperationalError as exc:
            if self._revive is None or "does not exist" in str(exc):
                raise
        self._revive()
        return psycopg.connect(self.url(), autocommit=True, connect_timeout=_CONNECT_SECONDS)


_inherited: list[Connection] = []
"""Connections of a parent, never touched: to close one here would say goodbye in the parent's name."""


def _has_spoken(connection: Connection) -> bool:
    """Whether the server said something to a connection that asked nothing: that it leaves, or that it has left."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


@contextmanager
def in_words(name: str) -> Iterator[None]:
    """psycopg's errors about the database of that name, in the platform's tree."""
    try:
        yield
    except Exception as exc:
        import psycopg

        if not isinstance(exc, psycopg.Error):
            raise
        words = _said(exc)
        if isinstance(exc, psycopg.IntegrityError | psycopg.DataError):
            raise InvalidRow(f'database "{name}": {words}') from exc
        missing = isinstance(exc, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn)
        if missing or (exc.sqlstate is None and "does not exist" in words):
            raise ResourceFailed(f'database "{name}" is not as declared: {words}', hint="run: platform apply") from exc
        if (exc.sqlstate or "08000").startswith(_PASSES):
            raise ServiceUnavailable(f'database "{name}" does not answer: {words}') from exc
        raise BuildflowError(f'database "{name}" refuses: {words}') from exc


def _said(exc: Any) -> str:
    """The server's words on one line, without the SQL."""
    primary = exc.diag.message_primary
    if not primary:
        return " ".join(str(exc).split())
    detail = exc.diag.message_detail
    return f"{primary} ({detail.rstrip('.')})" if detail else str(primary)
