from dataclasses import dataclass


@dataclass
class Point:
    x: int
    y: int


@dataclass
class Row:
    id: int
    price: int
    place: Point
    extra: dict[str, int]
    text: str


def work(job) -> Row: ...
