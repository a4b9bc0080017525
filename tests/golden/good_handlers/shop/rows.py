from dataclasses import dataclass, field
from typing import NamedTuple, NotRequired, TypedDict
from shop import models as m


@dataclass
class Base:
    id: int


@dataclass(kw_only=True)
class Order_(Base):
    name: "str"
    größe: "float | None" = None
    tags: tuple[str, ...] = ()
    parts: "list[Part]" = field(default_factory=list)
    count: int = 3


@dataclass
class Part:
    line: "m.Line"


Row = Order_


class TypedOrder(TypedDict):
    id: int
    note: NotRequired[str]


class NamedOrder(NamedTuple):
    id: int
    data: bytes = b""
