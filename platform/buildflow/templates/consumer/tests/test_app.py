"""The whole project in process: a real queue, a real table, the consumer beside them."""

from collections.abc import Iterator

import pytest

from buildflow.testing import App, app


@pytest.fixture
def shop() -> Iterator[App]:
    with app("buildflow.yaml") as running:
        yield running


def test_an_order_becomes_a_sale(shop: App) -> None:
    assert shop.http.post("/orders", json={"item": "tea", "amount": 2}).status_code == 202
    assert shop.rows("sales", at_least=1) == [{"item": "tea", "amount": 2, "total": 900}]
    assert shop.http.get("/sales").json() == [{"item": "tea", "amount": 2, "total": 900}]


def test_an_order_of_something_unknown_is_given_up_with_its_reason(shop: App) -> None:
    shop.send("orders", {"item": "gold"})
    (letter,) = shop.rows("failures", at_least=1)
    assert "there is no gold" in letter["error"]
    assert shop.rows("sales") == []
