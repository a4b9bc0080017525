"""Messages as bytes, held against the type that their queue or topic declares."""

import sys
import types
from dataclasses import dataclass
from typing import Any, TypedDict

import pytest
from pydantic import BaseModel, Field

from buildflow.errors import BadMessage, HandlerRejected, InvalidRow
from buildflow.ir.graph import Resource, ResourceGraph
from buildflow.primitives.messages import encode, encoder


@dataclass
class Line:
    sku: str
    amount: int = 1


@dataclass
class Order:
    id: int
    lines: list[Line]


class Aliased(BaseModel):
    number: int = Field(alias="orderNumber")


class Draft(TypedDict):
    id: int


class Clock:
    def __init__(self, zone: str) -> None:
        self.zone = zone


@pytest.fixture(autouse=True)
def schemas(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("schemas_of_messages")
    vars(module).update(Order=Order, Aliased=Aliased, Draft=Draft, Clock=Clock)
    monkeypatch.setitem(sys.modules, "schemas_of_messages", module)


def graph(message: str | None) -> ResourceGraph:
    declared = f"schemas_of_messages:{message}" if message else None
    same: dict[str, Any] = {"provider": "local", "name": "n", "id": "i", "label": "l"}
    return ResourceGraph(
        project="shop",
        stack="local",
        resources=(
            Resource(key="orders", type="queue", spec={"message": declared}, **same),
            Resource(key="news", type="topic", spec={"message": declared}, **same),
            Resource(key="mine", type="subscription", spec={"topic": "news"}, references={"topic": "news"}, **same),
        ),
    )


def encoded(message: str | None, body: Any, key: str = "orders") -> bytes:
    found = graph(message)
    return encoder(found[key], found)(body)


@pytest.mark.parametrize(
    "body", [Order(1, [Line("a")]), {"id": 1, "lines": [{"sku": "a"}]}, '{"id":1,"lines":[]}', b'{"id":1,"lines":[]}']
)  # fmt: skip
def test_a_message_of_the_declared_type_goes_out_as_it_would_untyped(body: Any) -> None:
    assert encoded("Order", body) == encode(body) == encoded(None, body)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"lines": []}, '"id" is missing'),
        (
            {"id": "x", "lines": []},
            '"id": input should be a valid integer, unable to parse string as an integer, not "x"',
        ),
        ({"id": 1, "lines": [{"amount": 2}]}, '"lines.0.sku" is missing'),
        (Order("x", []), '"id": input should be'),  # type: ignore[arg-type]
        (Line("a"), '"id" is missing; "lines" is missing'),
        ("no JSON", "invalid JSON: expected ident at line 1 column 2"),
        (b"", "invalid JSON: EOF while parsing a value at line 1 column 0"),
        ([1], "should be an object"),
    ],
)  # fmt: skip
def test_another_message_is_refused_and_the_field_named(body: Any, why: str) -> None:
    with pytest.raises(BadMessage) as caught:
        encoded("Order", body)
    assert str(caught.value).startswith('"orders" carries Order: ')
    assert why in str(caught.value)
    assert "http" not in str(caught.value)


def test_a_subscription_carries_what_its_topic_does() -> None:
    for key in ("news", "mine"):
        with pytest.raises(BadMessage, match='"news" carries Draft: "id" is missing'):
            encoded("Draft", {}, key)


def test_a_model_with_aliases_reads_itself_back() -> None:
    assert encoded("Aliased", Aliased(orderNumber=1)) == b'{"orderNumber":1}'
    with pytest.raises(BadMessage, match='"orderNumber" is missing'):
        encoded("Aliased", {"number": 1})


def test_many_complaints_are_counted() -> None:
    body = {"id": 1, "lines": [{}] * 8}
    with pytest.raises(BadMessage, match=r'"lines\.4\.sku" is missing; and 3 more$'):
        encoded("Order", body)


def test_what_is_no_json_is_refused_as_before() -> None:
    with pytest.raises(InvalidRow, match="cannot be sent as JSON"):
        encoded("Order", {"id": object()})


def test_a_type_that_no_json_can_be_read_as() -> None:
    with pytest.raises(HandlerRejected, match=':Clock, which "orders" carries, cannot be read from JSON') as caught:
        encoded("Clock", {})
    assert "dataclass" in caught.value.hint
