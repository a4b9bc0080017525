"""A queue with a `message` type: whichever way a message comes, one of another type is refused, and nothing is sent."""

from pathlib import Path

import pytest

from buildflow.errors import BadMessage
from buildflow.testing import app
from tests.harness import platform, project

YAML = """
project: shop
primitives:
  typed_orders: {type: queue, message: typed_shop:Order}
  drafts: {type: queue}
  loose: {type: queue}
  placed: {type: table, columns: typed_shop:Order}
routes:
  POST /orders/{id}: typed_shop:send
consumers:
  place: {source: typed_orders, handler: typed_shop:place, sink: placed}
  read: {source: loose, handler: typed_shop:place, sink: placed}
  check: {source: drafts, handler: typed_shop:check, sink: typed_orders, retry: {attempts: 1}}
"""
HANDLERS = """
from dataclasses import dataclass
from buildflow.types import Queue

@dataclass
class Order:
    id: int
    customer: str

def send(id: str, typed_orders: Queue) -> str:
    return typed_orders.send({"id": id, "customer": "ada"})

def place(order: Order) -> Order:
    return order

def check(draft: dict) -> dict:
    return draft
"""


def test_in_a_test_by_a_handler_and_by_a_sink(tmp_path: Path) -> None:
    project(tmp_path, YAML, typed_shop=HANDLERS)
    with app(tmp_path / "buildflow.yaml") as a:
        with pytest.raises(BadMessage, match='"typed_orders" carries Order: "customer" is missing'):
            a.send("typed_orders", {"id": 1})
        refused = a.http.post("/orders/x")
        assert refused.status_code == 422
        assert refused.json()["detail"].startswith('"typed_orders" carries Order: "id": ')
        a.send("drafts", {"id": 2})
        dead = a.dead_letters("check", at_least=1)
        assert dead[0].error == 'BadMessage: "typed_orders" carries Order: "customer" is missing'
        a.send("loose", {"id": 2})
        unread = a.dead_letters("read", at_least=1)[0]
        assert unread.error == 'Undecodable: the element cannot be decoded: "customer" is missing'
        assert "http" not in unread.traceback
        a.send("typed_orders", {"id": 3, "customer": "eve"})
        assert a.http.post("/orders/4").status_code == 200
        assert [row["id"] for row in a.rows("placed", at_least=2)] == [3, 4]


def test_on_the_command_line(tmp_path: Path) -> None:
    project(tmp_path, YAML, typed_shop=HANDLERS)
    assert platform(tmp_path, "apply", "--yes").returncode == 0
    good, bad = '{"id": 1, "customer": "ada"}', '{"id": "x", "customer": "ada"}'
    refused = platform(tmp_path, "send", "typed_orders", good, bad)
    assert refused.returncode == 1
    assert 'error: "typed_orders" carries Order: "id": input should be a valid integer' in refused.stderr
    assert "sent" not in refused.stderr + refused.stdout
    sent = platform(tmp_path, "send", "typed_orders", input=f"{good}\n{good}\n")
    assert sent.returncode == 0, sent.stderr
    assert "sent 2 to typed_orders" in sent.stderr
    counted = platform(tmp_path, "status", "--json")
    assert '"backlog": 2' in counted.stdout
