from dataclasses import dataclass


@dataclass
class Order:
    number: int
    customer: str


def work(order: Order) -> None: ...
