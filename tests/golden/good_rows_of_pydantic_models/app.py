from datetime import datetime
from typing import Annotated, ClassVar, Generic, Literal, Optional, TypeVar

from pydantic import BaseModel, ConfigDict, Field, computed_field, field_validator

T = TypeVar("T")


class Entity(BaseModel, Generic[T]):
    model_config = ConfigDict(extra="forbid")
    kind: ClassVar[str] = "sale"
    id: Annotated[int, Field(gt=0)]


class Line(BaseModel):
    article: str = Field(min_length=1)
    amount: int = Field(1, ge=1)


class Sale(Entity[int]):
    state: Literal["new", "paid"] = "new"
    lines: list[Line] = Field(default_factory=list)
    sold_at: Optional[datetime] = None
    total: float

    @field_validator("total")
    @classmethod
    def _positive(cls, value: float) -> float:
        return value

    @computed_field
    @property
    def net(self) -> float:
        return self.total / 1.19


async def work(job: dict) -> Sale | None: ...
