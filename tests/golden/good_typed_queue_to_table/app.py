from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypedDict

from buildflow.types import Message
from pydantic import BaseModel


@dataclass
class Order:
    id: int
    customer: str
    total: float


class OrderModel(BaseModel):
    id: int
    customer: str
    total: float


class OrderDict(TypedDict):
    id: int
    customer: str
    total: float


@dataclass
class Sale:
    order: int
    total: float
    at: datetime


def create(order: Order) -> OrderModel: ...
def sell(orders: list[Message[OrderDict]]) -> list[Sale]:
    return [Sale(o.data["id"], o.data["total"], datetime.now(UTC)) for o in orders]
