from __future__ import annotations

from dataclasses import KW_ONLY, InitVar, dataclass, field
from datetime import date, datetime, time
from typing import ClassVar, Optional


@dataclass(slots=True)
class Line:
    article: str
    amount: int = 1


@dataclass(frozen=True)
class Entity:
    table: ClassVar[str] = "sales"
    id: int


@dataclass(kw_only=True, frozen=True)
class Sale(Entity):
    sold_at: datetime
    day: date
    hour: time
    total: float
    receipt: bytes = b""
    paid: bool = False
    lines: list[Line] = field(default_factory=list)
    tags: tuple[str, ...] = ()
    extra: dict[str, object] = field(default_factory=dict)
    note: Optional[str] = None
    first: Line | None = None
    _: KW_ONLY
    seed: InitVar[int] = 0

    @property
    def net(self) -> float:
        return self.total / 1.19


def work(job) -> Sale: ...
