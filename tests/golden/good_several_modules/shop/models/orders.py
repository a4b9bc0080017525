from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Entity

if TYPE_CHECKING:
    from ..customers import Customer


class Order(Entity):
    customer: Customer
    total: float


class Receipt(Entity):
    order: Order
