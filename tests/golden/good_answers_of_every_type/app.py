from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, Generic, NamedTuple, Optional, TypeVar, Union
from uuid import UUID

from buildflow.responses import JSONResponse, Response
from pydantic import BaseModel
from typing_extensions import TypedDict

T = TypeVar("T")


class State(Enum):
    NEW = "new"


class Model(BaseModel):
    id: UUID
    state: State = State.NEW


class Typed(TypedDict):
    id: int


class Named(NamedTuple):
    id: int


@dataclass
class Data:
    at: datetime
    total: Decimal


class Page(BaseModel, Generic[T]):
    items: list[T]


def a() -> Model | None: ...
def b() -> list[Data]: ...
def c() -> dict[str, Typed]: ...
def d() -> Named: ...
def e() -> Page[Model]: ...
def f() -> Union[Model, Data, str]: ...
def g() -> Response: ...
def h() -> Optional[int]: ...
def i() -> Any: ...
def j(): ...
def k() -> State: ...
def l() -> tuple[int, str]: ...
def m() -> Path: ...
async def n() -> set[UUID]: ...
def o() -> None: ...
