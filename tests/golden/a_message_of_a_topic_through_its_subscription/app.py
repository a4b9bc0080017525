from dataclasses import dataclass


@dataclass
class Order:
    id: int


@dataclass
class Refund:
    reason: str


def work(refund: Refund): ...
def create(id: int) -> Refund: ...
