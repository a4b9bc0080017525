from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Literal, NewType, Optional, Union
from uuid import UUID

from buildflow.requests import Path

CustomerId = NewType("CustomerId", int)
Positive = Annotated[int, Path(gt=0)]


class State(Enum):
    NEW = "new"


def a(id: UUID, day: date, at: datetime): ...
def b(state: State, kind: Literal["in", "out"], price: Decimal): ...
def c(id: CustomerId, n: Positive, path: Annotated[str, Path(max_length=9)]): ...
def d(id, either: Union[int, str], maybe: Optional[int]): ...
def e(id: int = Path(ge=1), *, name: "str"): ...
