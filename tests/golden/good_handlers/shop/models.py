from __future__ import annotations
from datetime import datetime
from typing import Annotated, ClassVar, Literal, Optional
from pydantic import BaseModel, ConfigDict, Field


class Line(BaseModel):
    article: str
    amount: Annotated[int, Field(gt=0)] = 1


class Entity(BaseModel):
    model_config = ConfigDict(frozen=True)
    table: ClassVar[str] = "orders"
    id: int


class Order(Entity):
    state: Literal["new", "paid"] = "new"
    lines: list[Line] = Field(default_factory=list)
    paid_at: Optional[datetime] = None
    price: float
    extra: dict[str, object] | None
