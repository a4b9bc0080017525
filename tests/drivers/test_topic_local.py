"""`topic` on the local stack: what is sent reaches every subscription that wants it, or none."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from buildflow.errors import InvalidRow, NotApplied, ResourceFailed
from buildflow.ir.graph import Resource, ResourceGraph
from buildflow.primitives.base import Action, Element, Entry, Sink
from buildflow.primitives.redis_stream import RedisStream
from buildflow.primitives.subscription import SubscriptionSpec
from buildflow.primitives.subscription import local as subscriptions
from buildflow.primitives.topic import TopicSpec
from buildflow.primitives.topic.local import DRIVER
from buildflow.providers.local import LocalSession
from buildflow.types import Topic


def topic(key: str = "orders", **fields: Any) -> Resource:
    spec = TopicSpec(type="topic", **fields)
    name = DRIVER.name(key, spec, "shop", "local")
    return Resource(
        key=key,
        type="topic",
        provider="local",
        name=name,
        id=f"redis://{name}",
        label=DRIVER.label,
        spec=spec.model_dump(mode="json"),
    )


def subscription(key: str, **fields: Any) -> Resource:
    spec = SubscriptionSpec(type="subscription", topic="orders", **fields)
    name = subscriptions.DRIVER.name(key, spec, "shop", "local")
    return Resource(
        key=key,
        type="subscription",
        provider="local",
        name=name,
        id=f"redis://{name}",
        label=subscriptions.DRIVER.label,
        spec=spec.model_dump(mode="json"),
        references={"topic": "orders"},
    )


@pytest.fixture
def session(tmp_path: Path) -> Iterator[LocalSession]:
    graph = ResourceGraph(project="shop", stack="local", resources=(topic(),))
    session = LocalSession(graph, tmp_path, tmp_path / "local", "shop-local")
    yield session
    session.close(wait=5)


def subscribed(session: LocalSession, key: str, **fields: Any) -> RedisStream:
    """A new subscription of a topic that exists, as its consumer's worker sees it."""
    DRIVER.create(topic(), session)
    subscriptions.DRIVER.create(subscription(key, **fields), session)
    return subscriptions.DRIVER.source(subscription(key, **fields), session)


def all_of(source: RedisStream) -> list[Element]:
    found: list[Element] = []
    while group := source.lease(1000):
        found += group
    return found


# -- provision -------------------------------------------------------------------------------------------------


def test_it_is_called_after_project_stack_and_key() -> None:
    assert topic().name == "shop-local-orders"
    assert topic(name="news").name == "news"
    assert DRIVER.identify(topic(), None) == "redis://shop-local-orders"
    assert DRIVER.label == "RedisTopic"
    assert DRIVER.check_name("a b") == "a topic's name has neither blanks nor control characters"
    assert DRIVER.check_name("orders.v2:eu") == ""


def test_it_is_created_found_and_deleted(session: LocalSession) -> None:
    assert not DRIVER.exists(topic(), session)
    assert DRIVER.create(topic(), session) == {"name": "shop-local-orders", "url": "redis://shop-local-orders"}
    assert DRIVER.exists(topic(), session)
    DRIVER.delete(topic(), session)
    assert not DRIVER.exists(topic(), session)


def test_creating_it_again_and_deleting_it_leave_its_subscriptions_what_they_have(session: LocalSession) -> None:
    billing = subscribed(session, "billing")
    DRIVER.create(topic(), session)
    DRIVER.handle(topic(), session).send_many(["1", "2"])
    assert DRIVER.content(topic(), session) == ""
    DRIVER.delete(topic(), session)
    assert [element.body for element in all_of(billing)] == [b"1", b"2"]


def test_another_name_takes_the_subscriptions_along(session: LocalSession) -> None:
    billing = subscribed(session, "billing")
    change = DRIVER.compare(topic(), topic(name="news"), session)
    assert (change.action, change.fields) == (Action.UPDATE, ("name: shop-local-orders -> news",))
    assert DRIVER.compare(topic(), topic(message="app:Order"), session).action is Action.NONE
    DRIVER.update(topic(), topic(name="news"), session)
    DRIVER.handle(topic(name="news"), session).send("new")
    assert [element.body for element in all_of(billing)] == [b"new"]
    with pytest.raises(NotApplied):
        DRIVER.handle(topic(), session).send("to the old name")
    DRIVER.create(topic(), session)
    with pytest.raises(ResourceFailed, match='topic "orders" cannot be renamed to news'):
        DRIVER.update(topic(), topic(name="news"), session)


# -- publishing ------------------------------------------------------------------------------------------------


def test_every_subscription_gets_every_message_once(session: LocalSession) -> None:
    sources = [subscribed(session, key) for key in ("billing", "shipping", "statistics")]
    ids = DRIVER.handle(topic(), session).send_many(str(n) for n in range(2500))
    groups = [all_of(source) for source in sources]
    for group in groups:
        assert [element.id for element in group] == ids
        assert [element.body for element in group] == [str(n).encode() for n in range(2500)]
    sources[0].acknowledge(groups[0])
    assert [sum(source.counts()) for source in sources] == [0, 2500, 2500], "each settles its own"


def test_a_topic_without_subscriptions_takes_messages_that_nobody_gets(session: LocalSession) -> None:
    DRIVER.create(topic(), session)
    assert DRIVER.handle(topic(), session).send("early")
    late = subscribed(session, "late")
    DRIVER.handle(topic(), session).send("in time")
    assert [element.body for element in all_of(late)] == [b"in time"]


def test_a_topic_that_does_not_exist_takes_nothing(session: LocalSession) -> None:
    with pytest.raises(NotApplied, match='topic "shop-local-orders" is not in Redis') as caught:
        DRIVER.sink(topic(), session).commit("c", [Entry("1", ["row"])])
    assert caught.value.hint == "`platform apply` creates it"
    assert not DRIVER.exists(topic(), session)


def test_it_is_used_by_its_name_from_another_stack(session: LocalSession) -> None:
    shared = topic(name="news")
    DRIVER.create(shared, session)
    elsewhere = ResourceGraph(project="blog", stack="local", resources=(topic(name="news", managed=False),))
    other = LocalSession(elsewhere, session.root, session.dir, "blog-local")
    subscriptions.DRIVER.create(subscription("readers"), other)
    DRIVER.handle(shared, session).send("1")
    DRIVER.handle(elsewhere["orders"], other).send("2")
    assert [e.body for e in all_of(subscriptions.DRIVER.source(subscription("readers"), other))] == [b"1", b"2"]
    other.close()


def test_a_message_arrives_as_it_was_sent(session: LocalSession) -> None:
    billing = subscribed(session, "billing")
    handle = DRIVER.handle(topic(), session)
    assert isinstance(handle, Topic)
    assert handle.name == "shop-local-orders"
    id = handle.send(bytes(range(256)), attributes={"kind": "ürgent"})
    before = time.time()
    [element] = all_of(billing)
    assert (element.id, element.body, element.headers) == (id, bytes(range(256)), {"kind": "ürgent"})
    assert (element.attempt, element.alone) == (1, False)
    assert element.sent_at
    assert abs(element.sent_at.timestamp() - before) < 30


@pytest.mark.parametrize(
    ("filter", "gets"),
    [
        ({}, "abcdef"),
        ({"country": "de"}, "ad"),
        ({"country": ["de", "at"]}, "abd"),
        ({"country": ["de", "at"], "kind": "gift"}, "bd"),
        ({"kind": "größe"}, "e"),
        ({"missing": "de"}, ""),
    ],
)
def test_a_filter_lets_through_what_has_all_its_attributes(
    session: LocalSession, filter: dict[str, Any], gets: str
) -> None:
    everything, some = subscribed(session, "everything"), subscribed(session, "some", filter=filter)
    handle = DRIVER.handle(topic(), session)
    for body, attributes in {
        "a": {"country": "de"},
        "b": {"country": "at", "kind": "gift"},
        "c": {"country": "fr", "kind": "gift"},
        "d": {"country": "de", "kind": "gift", "more": "1"},
        "e": {"kind": "größe"},
        "f": {},
    }.items():
        handle.send(body, attributes=attributes)
    assert b"".join(e.body for e in all_of(some)).decode() == gets
    assert b"".join(e.body for e in all_of(everything)).decode() == "abcdef"


def test_attributes_can_be_left_out_and_are_filtered_by_all_the_same(session: LocalSession) -> None:
    bare = subscribed(session, "bare", include_attributes=False, filter={"country": "de"})
    full = subscribed(session, "full")
    DRIVER.handle(topic(), session).send("x", attributes={"country": "de"})
    assert [e.headers for e in all_of(bare)] == [{}]
    assert [e.headers for e in all_of(full)] == [{"country": "de"}]


# -- as a sink -------------------------------------------------------------------------------------------------


def test_the_sink_has_all_that_is_asked_of_it(session: LocalSession) -> None:
    sink = DRIVER.sink(topic(), session)
    asked = {*vars(Sink), *getattr(Sink, "__annotations__", {})}
    assert [name for name in asked if not name.startswith("_") and not hasattr(sink, name)] == []
    assert sink.guarantee == "at least once"
    sink.close()


def test_a_repeated_commit_sends_under_the_same_ids(session: LocalSession) -> None:
    billing, shipping = subscribed(session, "billing"), subscribed(session, "shipping")
    for writer in ("c", "c", "d"):
        DRIVER.sink(topic(), session).commit(writer, [Entry("1", [{"a": 1}, "b"]), Entry("2", ["a"])])
    ids = [element.id for element in all_of(billing)]
    assert ids[:3] == ids[3:6]
    assert len(set(ids)) == 6
    assert [element.id for element in all_of(shipping)] == ids


def test_a_row_that_cannot_be_sent_keeps_the_others_back(session: LocalSession) -> None:
    billing = subscribed(session, "billing")
    with pytest.raises(InvalidRow, match="cannot be sent as JSON"):
        DRIVER.sink(topic(), session).commit("c", [Entry("1", ["good", object()])])
    assert billing.counts().backlog == 0


def test_a_subscription_that_cannot_be_written_keeps_messages_from_all(session: LocalSession) -> None:
    first, second = subscribed(session, "a"), subscribed(session, "b")
    session.redis().delete(second.key)
    session.redis().set(second.key, "another program's")
    with pytest.raises(Exception, match=f"{second.key} is a string, not a stream"):
        DRIVER.sink(topic(), session).commit("c", [Entry(str(n), ["row"]) for n in range(1500)])
    assert first.counts().backlog == 0
    session.redis().delete(second.key)
    DRIVER.sink(topic(), session).commit("c", [Entry("1", ["row"])])
    assert [len(all_of(first)), len(all_of(second))] == [1, 1], "one that was lost is made again"


PUBLISHER = """
import sys
from pathlib import Path
from buildflow.ir.graph import ResourceGraph
from buildflow.primitives.base import Entry
from buildflow.providers.local import LocalSession
from tests.drivers.test_topic_local import DRIVER, topic

root, run = Path(sys.argv[1]), sys.argv[2]
session = LocalSession(ResourceGraph(project="shop", stack="local"), root, root / "local", "shop-local")
sink = DRIVER.sink(topic(), session)
print("begun", flush=True)
for n in range(10**9):
    sink.commit("c", [Entry(f"{run}-{n}-{m}", ["row"]) for m in range(1200)])
    print(n, flush=True)
"""


def test_publishers_killed_at_any_moment_leave_every_message_with_all_or_none(
    session: LocalSession, tmp_path: Path
) -> None:
    keys = ("billing", "shipping", "statistics")
    sources = [subscribed(session, key) for key in keys]
    reported = 0
    for run in range(8):
        command = [sys.executable, "-c", PUBLISHER, str(tmp_path), str(run)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["platform", "."])}
        publisher = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert publisher.stdout
        assert publisher.stdout.readline() == "begun\n"
        if run % 2:  # else it is killed during its first commit, on a busy machine
            reported += bool(publisher.stdout.readline())
        time.sleep(0.05 + 0.037 * run)
        publisher.send_signal(signal.SIGKILL)
        reported += len(publisher.communicate()[0].splitlines())
    ids = [[element.id for element in all_of(source)] for source in sources]
    assert ids[0] == ids[1] == ids[2]
    assert len(set(ids[0])) == len(ids[0])
    assert len(ids[0]) % 1200 == 0, "a commit is whole"
    assert len(ids[0]) >= reported * 1200 > 0, "what was reported is there"
    print(f"\n{len(ids[0])} messages by 8 killed publishers, {reported} commits reported")


def test_publishing_is_about_as_fast_as_sending(session: LocalSession) -> None:
    """At least half as fast with one subscription; prints the figures."""
    elements = [(b'{"id": 12345, "name": "tea", "price": 3.5}', {}, None)] * 20_000
    queue = RedisStream(session.redis, "queue")
    queue.ensure()
    publish = DRIVER.sink(topic(), session)._stream.send_many

    def rate(send: Any) -> float:
        started = time.perf_counter()
        send(elements)
        return len(elements) / (time.perf_counter() - started)

    ratios = {}
    for number in (1, 2, 3):
        subscribed(session, f"s{number}")
        sent, published = (
            max(rates) for rates in zip(*[(rate(queue.send_many), rate(publish)) for _ in range(4)], strict=True)
        )
        ratios[number] = published / sent
        print(f"\n{number} subscriptions: published {published:,.0f}/s, sent to a queue {sent:,.0f}/s", end="")
    assert ratios[1] > 0.5
