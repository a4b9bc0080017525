import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Line:
    article: str
    amount: int = 1


@dataclass
class Order:
    id: int
    lines: list[Line] = field(default_factory=list)
    note: str | None = None


@contextmanager
def connection(path: str) -> Iterator[sqlite3.Connection]:
    made = sqlite3.connect(path)
    try:
        yield made
    finally:
        made.close()


def order(id: int, connection: sqlite3.Connection) -> Order | None: ...
def orders(connection: sqlite3.Connection, customer: str | None = None, page: int = 1) -> list[Order]: ...
