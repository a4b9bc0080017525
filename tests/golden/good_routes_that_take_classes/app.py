from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Generic, TypeVar

from fastapi import Depends, Request
from pydantic import PlainValidator

T = TypeVar("T")


class Clock:
    def __init__(self) -> None: ...


class Colour(Enum):
    RED = "red"


class Known:
    @classmethod
    def __get_pydantic_core_schema__(cls, source, handler): ...


class Own(Request): ...
class Page(Generic[T]): ...


def changed(cls):
    return dataclass(cls)


@changed
class Decorated:
    id: int


def make() -> Clock: ...
def now(clock: Clock) -> str: ...
def marked(other: Annotated[Clock, Depends(make)]) -> str: ...
def read(other: Annotated[Clock, PlainValidator(lambda text: Clock())]) -> str: ...
def colour(tone: Colour) -> str: ...
def schema(one: Known) -> str: ...
def inherited(request: Own) -> str: ...
def decorated(one: Decorated) -> str: ...
def page(one: Page[int]) -> str: ...
