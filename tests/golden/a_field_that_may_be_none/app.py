from dataclasses import dataclass
from typing import Optional


@dataclass
class Sale:
    id: int
    customer: Optional[str] = None


def work(job: dict) -> Sale | None: ...
