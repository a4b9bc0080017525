from collections.abc import AsyncIterator
from dataclasses import dataclass


@dataclass
class Line:
    article: int


async def work(job: dict) -> AsyncIterator[Line]:
    yield Line(1)
