"""The same routes as a person writes them with FastAPI: `uvicorn benchmarks.hand_written:app`."""

from typing import Any

from fastapi import FastAPI

from benchmarks.route_handlers import Order

app = FastAPI()


@app.get("/hello")
async def hello() -> dict[str, str]:
    return {"hello": "world"}


@app.get("/items/{item_id}")
async def item(item_id: int, q: str | None = None) -> dict[str, Any]:
    return {"item_id": item_id, "q": q}


@app.post("/orders")
async def order(order: Order) -> Order:
    return order


@app.get("/in-a-thread")
def in_a_thread() -> dict[str, str]:
    return {"hello": "world"}
