from __future__ import annotations

from dataclasses import dataclass

from .base import Entity


@dataclass
class Sale(Entity):
    total: float


def work(job: dict) -> Sale: ...
