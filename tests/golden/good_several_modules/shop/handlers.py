from __future__ import annotations

import typing

import buildflow.types as bt

import shop.models.orders as o
from shop import models

if typing.TYPE_CHECKING:
    from shop.models import Receipt


def work(order: models.Order, receipts: bt.Table) -> Receipt: ...


class Web:
    class Api:
        @staticmethod
        def order(id: int) -> o.Order: ...
