"""`file_change_stream` on AWS: what S3 tells an SQS queue, against moto."""

import contextlib
import gc
import itertools
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from buildflow.errors import ObjectNotFound, ServiceUnavailable
from buildflow.ir.columns import Column
from buildflow.ir.graph import Resource, ResourceGraph
from buildflow.primitives.base import Element, Entry, Role, Source
from buildflow.primitives.bucket.aws import DRIVER as BUCKETS
from buildflow.primitives.file_change_stream import FileChangeStreamSpec
from buildflow.primitives.file_change_stream.aws import DRIVER
from buildflow.primitives.file_change_stream.s3_events import EventSource
from buildflow.primitives.table.aws import DRIVER as TABLES
from buildflow.providers.aws import AwsSession
from buildflow.types import FileChangeEvent
from tests.drivers.test_bucket_aws import bucket
from tests.drivers.test_queue_aws import leased
from tests.drivers.test_table_aws import table
from tests.moto import Moto, session_on

_numbers = itertools.count()


def stream(key: str = "uploads", outputs: dict[str, str] | None = None, **fields: Any) -> Resource:
    spec = FileChangeStreamSpec(type="file_change_stream", bucket="images", **fields)
    name = (outputs or {}).get("name") or DRIVER.name(key, spec, "shop", "aws")
    return Resource(
        key=key,
        type="file_change_stream",
        provider="aws",
        name=name,
        id=f"sqs://{name}",
        label=DRIVER.label,
        spec=spec.model_dump(mode="json"),
        references={"bucket": "images"},
        outputs=outputs or {},
    )


class Watched:
    """A bucket, its stream, and what the stream tells."""

    def __init__(self, aws: Moto, session: AwsSession, *events: str, **fields: Any) -> None:
        number = next(_numbers)
        images = bucket(outputs=aws.bucket(f"watched-{number}"))
        self.stream = stream(outputs=aws.queue(f"uploads-{number}"), **fields)
        session.graph = ResourceGraph(project="shop", stack="aws", resources=(images, self.stream))
        aws.notify(images.name, self.stream.outputs, *events)
        self.aws = aws
        self.session = session
        self.bucket = BUCKETS.handle(images, session)
        self.source = self.new_source()

    def new_source(self) -> EventSource:
        source = DRIVER.source(self.stream, self.session)
        assert isinstance(source, EventSource)
        return source

    def decoded(self, element: Element) -> FileChangeEvent:
        return DRIVER.decode(element.body, self.stream, self.session)

    def events(self, count: int, seconds: float = 10.0) -> list[FileChangeEvent]:
        return [self.decoded(element) for element in leased(self.source, count, seconds)]


@pytest.fixture(scope="module")
def session(aws: Moto, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsSession]:
    session = session_on(aws, tmp_path_factory.mktemp("stack"))
    yield session
    session.close(wait=5)


@pytest.fixture
def watched(aws: Moto, session: AwsSession) -> Watched:
    return Watched(aws, session, "s3:ObjectCreated:*", "s3:ObjectRemoved:*")


# -- names and permissions -------------------------------------------------------------------------------------


def test_it_is_a_queue_after_project_stack_and_key() -> None:
    assert stream().name == "shop-aws-uploads"
    assert DRIVER.identify(stream(), None) == "sqs://shop-aws-uploads"
    of_stream, of_objects, of_bucket, of_key = DRIVER.grants(stream(), Role.SOURCE)
    assert (of_stream.of, of_objects.of, of_objects.below, of_bucket.of) == ("uploads", "images", "/*", "images")
    assert (of_objects.actions, of_bucket.actions) == (("s3:GetObject",), ("s3:ListBucket",))
    assert (of_key.of, of_key.on, of_key.actions) == ("images", "kms_key_arn", ("kms:Decrypt",))


def test_its_queue_is_in_the_region_of_its_bucket(aws: Moto, tmp_path: Path) -> None:
    images = bucket(aws={"region": "us-west-2"})
    session = session_on(aws, tmp_path, images, stream())
    assert session.region_of(stream()) == "us-west-2"


def test_the_source_has_all_that_is_asked_of_it(watched: Watched) -> None:
    asked = {*vars(Source), *getattr(Source, "__annotations__", {})}
    assert [name for name in asked if not name.startswith("_") and not hasattr(watched.source, name)] == []


# -- events ----------------------------------------------------------------------------------------------------


def test_what_is_written_is_told_and_read(watched: Watched) -> None:
    before = datetime.now(UTC)
    watched.bucket.write("2026/cat.png", b"meow")
    [event] = watched.events(1)
    assert (event.file_path, event.event_type, event.bucket, event.size) == (
        "2026/cat.png",
        "created",
        watched.bucket.name,
        4,
    )
    assert event.time
    assert abs((event.time - before).total_seconds()) < 30
    assert event.metadata["eventName"] == "ObjectCreated:Put"
    assert event.metadata["eTag"]
    assert event.blob == b"meow"


@pytest.mark.parametrize("path", ["a b", "a+b", "ü/é 語.png", "100%", "a%20b", "a&b=c;d", "x" * 255])
def test_names_arrive_as_they_are(watched: Watched, path: str) -> None:
    watched.bucket.write(path, b"1")
    [event] = watched.events(1)
    assert (event.file_path, event.blob) == (path, b"1")


def test_what_is_large_and_came_in_parts_is_told_when_it_is_complete(watched: Watched) -> None:
    watched.bucket.write("large", b"x" * 20_000_000)
    told = {event.metadata["eventName"]: event for event in watched.events(2)}  # moto tells of a Put, too
    event = told["ObjectCreated:CompleteMultipartUpload"]
    assert (event.event_type, event.size) == ("created", 20_000_000)


def test_what_is_deleted_is_told_and_gone(watched: Watched) -> None:
    watched.bucket.write("cat.png", b"meow")
    watched.bucket.delete("cat.png")
    told = {event.event_type: event for event in watched.events(2)}
    assert told["deleted"].file_path == "cat.png"
    with pytest.raises(ObjectNotFound, match=r"no object 'cat\.png'"):
        _ = told["deleted"].blob
    with pytest.raises(ObjectNotFound):
        _ = told["created"].path


def test_its_path_is_a_file_that_goes_with_the_event(watched: Watched) -> None:
    watched.bucket.write("2026/cat.png", b"meow")
    [event] = watched.events(1)
    path = event.path
    assert (path.name, path.read_bytes()) == ("cat.png", b"meow")
    assert event.path is path, "it is fetched once"
    del event
    gc.collect()
    assert not path.parent.exists()


def test_the_test_message_and_empty_folders_are_nobody_s(aws: Moto, watched: Watched) -> None:
    """S3 sends the former when it is told where to send events; its console makes the latter."""
    aws.client("s3").put_object(Bucket=watched.bucket.name, Key="photos/", Body=b"")
    watched.bucket.write("real", b"1")
    assert [event.file_path for event in watched.events(1)] == ["real"]
    assert watched.events(1, 0.5) == []
    assert watched.source.counts().backlog == 0
    assert watched.source.counts().in_flight == 1


def test_an_event_is_sent_by_hand(watched: Watched) -> None:
    watched.bucket.write("cat.png", b"meow")
    [event] = watched.events(1)
    watched.source.send(b'{"file_path": "cat.png"}', {})
    [event] = watched.events(1)
    assert (event.event_type, event.bucket, event.blob) == ("created", watched.bucket.name, b"meow")
    assert event.path.read_bytes() == b"meow"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"no JSON", "a file change is JSON"),
        (b"[]", "a file change is a mapping"),
        (b"{}", "names its object in file_path"),
        (b'{"Records": [{"eventName": "ObjectCreated:Put"}]}', "names its object in file_path"),
        (
            b'{"Records": [%s]}'
            % b", ".join([b'{"eventName": "ObjectCreated:Put", "s3": {"object": {"key": "x"}}}'] * 2),
            "a message of several events cannot be taken apart",
        ),
        (
            b'{"Records": [{"eventName": "ObjectTagging:Put", "s3": {"object": {"key": "x"}}}]}',
            "S3 tells of ObjectTagging:Put, which is neither",
        ),
    ],
)
def test_what_is_no_event_is_refused_in_words(watched: Watched, body: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DRIVER.decode(body, watched.stream, watched.session)


def test_an_event_that_is_sent_again_is_what_it_was(watched: Watched) -> None:
    """As a replay out of the dead letters does."""
    watched.bucket.write("cat.png", b"meow")
    [element] = leased(watched.source)
    watched.source.acknowledge([element])
    watched.source.send(element.body, element.headers, element.id)
    [again] = leased(watched.source)
    assert (again.id, watched.decoded(again)) == (element.id, watched.decoded(element))


# -- several events in one message -----------------------------------------------------------------------------


def several(watched: Watched, count: int) -> None:
    """S3 sends one by one; the format allows more."""
    records = []
    for number in range(count):
        watched.bucket.write(f"{number}", b"x")
        [element] = leased(watched.source)
        records += json.loads(element.body)["Records"]
        watched.source.acknowledge([element])
    watched.aws.client("sqs").send_message(
        QueueUrl=watched.stream.outputs["url"], MessageBody=json.dumps({"Records": records})
    )


def test_events_of_one_message_are_elements_of_their_own(watched: Watched) -> None:
    several(watched, 3)
    group = leased(watched.source, 3)
    assert [watched.decoded(element).file_path for element in group] == ["0", "1", "2"]
    assert len({element.id for element in group}) == 3
    assert watched.source.counts().in_flight == 1
    watched.source.renew(group)
    watched.source.acknowledge(group[:2])
    assert watched.source.counts().in_flight == 1, "the third is still under way"
    watched.source.acknowledge(group[2:])
    assert watched.source.counts() == (0, 0)


Settle = Callable[[EventSource, list[Element]], None]


def last_fails(source: EventSource, group: list[Element]) -> None:
    source.acknowledge(group[:2])
    source.release(group[2])


def second_waits(source: EventSource, group: list[Element]) -> None:
    source.release(group[1], delay=1)
    source.acknowledge([group[0], group[2]])


def one_of_two_is_counted(source: EventSource, group: list[Element]) -> None:
    source.release(group[0], counted=False)
    source.release(group[1])
    source.acknowledge(group[2:])


@pytest.mark.parametrize("settle", [last_fails, second_waits, one_of_two_is_counted])
def test_one_that_comes_again_brings_the_others_under_the_same_ids(watched: Watched, settle: Settle) -> None:
    several(watched, 3)
    group = leased(watched.source, 3)
    settle(watched.source, group)
    again = leased(watched.source, 3)
    assert [element.id for element in again] == [element.id for element in group]
    assert [(element.attempt, element.alone) for element in again] == [(2, False)] * 3
    watched.source.acknowledge(again)
    assert watched.source.counts() == (0, 0)


@pytest.mark.parametrize("failing", ["deliveries.write", "queue.hide", "queue.delete"])
def test_a_settlement_that_is_repeated_deletes_nothing_that_is_to_come_again(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """The worker repeats all that it has to tell until it could tell it."""
    several(watched, 3)
    watched.source.send(b'{"file_path": "alone"}', {})
    *group, single = sorted(leased(watched.source, 4), key=lambda element: b"alone" in element.body)
    part, method = failing.split(".")
    owner = getattr(watched.source, part)
    real = getattr(owner, method)
    calls: list[None] = []

    def fails_at_first(*arguments: Any) -> Any:
        calls.append(None)
        if len(calls) == 1:
            raise ServiceUnavailable
        return real(*arguments)

    def settle() -> None:
        watched.source.acknowledge(group[:2])
        watched.source.release(group[2])
        watched.source.release(single)

    monkeypatch.setattr(owner, method, fails_at_first)
    for _ in range(4):
        with contextlib.suppress(ServiceUnavailable):
            settle()
    again = leased(watched.source, 4)
    assert {element.id for element in again} == {element.id for element in (*group, single)}
    assert {element.attempt for element in again} == {2}
    watched.source.acknowledge(again)
    settle()
    assert watched.source.counts() == (0, 0)


def test_what_waits_for_the_next_lease_is_renewed(aws: Moto, session: AwsSession) -> None:
    watched = Watched(aws, session, lease="3s")
    several(watched, 3)
    first = list(watched.source.lease(1))
    watched.source.acknowledge(first)
    other = watched.new_source()
    end = time.monotonic() + 5
    while time.monotonic() < end:
        watched.source.renew([])
        assert other.lease(10) == []
        other.wait(0.2)
    assert [watched.decoded(element).file_path for element in watched.source.lease(3)] == ["1", "2"]


def test_what_waits_for_the_next_lease_is_given_back_at_the_end(aws: Moto, session: AwsSession) -> None:
    watched = Watched(aws, session, lease="30s")
    several(watched, 3)
    source = watched.source
    [first] = source.lease(1)
    source.release(first, alone=first.alone, counted=False)
    source.close()
    again = leased(watched.new_source(), 3)
    assert [(element.attempt, element.alone) for element in again] == [(1, False)] * 3


def test_a_test_message_that_cannot_be_deleted_costs_no_other_its_lease(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.bucket.write("cat.png", b"meow")
    [element] = leased(watched.source)
    watched.source.release(element, counted=False)
    watched.source.send(b'{"Event": "s3:TestEvent"}', {})
    with monkeypatch.context() as patch:
        patch.setattr(watched.source.queue, "delete", _unavailable)
        [found] = watched.source.lease(10)
    assert watched.decoded(found).file_path == "cat.png"
    assert watched.source.is_mine(found)
    assert watched.source.counts().in_flight == 2, "the test message comes again when it lapses"


def _unavailable(*_: Any) -> Any:
    raise ServiceUnavailable


# -- what S3 tells twice ---------------------------------------------------------------------------------------


def told(watched: Watched, *records: dict[str, Any]) -> None:
    """As S3 sends it."""
    watched.aws.client("sqs").send_message(
        QueueUrl=watched.stream.outputs["url"], MessageBody=json.dumps({"Records": list(records)})
    )


def record(key: str = "cat.png", sequencer: object = "0A1B", **more: Any) -> dict[str, Any]:
    return {
        "eventName": "ObjectCreated:Put",
        "eventTime": "2026-01-01T00:00:00.000Z",
        "s3": {"bucket": {"name": "images"}, "object": {"key": key, "size": 1, "sequencer": sequencer}},
        **more,
    }


def test_an_event_that_s3_tells_twice_has_one_id(watched: Watched) -> None:
    told(watched, record())
    told(watched, {**record(), "responseElements": {"x-amz-request-id": "of the second try"}})
    told(watched, record("dog.png"), record())
    found = leased(watched.source, 4)
    assert sorted(watched.decoded(element).file_path for element in found) == ["cat.png"] * 3 + ["dog.png"]
    assert len({element.id for element in found}) == 2


@pytest.mark.parametrize(
    "other",
    [
        record(sequencer="0A1C"),
        record(eventName="ObjectRemoved:Delete"),
        record(eventTime="2026-01-01T00:00:00.001Z"),
        record(s3={"bucket": {"name": "other"}, "object": record()["s3"]["object"]}),
        record(s3={"bucket": {"name": "images"}, "object": {**record()["s3"]["object"], "versionId": "2"}}),
    ],
    ids=["sequencer", "kind", "time", "bucket", "version"],
)
def test_another_event_has_another_id(watched: Watched, other: dict[str, Any]) -> None:
    told(watched, record())
    told(watched, other)
    assert len({element.id for element in leased(watched.source, 2)}) == 2


@pytest.mark.parametrize(
    "odd",
    [record(sequencer=""), record(sequencer=7), record(s3={"bucket": "x", "object": {"key": "a", "sequencer": []}})],
)
def test_an_event_that_says_too_little_is_called_after_its_message(watched: Watched, odd: dict[str, Any]) -> None:
    told(watched, odd)
    told(watched, odd)
    found = leased(watched.source, 2)
    assert {element.id for element in found} == {watched.source.message_of(element) for element in found}


def test_its_id_is_the_same_whenever_it_comes_and_when_it_is_sent_again(watched: Watched) -> None:
    told(watched, record(), record("dog.png"))
    found = leased(watched.source, 2)
    for element in found:
        watched.source.release(element)
    again = leased(watched.source, 2)
    assert [element.id for element in again] == [element.id for element in found]
    watched.source.acknowledge(again)
    changed = again[0].body.replace(b"cat.png", b"cow.png")
    watched.source.send(changed, again[0].headers, again[0].id)
    assert [element.id for element in leased(watched.source)] == [again[0].id], "as who replays it says"


def test_a_table_takes_what_s3_tells_twice_once(watched: Watched) -> None:
    files = table(Column(name="path", kind="string"))
    TABLES.create(files, watched.session)
    sink = TABLES.sink(files, watched.session)
    for _ in range(2):
        told(watched, record())
    for element in leased(watched.source, 2):
        sink.commit("save", [Entry(element.id, [{"path": watched.decoded(element).file_path}])])
    assert TABLES.handle(files, watched.session).rows() == [{"path": "cat.png"}]


# -- leases ----------------------------------------------------------------------------------------------------


def test_no_more_are_given_than_were_asked_for(watched: Watched) -> None:
    several(watched, 5)
    first = list(watched.source.lease(2))
    assert len(first) == 2
    watched.source.acknowledge(first)
    assert watched.source.counts().in_flight == 1
    rest = leased(watched.source, 3)
    assert [watched.decoded(element).file_path for element in [*first, *rest]] == list("01234")
    watched.source.acknowledge(rest)
    assert watched.source.counts().in_flight == 0


def test_what_was_not_given_out_comes_again_when_its_message_lapses(aws: Moto, session: AwsSession) -> None:
    watched = Watched(aws, session, lease="1s")
    several(watched, 3)
    first = list(watched.source.lease(1))
    watched.source.acknowledge(first)
    end = time.monotonic() + 60
    while not watched.source.counts().backlog and time.monotonic() < end:
        watched.source.wait(0.1)
    other = watched.new_source()
    assert [watched.decoded(element).file_path for element in leased(other, 3)] == list("012")
    assert watched.source.lease(3) == []
