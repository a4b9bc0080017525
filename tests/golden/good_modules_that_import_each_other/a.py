from __future__ import annotations

from dataclasses import dataclass

import b
from b import Entity


@dataclass
class Order(Entity):
    customer: b.Customer


def work(job: dict) -> Order: ...
