from dataclasses import dataclass


@dataclass
class Order:
    id: int
    customer_id: str


def work(order: Order): ...
