from dataclasses import dataclass


@dataclass
class Sale:
    id: int


@dataclass
class Refund:
    number: int


def work(job: dict) -> Sale | Refund: ...
