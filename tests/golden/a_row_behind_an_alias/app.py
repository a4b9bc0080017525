from dataclasses import dataclass
from typing import Annotated


@dataclass
class Sale:
    id: int


Rows = list[Annotated["Sale", "sold"]]


def work(job: dict) -> "Rows | None": ...
