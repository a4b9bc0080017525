from dataclasses import dataclass


@dataclass
class Order:
    id: int
    total: float


def create(order: Order) -> Order: ...
def store(order: Order) -> Order: ...
