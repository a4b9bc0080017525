from typing import NotRequired, Required, TypedDict

import typing_extensions as te


class Base(TypedDict, total=False):
    id: Required[int]
    note: str


class Sale(Base):
    total: float
    tags: NotRequired[list[str]]


class Other(te.TypedDict):
    id: int
    total: float


def work(job: dict) -> Sale:
    return {"id": 1, "total": 2.0}


def other(job: dict) -> list[Other]:
    return [Other(id=1, total=2.0)]
