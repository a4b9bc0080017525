from dataclasses import dataclass
from decimal import Decimal


@dataclass
class Sale:
    id: int
    total: Decimal


def work(job: dict) -> Sale: ...
