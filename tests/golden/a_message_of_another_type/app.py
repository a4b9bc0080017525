from dataclasses import dataclass


@dataclass
class Order:
    id: int
    total: float


@dataclass
class Refund:
    id: int
    reason: str


def refund(refund: Refund): ...
