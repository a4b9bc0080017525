"""`subscription` on the local stack: what the driver creates and moves, and how messages are leased from it."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from buildflow.errors import NotApplied, ResourceFailed
from buildflow.ir.graph import Resource, ResourceGraph
from buildflow.primitives.base import Action, Element, Source
from buildflow.primitives.subscription.local import DRIVER
from buildflow.primitives.topic import local as topics
from buildflow.providers.local import LocalSession
from tests.drivers.test_topic_local import subscription, topic


@pytest.fixture
def session(tmp_path: Path) -> Iterator[LocalSession]:
    graph = ResourceGraph(project="shop", stack="local", resources=(topic(), topic("other")))
    session = LocalSession(graph, tmp_path, tmp_path / "local", "shop-local")
    for resource in graph.resources:
        topics.DRIVER.create(resource, session)
    yield session
    session.close(wait=5)


@pytest.fixture
def send(session: LocalSession) -> Callable[..., list[str]]:
    return topics.DRIVER.handle(topic(), session).send_many


@pytest.fixture
def source(session: LocalSession) -> Any:
    """Of a subscription that exists."""
    DRIVER.create(subscription("billing"), session)
    return DRIVER.source(subscription("billing"), session)


def created(resource: Resource, session: LocalSession) -> Resource:
    """As the stack's state records it."""
    return resource.model_copy(update={"outputs": DRIVER.create(resource, session)})


def bodies(elements: Any) -> list[bytes]:
    return [element.body for element in elements]


def leased(source: Any, limit: int = 10, seconds: float = 60.0) -> list[Element]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := source.lease(limit):
            return list(found)
        source.wait(0.5)
    return []


# -- provision -------------------------------------------------------------------------------------------------


def test_it_is_created_found_and_deleted(session: LocalSession) -> None:
    resource = subscription("billing")
    assert DRIVER.identify(resource, None) == "redis://shop-local-billing"
    assert DRIVER.check_name("") == "a subscription's name needs at least one character"
    assert not DRIVER.exists(resource, session)
    outputs = DRIVER.create(resource, session)
    assert outputs == {"name": "shop-local-billing", "url": "redis://shop-local-billing", "topic": "shop-local-orders"}
    assert tuple(outputs) == DRIVER.outputs
    assert DRIVER.create(resource, session), "what is there already is adopted"
    assert DRIVER.exists(resource, session)
    DRIVER.delete(resource, session)
    assert not DRIVER.exists(resource, session)


def test_a_deleted_one_gets_nothing_more(session: LocalSession, send: Callable[..., list[str]]) -> None:
    recorded = created(subscription("billing"), session)
    elsewhere = LocalSession(ResourceGraph(project="shop", stack="local"), session.root, session.dir, "shop-local")
    DRIVER.delete(recorded, elsewhere)
    send(["1"])
    assert not session.redis().exists(recorded.name)
    elsewhere.close()


def test_one_that_its_topic_forgot_does_not_exist(session: LocalSession, send: Callable[..., list[str]]) -> None:
    DRIVER.create(subscription("billing"), session)
    send(["1"])
    topics.DRIVER.delete(topic(), session)
    assert not DRIVER.exists(subscription("billing"), session), "`apply` makes it again"
    with pytest.raises(NotApplied, match='topic "shop-local-orders" is not in Redis'):
        DRIVER.create(subscription("billing"), session)
    topics.DRIVER.create(topic(), session)
    DRIVER.create(subscription("billing"), session)
    send(["2"])
    assert bodies(DRIVER.source(subscription("billing"), session).lease(10)) == [b"1", b"2"]


def test_its_content_is_what_waits_is_delayed_or_is_leased(
    session: LocalSession, source: Any, send: Callable[..., list[str]]
) -> None:
    assert DRIVER.content(subscription("billing"), session) == ""
    send(["1"])
    assert DRIVER.content(subscription("billing"), session) == "1 message"
    send(["x"] * 1199)
    source.release(source.lease(2)[0], delay=60)
    assert DRIVER.content(subscription("billing"), session) == "1,200 messages"


def test_another_name_takes_messages_and_leases_along(session: LocalSession, send: Callable[..., list[str]]) -> None:
    old, new = created(subscription("billing"), session), subscription("billing", name="bills")
    source = DRIVER.source(old, session)
    send(["1", "2", "3"])
    delayed, held = source.lease(2)
    source.release(delayed, delay=60)
    change = DRIVER.compare(old, new, session)
    assert (change.action, change.fields) == (Action.UPDATE, ("name: shop-local-billing -> bills",))
    assert DRIVER.update(old, new, session)["name"] == "bills"
    send(["4"])
    assert not session.redis().exists(old.name)
    assert DRIVER.content(new, session) == "4 messages"
    DRIVER.source(new, session).acknowledge([held])
    assert bodies(DRIVER.source(new, session).lease(10)) == [b"3", b"4"]
    DRIVER.create(subscription("shipping"), session)
    with pytest.raises(ResourceFailed, match='"shipping" cannot be renamed to bills: Redis holds that key already'):
        DRIVER.update(subscription("shipping"), subscription("shipping", name="bills"), session)


def test_another_topic_keeps_what_came_from_the_first(session: LocalSession, send: Callable[..., list[str]]) -> None:
    old = created(subscription("billing"), session)
    new = subscription("billing").model_copy(update={"references": {"topic": "other"}})
    send(["1"])
    change = DRIVER.compare(old, new, session)
    assert (change.action, change.fields) == (Action.UPDATE, ("topic: shop-local-orders -> shop-local-other",))
    DRIVER.update(old, new, session)
    send(["lost on it"])
    topics.DRIVER.handle(topic("other"), session).send("2")
    assert bodies(DRIVER.source(new, session).lease(10)) == [b"1", b"2"]


def test_a_topic_that_was_renamed_before_is_followed(session: LocalSession) -> None:
    """As `apply` does it: plans both by what is recorded, then changes the topic, then the subscription."""
    old, renamed = created(subscription("billing"), session), topic(name="news")
    graph = ResourceGraph(project="shop", stack="local", resources=(renamed,))
    session.graph = graph
    assert DRIVER.exists(old, session)
    assert DRIVER.compare(old, subscription("billing"), session).fields == ("topic: shop-local-orders -> news",)
    topics.DRIVER.update(topic(), renamed, session)
    assert DRIVER.update(old, subscription("billing"), session)["topic"] == "news"
    topics.DRIVER.handle(renamed, session).send("1")
    assert bodies(DRIVER.source(subscription("billing"), session).lease(10)) == [b"1"]


def test_a_change_of_its_wishes_counts_from_then_on(session: LocalSession) -> None:
    old = created(subscription("billing"), session)
    new = subscription("billing", filter={"kind": ["a", "b"]}, include_attributes=False, lease="90s")
    change = DRIVER.compare(old, new, session)
    assert change.fields == (
        "lease: 30s -> 90s",
        "filter: (none) -> kind is a or b",
        "include_attributes: true -> false",
    )
    assert change.loses_data == ""
    assert DRIVER.compare(old, subscription("billing"), session).action is Action.NONE
    handle = topics.DRIVER.handle(topic(), session)
    handle.send("1", attributes={"kind": "c"})
    DRIVER.update(old, new, session)
    handle.send("2", attributes={"kind": "c"})
    handle.send("3", attributes={"kind": "b"})
    source = DRIVER.source(new, session)
    assert source.lease_seconds == 90
    assert [(e.body, e.headers) for e in source.lease(10)] == [(b"1", {"kind": "c"}), (b"3", {})]


# -- connect ---------------------------------------------------------------------------------------------------


def test_the_source_has_all_that_is_asked_of_it(source: Any) -> None:
    asked = {*vars(Source), *getattr(Source, "__annotations__", {})}
    assert [name for name in asked if not name.startswith("_") and not hasattr(source, name)] == []


def test_it_gives_no_more_at_once_than_its_batch_size(session: LocalSession, send: Callable[..., list[str]]) -> None:
    resource = subscription("billing", batch_size=3)
    DRIVER.create(resource, session)
    send(["x"] * 5)
    source = DRIVER.source(resource, session)
    assert [len(source.lease(100)), len(source.lease(2))] == [3, 2]


def test_what_is_sent_to_it_alone_reaches_nobody_else(session: LocalSession, source: Any) -> None:
    """As `platform send` and a replay from the dead letters do."""
    DRIVER.create(subscription("shipping"), session)
    source.send(b"again", {"buildflow-replays": "1"})
    assert [(e.body, e.headers) for e in source.lease(10)] == [(b"again", {"buildflow-replays": "1"})]
    assert DRIVER.source(subscription("shipping"), session).counts().backlog == 0


def test_two_of_five_come_again_and_no_others(source: Any, send: Callable[..., list[str]]) -> None:
    send(["0", "1", "2", "3", "4"])
    group = source.lease(10)
    assert source.counts() == (0, 5)
    source.acknowledge([group[3], group[0], group[4]])
    source.release(group[1])
    source.release(group[2], delay=1.5)
    assert bodies(source.lease(10)) == [b"1"], "the delayed one waits at the source"
    assert source.counts().backlog == 1
    [late] = leased(source)
    assert (late.body, late.attempt, late.id) == (b"2", 2, group[2].id)


def test_a_lease_that_lapses_comes_again_and_a_renewed_one_does_not(
    session: LocalSession, send: Callable[..., list[str]]
) -> None:
    resource = subscription("billing", lease="3s")
    DRIVER.create(resource, session)
    send(["kept", "forgotten"])
    hanging, other = DRIVER.source(resource, session), DRIVER.source(resource, session)
    kept, forgotten = hanging.lease(2)
    found: list[Element] = []
    end = time.monotonic() + 60
    while not found and time.monotonic() < end:
        hanging.renew([kept])
        found = list(other.lease(10))
        other.wait(0.1)
    assert [(e.body, e.attempt, e.alone) for e in found] == [(b"forgotten", 2, True)]
    assert forgotten.id == found[0].id


def test_what_a_dead_worker_held_comes_at_once(source: Any, send: Callable[..., list[str]]) -> None:
    send(["1", "2"])
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        source.lease(2)
        os.write(writing, b"!")
        signal.pause()
    assert os.read(reading, 1) == b"!"
    assert source.lease(2) == []
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    began = time.monotonic()
    group = leased(source)
    assert time.monotonic() - began < 5, "long before the lease of 30 s"
    assert [(e.body, e.attempt, e.alone) for e in group] == [(b"1", 2, True), (b"2", 2, True)]
