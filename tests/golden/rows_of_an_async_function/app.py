from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Line:
    article: int


async def work(job: dict) -> list[Line]: ...
