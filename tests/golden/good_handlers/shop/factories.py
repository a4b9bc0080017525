from collections.abc import Iterator
from contextlib import contextmanager
try:
    from _socket import socket as connect
except ImportError:
    connect = None


class Base:
    @staticmethod
    def open(path): ...


class Store(Base): ...


def engine(): ...


@contextmanager
def session(engine) -> Iterator[object]:
    yield engine
