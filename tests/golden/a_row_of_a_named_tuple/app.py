from typing import NamedTuple


class Sale(NamedTuple):
    id: int
    amount: float


def work(job: dict) -> Sale: ...
