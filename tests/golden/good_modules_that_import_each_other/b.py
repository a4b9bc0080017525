from __future__ import annotations

from a import *
import a
from pydantic import BaseModel


class Entity(BaseModel):
    id: int


class Customer(Entity):
    orders: list[a.Order] = []
    first: a.Order | None = None
