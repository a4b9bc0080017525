from typing import NamedTuple


class Point(NamedTuple):
    x: int = 0
    y: int


def index() -> str: ...
