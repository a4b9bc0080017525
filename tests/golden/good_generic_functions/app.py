from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

from pydantic import BaseModel

T = TypeVar("T", bound=BaseModel)
P = ParamSpec("P")


class Row(BaseModel):
    id: int


class Page(BaseModel, Generic[T]):
    items: list[T]
    next: str | None = None


class Rows(Protocol[T]):
    def rows(self) -> list[T]: ...


def same(job: T) -> T: ...
def page(job: dict) -> Page[Row]: ...
def protocol(job: dict) -> Rows[Row]: ...
def callback(job: dict) -> Callable[P, Awaitable[Row]]: ...
async def coroutine(job: dict) -> Coroutine[Any, Any, Row]: ...
def read(page: int = 1) -> Page[Row]: ...
