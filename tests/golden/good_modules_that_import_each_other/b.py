from __future__ import annotations

from dataclasses import dataclass

import a


@dataclass
class Entity:
    id: int


@dataclass
class Customer(Entity):
    orders: list[a.Order]
    first: a.Order | None = None
