import dataclasses as dc
from dataclasses import dataclass
from functools import total_ordering

from pydantic import ConfigDict, RootModel
from pydantic.dataclasses import dataclass as checked


def registered(cls):
    return cls


@total_ordering
@dataclass(order=False, eq=True)
class A:
    id: int

    def __lt__(self, other: "A") -> bool: ...


@checked(config=ConfigDict(extra="forbid"))
class B:
    id: int


@registered
@dc.dataclass(frozen=True)
class C:
    id: int
    tags: dc.InitVar[str] = ""


@registered
class D:
    id: str


Ids = RootModel[list[int]]


def a(job) -> A: ...
def b(job) -> B: ...
def c(job) -> C: ...
def d(job) -> D: ...
def e(job) -> Ids: ...
