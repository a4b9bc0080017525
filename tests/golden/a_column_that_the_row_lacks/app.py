from dataclasses import dataclass


@dataclass
class Sale:
    id: int
    customer: str


def work(job: dict) -> Sale: ...
