from __future__ import annotations
from collections.abc import AsyncIterator, Iterator
import functools
import buildflow.types as t
from buildflow.types import FileChangeEvent, Message
from shop import Order
from .rows import *
from . import rows


class Temporary(OSError): ...


def order(id: int, session, orders: t.Table, page: int = 1) -> Order: ...


async def file(path: str, images: "t.Bucket"): ...


def create(body: Order) -> rows.Row: ...


def one(store: t.Bucket): ...


def one_event(file_event: FileChangeEvent, clock, folder, connection) -> Row | None: ...


def many_events(events: list[t.FileChangeEvent]) -> Iterator[Order]:
    yield Order(id=1)


async def stream(job: dict) -> AsyncIterator[TypedOrder]:
    yield {"id": 1}


def tuple_(job: bytes) -> tuple[NamedOrder, ...]: ...


def anything(job): ...


def trace(function):
    return functools.wraps(function)(function)


@trace
def wrapped(job, whatever): ...


def message(message: Message[Order], *, retries: int = 3) -> None: ...
