"""`queue` on the local stack: what the driver creates, sends, and refuses."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel, Field

from buildflow.errors import InvalidRow, ResourceFailed
from buildflow.ir.graph import Resource, ResourceGraph
from buildflow.primitives.base import Action, Entry, Sink, Source
from buildflow.primitives.queue import QueueSpec
from buildflow.primitives.queue.local import DRIVER
from buildflow.providers.local import LocalSession
from buildflow.types import Queue


def queue(key: str = "orders", **fields: Any) -> Resource:
    spec = QueueSpec(type="queue", **fields)
    name = DRIVER.name(key, spec, "shop", "local")
    return Resource(
        key=key,
        type="queue",
        provider="local",
        name=name,
        id=f"redis://{name}",
        label=DRIVER.label,
        spec=spec.model_dump(mode="json"),
    )


@pytest.fixture
def session(tmp_path: Path) -> Iterator[LocalSession]:
    session = LocalSession(ResourceGraph(project="shop", stack="local"), tmp_path, tmp_path / "local", "shop-local")
    yield session
    session.close(wait=5)


@dataclass
class Line:
    sku: str
    at: datetime


class Order(BaseModel):
    number: int = Field(alias="orderNumber")
    lines: list[Line] = []


class Point(NamedTuple):
    x: int
    y: int


NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


# -- names -----------------------------------------------------------------------------------------------------


def test_it_is_called_after_project_stack_and_key() -> None:
    assert queue().name == "shop-local-orders"
    assert queue(name="inbox").name == "inbox"
    assert DRIVER.identify(queue(), None) == "redis://shop-local-orders"
    assert DRIVER.label == "RedisQueue"


@pytest.mark.parametrize(
    ("name", "why"),
    [("orders.v2:eu", ""), ("", "at least one character"), ("a b", "blanks"), ("a\x00b", "control characters")],
)
def test_a_name_that_redis_tools_would_trip_over_is_refused(name: str, why: str) -> None:
    said = DRIVER.check_name(name)
    assert why in said
    assert bool(said) == bool(why)


# -- provision -------------------------------------------------------------------------------------------------


def test_it_is_created_found_and_deleted(session: LocalSession) -> None:
    resource = queue()
    assert not DRIVER.exists(resource, session)
    assert DRIVER.create(resource, session) == {"name": "shop-local-orders", "url": "redis://shop-local-orders"}
    assert DRIVER.create(resource, session), "what is there already is adopted"
    assert DRIVER.exists(resource, session)
    DRIVER.delete(resource, session)
    assert not DRIVER.exists(resource, session)


def test_its_content_is_what_waits_is_delayed_or_is_leased(session: LocalSession) -> None:
    resource = queue()
    DRIVER.create(resource, session)
    assert DRIVER.content(resource, session) == ""
    source = DRIVER.source(resource, session)
    source.send(b"", {})
    assert DRIVER.content(resource, session) == "1 message"
    source.send_many([(b"", {}, None)] * 1199)
    source.release(source.lease(2)[0], delay=60)
    assert DRIVER.content(resource, session) == "1,200 messages"
    DRIVER.delete(resource, session)
    assert DRIVER.content(resource, session) == ""


def test_another_lease_is_an_update_that_loses_nothing(session: LocalSession) -> None:
    change = DRIVER.compare(queue(), queue(lease="90s"), session)
    assert (change.action, change.fields, change.loses_data) == (Action.UPDATE, ("lease: 30s -> 90s",), "")
    assert DRIVER.compare(queue(), queue(), session).action is Action.NONE
    assert DRIVER.source(queue(lease="90s"), session).lease_seconds == 90


def test_another_name_takes_the_messages_along(session: LocalSession) -> None:
    old, new = queue(), queue(name="inbox")
    DRIVER.create(old, session)
    source = DRIVER.source(old, session)
    source.send_many([(b"1", {}, None), (b"2", {}, None), (b"3", {}, None)])
    delayed, leased = source.lease(2)
    source.release(delayed, delay=60)
    change = DRIVER.compare(old, new, session)
    assert (change.action, change.fields) == (Action.UPDATE, ("name: shop-local-orders -> inbox",))
    assert DRIVER.update(old, new, session)["name"] == "inbox"
    assert not DRIVER.exists(old, session)
    assert DRIVER.content(new, session) == "3 messages"
    DRIVER.source(new, session).acknowledge([leased])
    assert DRIVER.content(new, session) == "2 messages"
    DRIVER.create(old, session)
    with pytest.raises(ResourceFailed, match='queue "orders" cannot be renamed to shop-local-orders'):
        DRIVER.update(new, old, session)


# -- connect ---------------------------------------------------------------------------------------------------


def test_source_and_sink_have_all_that_is_asked_of_them(session: LocalSession) -> None:
    parts = DRIVER.source(queue(), session), DRIVER.sink(queue(), session)
    for protocol, part in zip((Source, Sink), parts, strict=True):
        asked = {*vars(protocol), *getattr(protocol, "__annotations__", {})}
        assert [name for name in asked if not name.startswith("_") and not hasattr(part, name)] == []


def test_rows_become_messages(session: LocalSession) -> None:
    rows = [
        {"a": 1, "at": NOON},
        Line("x", NOON),
        Order(orderNumber=3, lines=[Line("y", NOON)]),
        Point(1, 2),
        [1, "ü"],
        7,
        "text",
        b"\x00raw",
    ]
    sink = DRIVER.sink(queue(), session)
    sink.commit("c", [Entry("1", rows[:3]), Entry("2", []), Entry("3", rows[3:])])
    sent = [element.body for element in DRIVER.source(queue(), session).lease(100)]
    assert [json.loads(body) for body in sent[:6]] == [
        {"a": 1, "at": "2026-01-02T12:00:00Z"},
        {"sku": "x", "at": "2026-01-02T12:00:00Z"},
        {"orderNumber": 3, "lines": [{"sku": "y", "at": "2026-01-02T12:00:00Z"}]},
        {"x": 1, "y": 2},
        [1, "ü"],
        7,
    ]
    assert sent[6:] == [b"text", b"\x00raw"]
    assert Order.model_validate_json(sent[2]) == rows[2]


def test_a_repeated_commit_sends_under_the_same_ids(session: LocalSession) -> None:
    sink, source = DRIVER.sink(queue(), session), DRIVER.source(queue(), session)
    assert sink.guarantee == "at least once"
    for writer in ("c", "c", "d"):
        sink.commit(writer, [Entry("1", ["a", "b"]), Entry("2", ["a"])])
    ids = [element.id for element in source.lease(100)]
    assert ids[:3] == ids[3:6]
    assert len(set(ids)) == 6


def test_a_row_that_is_no_json_is_refused_and_nothing_is_sent(session: LocalSession) -> None:
    sink = DRIVER.sink(queue(), session)
    for row in ({"a": object()}, {"a": float("nan")}, object()):
        with pytest.raises(InvalidRow, match="cannot be sent as JSON"):
            sink.check(row)
        with pytest.raises(InvalidRow):
            sink.commit("c", [Entry("1", ["good", row])])
    sink.check({"a": 1})
    sink.commit("c", [])
    assert DRIVER.content(queue(), session) == ""


def test_a_handler_can_send(session: LocalSession) -> None:
    handle = DRIVER.handle(queue(), session)
    assert isinstance(handle, Queue)
    assert handle.name == "shop-local-orders"
    ids = [handle.send({"a": 1}, attributes={"kind": "x"}), *handle.send_many(["two", b"three"])]
    group = DRIVER.source(queue(), session).lease(10)
    assert [e.id for e in group] == ids
    assert [(e.body, e.headers) for e in group] == [(b'{"a":1}', {"kind": "x"}), (b"two", {}), (b"three", {})]
