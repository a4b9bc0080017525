from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, List, Optional, Tuple, Union
import typing as t


@dataclass
class Row:
    id: int


Rows = list[Row]
Maybe = Optional[Row]


def plain(e: dict) -> Row: ...
def maybe(e: dict) -> Maybe: ...
def union(e: dict) -> Union[Row, List[Row], None]: ...
def alias(e: dict) -> Rows: ...
def annotated(e: dict) -> Annotated[Row, "a row"]: ...
def text(e: dict) -> "Row | None": ...
def nested(e: dict) -> "list['Row']": ...
def pair(e: dict) -> Tuple[Row, Row]: ...
def many(e: dict) -> tuple[Row, ...]: ...
def sequence(e: dict) -> Sequence[Row]: ...
def iterable(e: dict) -> t.Iterable[Row]: ...
def mapping(e: dict) -> dict[str, Any]: ...
def mappings(e: dict) -> list[dict]: ...
def anything(e: dict) -> Any: ...
def unsaid(e: dict): ...


def iterator(e: dict) -> Iterator[Row]:
    yield Row(1)


def generator(e: dict) -> Generator[Row, None, None]:
    yield Row(1)


async def coroutine(e: dict) -> Row | None: ...


async def async_iterator(e: dict) -> AsyncIterator[Row]:
    yield Row(1)


async def async_generator(e: dict) -> AsyncGenerator[Row, None]:
    yield Row(1)


async def async_iterable(e: dict) -> AsyncIterable[Row]:
    yield Row(1)


def unsaid_generator(e: dict):
    yield Row(1)
