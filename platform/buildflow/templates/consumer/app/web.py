"""The routes: one that sends, one that reads. `orders` is the queue, `sales` the table."""

from typing import Any

from app.orders import Order
from buildflow.types import Queue, Table


def order(order: Order, orders: Queue) -> dict[str, str]:
    """Put an order into the queue. Once this has answered, the order is not lost."""
    return {"id": orders.send(order)}


def list_sales(sales: Table) -> list[dict[str, Any]]:
    return sales.rows(order_by="item")
