from dataclasses import dataclass
from enum import Enum


class State(Enum):
    NEW = "new"
    PAID = "paid"


@dataclass
class Sale:
    id: int
    state: State


def work(job: dict) -> Sale: ...
