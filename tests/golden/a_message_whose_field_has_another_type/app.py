from dataclasses import dataclass
from pydantic import BaseModel


@dataclass
class Order:
    id: int
    total: float
    note: str | None = None


class OrderModel(BaseModel):
    id: str
    total: float


def work(order: OrderModel): ...
