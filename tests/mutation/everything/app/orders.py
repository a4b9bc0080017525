"""Orders, from the first request to the last export."""

from collections.abc import Iterator
from dataclasses import dataclass

from app.shared import Settings, User
from buildflow.types import Bucket, FileChangeEvent, Tick


@dataclass
class Order:
    number: int
    customer: str
    total: float = 0.0


@dataclass
class Refund:
    number: int
    amount: float
    note: str | None = None


@dataclass
class Entry:
    number: int
    customer: str
    total: float


def one(number: int, session, settings: Settings) -> Order: ...


def create(order: Order, store: Bucket, who, user: User) -> Order: ...


def file(path: str, images: Bucket) -> bytes: ...


def check(order: Order, http) -> Order | None: ...


def divide(order: Order) -> Iterator[Order | Refund]: ...


def ship(order: Order) -> Entry: ...


def resize(event: FileChangeEvent, images: Bucket) -> Order: ...


def report(tick: Tick, session) -> Order: ...


def look(tick: Tick, settings: Settings) -> None: ...
