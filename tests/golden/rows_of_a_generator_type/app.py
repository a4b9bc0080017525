from collections.abc import Generator
from dataclasses import dataclass


@dataclass
class Line:
    article: str
    colour: str


def work(job: dict) -> Generator[Line, None, None]:
    yield Line("a", "b")
