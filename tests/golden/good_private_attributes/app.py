from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, PrivateAttr


class Named:
    """A plain class: its annotations are no fields of a dataclass."""

    label: str


class Sale(BaseModel):
    id: int
    total: float
    _cache: dict[str, Any] = PrivateAttr(default_factory=dict)
    _seen: bool = False


@dataclass
class Line(Named):
    article: int
    amount: int = field(init=False, default=1)

    total = 0


def sale(job: dict) -> Sale: ...
def line(job: dict) -> Line: ...
