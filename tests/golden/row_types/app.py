from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

@dataclass
class Order:
    id: UUID
    price: Decimal
    names: list[str | None]
    note: str

@dataclass
class Empty: ...

@dataclass
class Tree:
    name: str
    children: list["Tree"]

def work(job) -> Order: ...
