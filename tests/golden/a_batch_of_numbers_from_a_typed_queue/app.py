from dataclasses import dataclass


@dataclass
class Order:
    id: int


def work(order: list[int]): ...
