from dataclasses import dataclass


@dataclass
class Order:
    id: str
    customer: str


@dataclass
class Refund:
    id: str


@dataclass
class Sale:
    kind: str


def slow(): ...


def divide(order: Order) -> Refund | Sale: ...
