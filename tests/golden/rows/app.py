from collections.abc import Iterator
from dataclasses import dataclass

@dataclass
class Line:
    article: str
    amount: int

@dataclass
class Order:
    id: int
    price: float
    lines: list[Line]
    note: str | None = None

@dataclass
class WithoutPrice:
    id: int
    lines: list[Line]

@dataclass
class Note:
    id: int
    tags: list[str]
    colour: str

@dataclass
class TypedNote:
    id: str
    text: str
    tags: str

@dataclass
class MaybeOrder(Order):
    price: float | None

@dataclass
class ShortLine:
    article: int

@dataclass
class NestedOrder:
    id: int
    price: int
    lines: list[ShortLine]

def nothing() -> None: ...
def right(job) -> Iterator[Order] | None: ...
def missing(job) -> WithoutPrice: ...
def surplus(job) -> Note: ...
def types(job) -> list[TypedNote]: ...
def nullable(job) -> MaybeOrder: ...
def nested(job) -> NestedOrder | None: ...
def text(job) -> str: ...
def anything(job): ...
