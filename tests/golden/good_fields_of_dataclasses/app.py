from dataclasses import KW_ONLY, dataclass, field
from typing import ClassVar, NamedTuple

from pydantic import BaseModel, Field

LATER = field()


def made():
    return field()


@dataclass(kw_only=True)
class Named:
    a: int = 1
    b: int


@dataclass
class Mixed:
    known: ClassVar[list[int]] = []
    total: ClassVar[int] = 0
    a: int = field(init=False, default=1)
    b: int
    d: int = field(kw_only=True, default=2)
    e: int
    f: list[int] = field(default_factory=list)
    _: KW_ONLY
    g: int


@dataclass
class Other:
    a: int = LATER
    b: int = made()
    c: int


@dataclass
class Base:
    a: int
    b: int = 1


@dataclass
class Child(Base):
    c: int = 1
    a: int


class Model(BaseModel):
    a: int = 1
    b: int
    c: list[int] = []
    d: int = Field(default=1)
    e: int


class Point(NamedTuple):
    x: int
    y: int = 0


def index() -> str: ...
