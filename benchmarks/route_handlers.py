"""The routes that `gateway_routes` measures: plain functions, for the gateway and for FastAPI alike."""

from typing import Any

from pydantic import BaseModel


class Order(BaseModel):
    id: int
    customer: str
    items: list[str]
    total: float
    note: str | None = None


async def hello() -> dict[str, str]:
    return {"hello": "world"}


async def item(item_id: int, q: str | None = None) -> dict[str, Any]:
    return {"item_id": item_id, "q": q}


async def order(order: Order) -> Order:
    return order


def in_a_thread() -> dict[str, str]:
    return {"hello": "world"}
