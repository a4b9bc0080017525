from dataclasses import dataclass


@dataclass
class Order:
    id: str
    customer: str


@dataclass
class Sale:
    kind: str


def divide(order: Order) -> Sale: ...
