"""`topic` and `subscription` on AWS: SNS, and an SQS queue behind it, against moto."""

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from buildflow.errors import BadMessage, InvalidRow, NotApplied
from buildflow.ir.graph import Resource, ResourceGraph
from buildflow.primitives.base import Entry, Role, Sink, Source
from buildflow.primitives.queue.sqs import SQSSource
from buildflow.primitives.queue.sqs_messages import HEADERS
from buildflow.primitives.subscription import SubscriptionSpec
from buildflow.primitives.subscription import aws as subscriptions
from buildflow.primitives.topic import TopicSpec
from buildflow.primitives.topic.aws import DRIVER
from buildflow.primitives.topic.sns import LARGEST
from buildflow.providers.aws import AwsSession
from buildflow.types import Message, Topic
from tests.drivers.test_queue_aws import bodies, leased
from tests.moto import Moto, session_on

_numbers = itertools.count()


def topic(key: str = "orders", outputs: dict[str, str] | None = None, **fields: Any) -> Resource:
    spec = TopicSpec(type="topic", **fields)
    name = (outputs or {}).get("name") or DRIVER.name(key, spec, "shop", "aws")
    return Resource(
        key=key,
        type="topic",
        provider="aws",
        name=name,
        id=f"sns://{name}",
        label=DRIVER.label,
        spec=spec.model_dump(mode="json"),
        outputs=outputs or {},
    )


def subscription(key: str, outputs: dict[str, str] | None = None, **fields: Any) -> Resource:
    spec = SubscriptionSpec(type="subscription", topic="orders", **fields)
    name = (outputs or {}).get("name") or subscriptions.DRIVER.name(key, spec, "shop", "aws")
    return Resource(
        key=key,
        type="subscription",
        provider="aws",
        name=name,
        id=f"sqs://{name}",
        label=subscriptions.DRIVER.label,
        spec=spec.model_dump(mode="json"),
        references={"topic": "orders"},
        outputs=outputs or {},
    )


@pytest.fixture(scope="module")
def session(aws: Moto, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsSession]:
    session = session_on(aws, tmp_path_factory.mktemp("stack"))
    yield session
    session.close(wait=5)


class Published:
    """A topic and its subscriptions."""

    def __init__(self, aws: Moto, session: AwsSession, *, fifo: bool = False) -> None:
        self._aws = aws
        self._end = ".fifo" if fifo else ""
        self.session = session
        self.topic = topic(outputs=aws.topic(f"orders-{next(_numbers)}{self._end}"))
        session.graph = ResourceGraph(project="shop", stack="aws", resources=(self.topic,))

    def subscribed(self, **fields: Any) -> SQSSource:
        wanted = {name: [v] if isinstance(v, str) else v for name, v in fields.get("filter", {}).items()}
        outputs = self._aws.subscription(
            f"s-{next(_numbers)}{self._end}", self.topic.outputs, json.dumps(wanted) if wanted else ""
        )
        made = subscription(f"s{next(_numbers)}", outputs, **fields)
        graph = self.session.graph
        self.session.graph = graph.model_copy(update={"resources": (*graph.resources, made)})
        source = subscriptions.DRIVER.source(made, self.session)
        assert isinstance(source, SQSSource)
        return source

    @property
    def handle(self) -> Any:
        return DRIVER.handle(self.topic, self.session)

    @property
    def sink(self) -> Sink:
        return DRIVER.sink(self.topic, self.session)


@pytest.fixture
def published(aws: Moto, session: AwsSession) -> Published:
    return Published(aws, session)


def test_they_are_called_after_project_stack_and_key() -> None:
    assert topic().name == "shop-aws-orders"
    assert topic(aws={"fifo": True}).name == "shop-aws-orders.fifo"
    assert DRIVER.identify(topic(), None) == "sns://shop-aws-orders"
    assert subscription("billing").name == "shop-aws-billing"
    assert subscriptions.DRIVER.identify(subscription("billing"), None) == "sqs://shop-aws-billing"
    [sent], [taken] = DRIVER.grants(topic(), Role.SINK), subscriptions.DRIVER.grants(subscription("b"), Role.SOURCE)
    assert sent.actions == ("sns:Publish",)
    assert "sqs:ReceiveMessage" in taken.actions


def test_sink_and_source_have_all_that_is_asked_of_them(published: Published) -> None:
    for protocol, part in ((Sink, published.sink), (Source, published.subscribed())):
        asked = {*vars(protocol), *getattr(protocol, "__annotations__", {})}
        assert [name for name in asked if not name.startswith("_") and not hasattr(part, name)] == []


def test_every_subscription_gets_every_message_once(published: Published) -> None:
    sources = [published.subscribed() for _ in range(3)]
    ids = published.handle.send_many(str(n) for n in range(25))
    groups = [leased(source, 25) for source in sources]
    for group in groups:
        assert {element.id: element.body for element in group} == {id: str(n).encode() for n, id in enumerate(ids)}
    sources[0].acknowledge(groups[0])
    assert [source.counts().in_flight for source in sources] == [0, 25, 25], "each settles its own"


SENT = [
    (bytes(range(256)), {"kind": "ürgent"}),
    (b"", {}),
    ("ü 語 😀".encode(), {"": "no name", "empty": ""}),
    (b'{"a": 1}', {f"h{n}": str(n) for n in range(20)}),
]


def test_messages_arrive_as_they_were_sent(published: Published) -> None:
    source = published.subscribed()
    assert isinstance(published.handle, Topic)
    ids = [published.handle.send(body, attributes=attributes) for body, attributes in SENT]
    found = {element.id: (element.body, element.headers) for element in leased(source, len(SENT))}
    assert [found[id] for id in ids] == SENT


def test_what_is_sent_to_a_subscription_alone_reaches_nobody_else(published: Published) -> None:
    """As `platform send` and a replay from the dead letters do."""
    one, other = published.subscribed(), published.subscribed()
    one.send(b"again", {"buildflow-replays": "1"}, "its-id")
    assert [(e.id, e.body, e.headers) for e in leased(one)] == [("its-id", b"again", {"buildflow-replays": "1"})]
    assert other.counts().backlog == 0


def test_a_filter_sees_its_attribute_however_many_there_are(published: Published) -> None:
    some = published.subscribed(filter={"kind": ["a", "b"]})
    everything = published.subscribed()
    many = {f"h{n}": str(n) for n in range(20)}
    for kind in "abc":
        published.handle.send(kind, attributes={**many, "kind": kind})
    assert sorted(bodies(leased(some, 3, 1.5))) == [b"a", b"b"]
    found = leased(everything, 3)
    assert {element.headers["kind"] for element in found} == set("abc")
    assert all(HEADERS not in element.headers and len(element.headers) == 21 for element in found)


def test_attributes_to_filter_by_that_no_message_has_room_for_are_refused_before_any_is_sent(
    published: Published,
) -> None:
    """Of a message with more than ten attributes a queue gets nothing, and says nothing."""
    names = [f"kind{n}" for n in range(10)]
    halves = [published.subscribed(filter=dict.fromkeys(half, "x")) for half in (names[:5], names[5:])]
    everything = published.subscribed()
    with pytest.raises(BadMessage, match=r"has 10 attributes by which subscriptions filter, .* there is room for 8"):
        published.sink.commit("c", [Entry("1", ["few", Message("many", attributes=dict.fromkeys(names, "x"))])])
    id = published.handle.send("fits", attributes=dict.fromkeys(names[:9], "x"))
    assert [element.id for element in leased(everything, 2, 1)] == [id]
    assert [source.counts().backlog for source in halves] == [1, 0]


def test_no_request_to_a_fifo_topic_has_two_messages_of_a_group(aws: Moto, session: AwsSession) -> None:
    """SNS may refuse the first of them, and take the second."""
    published = Published(aws, session, fifo=True)
    asked: list[list[str]] = []

    def note(params: Any, **_: Any) -> None:
        asked.append([entry["MessageGroupId"] for entry in params["PublishBatchRequestEntries"]])

    events = session.client("sns").meta.events
    events.register("before-parameter-build.sns.PublishBatch", note, unique_id="note")
    rows = [Message("x", attributes={"MessageGroupId": group}) for group in "aab"]
    published.sink.commit("c", [Entry("1", rows)])
    events.unregister("before-parameter-build.sns.PublishBatch", unique_id="note")
    assert asked == [["a", "b"], ["a"]]


def test_a_subscription_gives_no_attributes_where_none_are_wanted(published: Published) -> None:
    source = published.subscribed(include_attributes=False)
    id = published.handle.send(b"\xff", attributes={"kind": "a"})
    [element] = leased(source)
    assert (element.id, element.body, element.headers) == (id, b"\xff", {})


def test_it_gives_no_more_at_once_than_its_batch_size(published: Published) -> None:
    source = published.subscribed(batch_size=3, lease="90s")
    published.handle.send_many(["x"] * 5)
    assert [len(source.lease(100)), len(source.lease(2))] == [3, 2]
    assert source.lease_seconds == 90


def test_a_repeated_commit_has_the_same_ids(published: Published) -> None:
    source = published.subscribed()
    rows: Sequence[Any] = [{"a": 1}, Message({"b": 2}, attributes={"kind": "x"})]
    for _ in range(2):
        published.sink.commit("c", [Entry("1", rows)])
    found = leased(source, 4)
    assert len(found) == 4
    assert sorted({(e.id, e.body) for e in found}, key=lambda e: e[1])[0][1] == b'{"a":1}'
    assert len({e.id for e in found}) == 2
    assert published.sink.guarantee == "at least once"


def test_what_cannot_be_sent_keeps_the_others_back(published: Published) -> None:
    source = published.subscribed()
    with pytest.raises(InvalidRow, match="cannot be sent as JSON"):
        published.sink.commit("c", [Entry("1", ["good", object()])])
    for send in (lambda: published.sink.commit("c", [Entry("1", ["good", "x" * LARGEST])]),
                 lambda: published.sink.check("x" * LARGEST)):  # fmt: skip
        with pytest.raises(BadMessage, match="it takes 262,144 at most"):
            send()
    published.sink.commit("c", [Entry("1", ["x" * 100_000] * 7)])
    assert len(leased(source, 7)) == 7
    assert source.counts().backlog == 0


def test_a_topic_that_does_not_exist_is_named(session: AwsSession) -> None:
    nowhere = topic("nowhere", {"name": "nowhere", "arn": "arn:aws:sns:eu-central-1:123456789012:nowhere"})
    with pytest.raises(NotApplied, match='topic "nowhere" does not exist') as caught:
        DRIVER.handle(nowhere, session).send("1")
    assert caught.value.hint == "`platform apply` creates it"


def test_its_address_follows_from_its_name_where_it_is_not_recorded(aws: Moto, tmp_path: Path) -> None:
    made = aws.topic("shared")
    unmanaged = topic(name="shared", managed=False)
    session = session_on(aws, tmp_path, unmanaged)
    source = subscriptions.DRIVER.source(subscription("readers", aws.subscription("readers", made)), session)
    id = DRIVER.handle(unmanaged, session).send("1")
    assert source.lease(1)[0].id == id
    session.close()


def test_a_fifo_topic_keeps_the_order_and_sends_once(aws: Moto, session: AwsSession) -> None:
    published = Published(aws, session, fifo=True)
    source = published.subscribed()
    for _ in range(2):
        published.sink.commit("c", [Entry("1", [str(n) for n in range(12)])])
    found: list[bytes] = []
    while group := leased(source, 10, 1):
        found += bodies(group)
        source.acknowledge(group)
    assert found == [str(n).encode() for n in range(12)]
