from dataclasses import dataclass
from enum import Enum, IntEnum, StrEnum
from typing import Final, Literal, NewType, TypeAlias

CustomerId = NewType("CustomerId", int)
Price: TypeAlias = float
Tags: TypeAlias = "list[str]"


class State(StrEnum):
    NEW = "new"


class Level(int, Enum):
    LOW = 1


class Rank(IntEnum):
    FIRST = 1


@dataclass
class Row:
    id: CustomerId
    price: Price
    state: Literal["new", "paid"]
    tags: Tags
    fixed: Final[int] = 1
    whole: int = 0


@dataclass
class Returned:
    id: CustomerId
    price: int
    state: State
    tags: set[str]
    fixed: Level = Level.LOW
    whole: Rank = Rank.FIRST


def work(job: dict) -> Returned: ...
