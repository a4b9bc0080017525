"""`queue` on AWS: SQS as a source, a sink and a handle, against moto."""

import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from buildflow.errors import BadMessage, InvalidRow, LeadershipLost, NotApplied, ServiceUnavailable
from buildflow.ir.graph import Resource
from buildflow.primitives.base import Element, Entry, Grant, Role, Sink, Source
from buildflow.primitives.queue import QueueSpec
from buildflow.primitives.queue.aws import DRIVER, redrive_name
from buildflow.primitives.queue.sqs import SQSSource, redrive_of
from buildflow.primitives.queue.sqs_messages import ENCODING, HEADERS, ID, LARGEST, envelope, opened
from buildflow.primitives.queue.sqs_queue import batches_in_order
from buildflow.providers.aws import AwsSession
from buildflow.providers.redis_client import connect
from buildflow.types import Message, Queue
from tests.moto import Moto, session_on

_numbers = itertools.count()


def queue(key: str = "orders", outputs: dict[str, str] | None = None, **fields: Any) -> Resource:
    spec = QueueSpec(type="queue", **fields)
    name = (outputs or {}).get("name") or DRIVER.name(key, spec, "shop", "aws")
    return Resource(
        key=key,
        type="queue",
        provider="aws",
        name=name,
        id=f"sqs://{name}",
        label=DRIVER.label,
        spec=spec.model_dump(mode="json"),
        outputs=outputs or {},
    )


@pytest.fixture(scope="module")
def session(aws: Moto, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsSession]:
    session = session_on(aws, tmp_path_factory.mktemp("stack"))
    yield session
    session.close(wait=5)


@pytest.fixture
def made(aws: Moto) -> Callable[..., Resource]:
    """A queue that exists, of a name of its own."""

    def make(*, fifo: bool = False, received: int = 0, **fields: Any) -> Resource:
        name = f"orders-{next(_numbers)}{'.fifo' if fifo else ''}"
        options = {"aws": {"fifo": True}} if fifo else {}
        return queue(outputs=aws.queue(name, received=received), **options, **fields)

    return make


@pytest.fixture
def source(made: Callable[..., Resource], session: AwsSession) -> SQSSource:
    return source_of(made(), session)


def source_of(resource: Resource, session: AwsSession) -> SQSSource:
    source = DRIVER.source(resource, session)
    assert isinstance(source, SQSSource)
    return source


def bodies(elements: Any) -> list[bytes]:
    return [element.body for element in elements]


def leased(source: SQSSource, count: int = 1, seconds: float = 60.0) -> list[Element]:
    """The next elements, as many as are asked for."""
    found: list[Element] = []
    end = time.monotonic() + seconds
    while len(found) < count and time.monotonic() < end:
        found += source.lease(count - len(found))
        if len(found) < count:
            source.wait(0.1)
    return found


def raw(aws: Moto, resource: Resource, body: str, **attributes: Any) -> None:
    """What another program sends."""
    aws.client("sqs").send_message(QueueUrl=resource.outputs["url"], MessageBody=body, MessageAttributes=attributes)


# -- names and permissions -------------------------------------------------------------------------------------


def test_it_is_called_after_project_stack_and_key() -> None:
    assert queue().name == "shop-aws-orders"
    assert queue(aws={"fifo": True}).name == "shop-aws-orders.fifo"
    assert queue(name="inbox").name == "inbox"
    assert DRIVER.identify(queue(), None) == "sqs://shop-aws-orders"
    assert DRIVER.check_name("inbox") == DRIVER.check_name("inbox.fifo") == ""
    assert DRIVER.check_name("in box") == "it consists of letters, digits, hyphens and underscores"


def test_who_takes_may_not_send_and_who_sends_may_not_take() -> None:
    [taken], [sent] = DRIVER.grants(queue(), Role.SOURCE), DRIVER.grants(queue(), Role.SINK)
    assert isinstance(taken, Grant)
    assert "sqs:SendMessage" not in taken.actions
    assert "sqs:ReceiveMessage" not in sent.actions


def test_source_and_sink_have_all_that_is_asked_of_them(made: Callable[..., Resource], session: AwsSession) -> None:
    parts = DRIVER.source(made(), session), DRIVER.sink(made(), session)
    for protocol, part in zip((Source, Sink), parts, strict=True):
        asked = {*vars(protocol), *getattr(protocol, "__annotations__", {})}
        assert [name for name in asked if not name.startswith("_") and not hasattr(part, name)] == []


def test_its_address_is_asked_for_once_where_it_is_not_recorded(
    made: Callable[..., Resource], session: AwsSession
) -> None:
    recorded = made()
    handle = DRIVER.handle(recorded.model_copy(update={"outputs": {}}), session)
    handle.send_many(["1", "2"])
    assert sorted(bodies(leased(source_of(recorded, session), 2))) == [b"1", b"2"]


def test_a_queue_that_does_not_exist_is_named(session: AwsSession) -> None:
    with pytest.raises(NotApplied, match='queue "shop-aws-nowhere" does not exist') as caught:
        DRIVER.handle(queue("nowhere"), session).send("1")
    assert caught.value.hint == "`platform apply` creates it"


# -- messages --------------------------------------------------------------------------------------------------


BODIES = [
    b'{"id": 1}',
    "ü 語 😀 \t\r\n ".encode(),
    b"",
    b"\n",
    bytes(range(256)),
    b"a\x00b",
    "\x0b \ufffe \uffff".encode(),
    b'{"number": \xff\x00 this is nothing',
]


def test_bodies_arrive_as_they_were_sent(source: SQSSource) -> None:
    ids = source.send_many([(body, {}, None) for body in BODIES])
    found = {element.id: element.body for element in leased(source, len(BODIES))}
    assert [found[id] for id in ids] == BODIES


HEADERS_SENT = [
    {},
    {"kind": "ürgent", "a.b-c_d": "1"},
    {"": "no name", "a b": "blank", "aws.x": "theirs", ".x": "dot", "x..y": "dots", "empty": "", "bad": "\x00"},
    {f"h{n}": str(n) for n in range(30)},
    {**{f"h{n}": str(n) for n in range(9)}},
    {"buildflow-id": "mine", "buildflow-replays": "1", "n" * 300: "long"},
]


@pytest.mark.parametrize("body", [b"text", b"\xff"], ids=["text", "bytes"])
def test_headers_arrive_as_they_were_sent(source: SQSSource, body: bytes) -> None:
    ids = source.send_many([(body, headers, None) for headers in HEADERS_SENT])
    found = {element.id: element.headers for element in leased(source, len(HEADERS_SENT))}
    assert [found[id] for id in ids] == HEADERS_SENT


def test_a_header_is_an_attribute_where_it_can_be_and_ten_are_the_most() -> None:
    few = envelope(b"x", {"kind": "a"}, "1")
    assert few.attributes["kind"] == {"DataType": "String", "StringValue": "a"}
    assert set(few.attributes) == {ID, "kind"}
    many = envelope(b"\xff", {f"h{n}": "x" for n in range(30)}, "1", first=["h29"])
    assert len(many.attributes) == 10
    assert {ID, ENCODING, HEADERS, "h29"} <= set(many.attributes)
    exactly = envelope(b"x", {f"h{n}": "x" for n in range(9)}, "1")
    assert HEADERS not in exactly.attributes
    deep = {HEADERS: {"DataType": "String", "StringValue": "[" * 100_000}}
    assert opened("of others", deep) == ("", b"of others", {})
    assert opened(many.text, many.attributes) == ("1", b"\xff", {f"h{n}": "x" for n in range(30)})


def test_messages_of_other_programs_are_taken_as_they_are(
    aws: Moto, made: Callable[..., Resource], session: AwsSession
) -> None:
    resource = made()
    number = {"DataType": "Number", "StringValue": "7"}
    binary = {"DataType": "Binary", "BinaryValue": b"\x00\x01"}
    raw(aws, resource, "plain ü", count=number, flag=binary)
    [element] = leased(source_of(resource, session))
    assert (element.body, element.headers) == ("plain ü".encode(), {"count": "7", "flag": "AAE="})
    assert len(element.id) == 36, "SQS' own id"
    assert element.sent_at
    assert abs(element.sent_at.timestamp() - time.time()) < 30
    odd = {"DataType": "String", "StringValue": "base64"}
    raw(aws, resource, "odd", **{ENCODING: odd, HEADERS: number})
    [element] = leased(source_of(resource, session))
    assert (element.body, element.headers) == (b"odd", {}), "what looks like ours and is not"


def test_one_that_is_too_large_is_refused_in_words_before_any_is_sent(
    made: Callable[..., Resource], session: AwsSession
) -> None:
    resource = made()
    source, sink = source_of(resource, session), DRIVER.sink(resource, session)
    with pytest.raises(BadMessage, match=f"it takes {LARGEST:,} at most") as caught:
        sink.commit("c", [Entry("1", ["small", "x" * LARGEST])])
    assert caught.value.hint == "write it to a bucket, and send its path"
    with pytest.raises(InvalidRow):
        sink.check(b"\xff" * 800_000)
    sink.check("x" * 1_000_000)
    assert source.counts().backlog == 0


def test_large_messages_share_requests_as_far_as_they_fit(source: SQSSource) -> None:
    sent = [bytes([65 + n]) * 300_000 for n in range(12)]
    source.send_many([(body, {}, None) for body in sent])
    assert sorted(bodies(leased(source, 12))) == sent


# -- leases ----------------------------------------------------------------------------------------------------


def test_many_are_taken_at_once_and_never_more_than_were_asked_for(source: SQSSource) -> None:
    ids = source.send_many([(b"x", {}, None) for _ in range(130)])
    assert source.counts() == (130, 0)
    first = source.lease(57)
    assert len(first) == 57
    assert source.counts() == (73, 57)
    assert [(e.attempt, e.alone) for e in first] == [(1, False)] * 57
    rest = source.lease(1000)
    assert {e.id for e in [*first, *rest]} == set(ids)
    assert source.lease(10) == []
    source.acknowledge([*first, *rest])
    assert source.counts() == (0, 0)
    source.acknowledge(first), "once more"


def test_a_released_one_comes_again_counted_or_not(source: SQSSource) -> None:
    sent = source.send(b"1", {"kind": "a"})
    attempts = []
    for counted in (True, False, False, True):
        [element] = leased(source)
        attempts.append(element.attempt)
        assert (element.id, element.headers, element.alone) == (sent, {"kind": "a"}, False)
        source.release(element, counted=counted)
    [element] = leased(source)
    assert [*attempts, element.attempt] == [1, 2, 2, 2, 3]


def test_a_repeated_release_counts_once_and_leaves_the_message_to_who_has_it(
    made: Callable[..., Resource], session: AwsSession
) -> None:
    """As when the worker could not tell the source all that it had to, and begins anew."""
    resource = made()
    source, other = source_of(resource, session), source_of(resource, session)
    source.send(b"1", {})
    [element] = leased(source)
    source.release(element, counted=False)
    [again] = leased(other)
    for _ in range(2):
        source.release(element, counted=False)
    assert again.attempt == 1
    assert source.lease(1) == [], "the other has it"
    other.release(again, counted=False)
    assert [e.attempt for e in leased(source)] == [1]


@pytest.mark.parametrize("part", ["deliveries", "queue"])
def test_a_release_that_failed_can_be_repeated_and_is_renewed_meanwhile(
    made: Callable[..., Resource], session: AwsSession, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    resource = made()
    source = source_of(resource, session)
    source.send(b"1", {})
    [element] = leased(source)
    with monkeypatch.context() as patch:
        patch.setattr(getattr(source, part), {"deliveries": "write", "queue": "hide"}[part], _unavailable)
        with pytest.raises(ServiceUnavailable):
            source.release(element, counted=False)
    assert source.is_mine(element)
    source.renew([element])
    source.release(element, counted=False)
    assert [(e.attempt, e.alone) for e in leased(source)] == [(1, False)]


def test_a_renewal_under_way_hides_nothing_that_is_released(
    made: Callable[..., Resource], session: AwsSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = made()
    source, other = source_of(resource, session), source_of(resource, session)
    source.send(b"1", {})
    [element] = leased(source)
    asked, answered = threading.Event(), threading.Event()
    hide = source.queue.hide

    def slowly(handles: Any) -> list[str]:
        chosen = list(handles)
        if any(seconds > 0 for _, seconds in chosen):  # of the renewal
            asked.set()
            answered.wait(60)
        return hide(chosen)

    monkeypatch.setattr(source.queue, "hide", slowly)
    renewing = threading.Thread(target=source.renew, args=[[element]])
    renewing.start()
    assert asked.wait(60)
    releasing = threading.Thread(target=source.release, args=[element])
    releasing.start()
    releasing.join(0.3)  # it would be through by then
    answered.set()
    for thread in (renewing, releasing):
        thread.join(60)
    assert [e.body for e in leased(other, 1, 2)] == [b"1"]
    asked.clear()
    source.renew([element])
    assert not asked.is_set(), "it is no longer ours"


def test_who_asked_to_be_alone_comes_alone_until_it_is_released_otherwise(source: SQSSource) -> None:
    source.send(b"1", {})
    alone = []
    for asked in (True, True, False, True):
        [element] = leased(source)
        alone.append(element.alone)
        source.release(element, alone=asked)
    assert [*alone, leased(source)[0].alone] == [False, True, True, False, True]


def test_a_delay_waits_at_the_source_and_is_no_lease(source: SQSSource) -> None:
    source.send_many([(b"late", {}, None), (b"held", {}, None)])
    late, held = sorted(leased(source, 2), key=lambda e: e.body, reverse=True)
    began = time.monotonic()
    source.release(late, delay=3.0)
    assert source.counts() == (1, 1)
    assert source.lease(10) == []
    [again] = leased(source)
    assert time.monotonic() - began > 2.9
    assert (again.body, again.attempt, again.alone) == (b"late", 2, False)
    assert source.counts() == (0, 2)
    source.acknowledge([again, held])


def test_a_lease_that_lapses_comes_again_alone_and_a_renewed_one_does_not(
    made: Callable[..., Resource], session: AwsSession
) -> None:
    resource = made(lease="3s")
    hanging, other = source_of(resource, session), source_of(resource, session)
    hanging.send_many([(b"kept", {}, None), (b"forgotten", {}, None)])
    forgotten, kept = sorted(leased(hanging, 2), key=lambda e: e.body)
    found: list[Element] = []
    end = time.monotonic() + 60
    while not found and time.monotonic() < end:
        hanging.renew([kept])
        found = list(other.lease(10))
        other.wait(0.1)
    assert [(e.body, e.attempt, e.alone) for e in found] == [(b"forgotten", 2, True)]
    assert found[0].id == forgotten.id
    other.release(found[0])
    [again] = leased(other)
    assert (again.attempt, again.alone) == (3, False), "what was released has not died"


def test_who_comes_late_neither_renews_nor_releases_what_another_has(
    made: Callable[..., Resource], session: AwsSession
) -> None:
    resource = made(lease="3s")
    late, other = source_of(resource, session), source_of(resource, session)
    late.send(b"1", {})
    [lapsed] = leased(late)
    [held] = leased(other)
    late.release(lapsed)
    late.renew([lapsed])
    assert other.lease(1) == [], "the release would have given it away"
    assert source_of(resource, session).lease(1) == []
    late.acknowledge([lapsed])
    assert other.counts() == (0, 0), "acknowledged means committed"
    other.acknowledge([held])


def test_the_lease_of_a_long_handler_is_renewed_again_and_again(
    made: Callable[..., Resource], session: AwsSession
) -> None:
    resource = made(lease="3s")
    source, other = source_of(resource, session), source_of(resource, session)
    source.send_many([(str(n).encode(), {}, None) for n in range(25)])
    held = leased(source, 25)
    end = time.monotonic() + 5
    while time.monotonic() < end:
        source.renew(held)
        assert other.lease(10) == []
        other.wait(0.2)
    source.acknowledge(held)


def test_it_is_hidden_for_12_hours_at_most(source: SQSSource, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(source.queue, "hide", lambda handles: asked.extend(s for _, s in handles) or [])
    source.send(b"1", {})
    [element] = leased(source)
    source.release(element, delay=7 * 86_400)
    assert 43_190 < asked[0] < 43_200


def test_what_was_hidden_for_12_hours_is_said_once_and_left_to_others(
    source: SQSSource, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(source.queue, "hide", lambda handles: asked.extend(s for _, s in handles) or [])
    source.send(b"1", {})
    [element] = leased(source)
    now = [time.time(), time.monotonic()]
    monkeypatch.setattr("buildflow.primitives.queue.sqs.time", Clock(now))

    def later(seconds: float) -> None:
        now[:] = [moment + seconds for moment in now]

    renewals = 12 * 60 * 6 - 3  # each ten seconds, as the worker does
    for _ in range(renewals):
        later(10)
        source.renew([element])
    assert asked[:-1] == [30] * (renewals - 1)
    assert 0 < asked[-1] <= 30
    assert not caplog.records
    for _ in range(6):
        later(10)
        source.renew([element])
    assert 0 not in asked, "which would give it to others now"
    assert not source.is_mine(element)
    [said] = caplog.messages
    assert f"the lease of {element.id} has ended, as SQS hides no message for longer than 12 hours" in said


class Clock:
    """`time`, standing still."""

    def __init__(self, now: list[float]) -> None:
        self.time = lambda: now[0]
        self.monotonic = lambda: now[1]


# -- waiting ---------------------------------------------------------------------------------------------------


def test_waiting_ends_when_a_message_comes_and_the_next_lease_has_it(source: SQSSource) -> None:
    threading.Timer(0.3, lambda: source.send(b"1", {})).start()
    began = time.monotonic()
    source.wait(20)
    assert 0.2 < time.monotonic() - began < 5
    assert source.counts().in_flight == 1
    assert bodies(source.lease(10)) == [b"1"]


def test_what_came_while_nobody_asked_is_given_back_as_it_was(
    made: Callable[..., Resource], session: AwsSession
) -> None:
    resource = made()
    busy, other = source_of(resource, session), source_of(resource, session)
    busy.send(b"1", {})
    busy.wait(1)
    assert other.lease(1) == []
    [element] = leased(other)
    assert (element.attempt, element.alone) == (1, False)
    assert busy.lease(1) == []


def test_closing_gives_back_what_was_kept(made: Callable[..., Resource], session: AwsSession) -> None:
    resource = made()
    source = source_of(resource, session)
    source.send(b"1", {})
    source.wait(1)
    source.close()
    assert [(e.body, e.attempt) for e in source_of(resource, session).lease(1)] == [(b"1", 1)]
    began = time.monotonic()
    source.wait(20)
    assert time.monotonic() - began < 1


# -- what fails ------------------------------------------------------------------------------------------------


def failing(session: AwsSession, operation: str, times: int, fail: Callable[[dict[str, Any]], Any]) -> Any:
    """Let AWS answer a call otherwise, some times."""
    client = session.client("sqs")
    left = [times]
    asked: list[int] = []

    def answer(params: dict[str, Any], **_: Any) -> Any:
        from botocore.awsrequest import AWSResponse

        entries = json.loads(params["body"])["Entries"]
        asked.append(len(entries))
        if not left[0]:
            return None
        left[0] -= 1
        return AWSResponse("", 200, {}, None), fail(entries)

    client.meta.events.register(f"before-call.sqs.{operation}", answer, unique_id=operation)
    return asked, lambda: client.meta.events.unregister(f"before-call.sqs.{operation}", unique_id=operation)


def some_fail(entries: list[dict[str, Any]], *, code: str = "InternalError", fault: bool = False) -> dict[str, Any]:
    failed = [{"Id": e["Id"], "Code": code, "Message": "no", "SenderFault": fault} for e in entries[::2]]
    return {"Successful": [], "Failed": failed}


def test_entries_that_fail_go_again_alone(source: SQSSource, session: AwsSession) -> None:
    asked, undo = failing(session, "SendMessageBatch", 1, some_fail)
    source.send_many([(b"x", {}, None) for _ in range(10)])
    undo()
    assert asked == [10, 5]
    group = leased(source, 5)
    asked, undo = failing(session, "DeleteMessageBatch", 2, some_fail)
    source.acknowledge(group)
    undo()
    assert asked == [5, 3, 2]


def test_entries_that_fail_for_ever_are_told(source: SQSSource, session: AwsSession) -> None:
    asked, undo = failing(session, "SendMessageBatch", 99, some_fail)
    with pytest.raises(ServiceUnavailable, match="AWS did not take 1 of 3 entries of a request: no"):
        source.send_many([(b"x", {}, None) for _ in range(3)])
    undo()
    assert asked == [3, 2, 1, 1, 1]
    _, undo = failing(session, "SendMessageBatch", 9, lambda e: some_fail(e, code="InvalidMessageContents", fault=True))
    with pytest.raises(InvalidRow, match="refuses a message: no"):
        source.send_many([(b"x", {}, None)])
    undo()


@pytest.mark.parametrize(
    ("code", "words", "hint"),
    [
        ("ThrottlingException", "does not answer", ""),
        ("OverLimit", "does not answer", ""),
        ("ExpiredToken", "the credentials for AWS have expired", "sign in again"),
        ("InvalidClientTokenId", "AWS does not accept the credentials", "look at the stack's `aws` keys"),
        ("AccessDenied", r"sqs:SendMessage is not allowed \(you may not\)", "allow sqs:SendMessage, in IAM"),
    ],
)
def test_what_passes_or_is_nobody_s_fault_costs_no_attempt(
    source: SQSSource, session: AwsSession, code: str, words: str, hint: str
) -> None:
    from botocore.exceptions import ClientError

    error = ClientError({"Error": {"Code": code, "Message": "you may not"}}, "SendMessageBatch")
    with (
        pytest.raises(ServiceUnavailable, match=f"queue .* {words}|queue .*: {words}") as caught,
        session.spoken("sqs", 'queue "orders"'),
    ):
        raise error
    assert hint in caught.value.hint


def test_expired_credentials_are_looked_for_anew(session: AwsSession) -> None:
    from botocore.exceptions import ClientError

    before = session.client("sqs")
    assert session.client("sqs") is before
    with pytest.raises(ServiceUnavailable), session.spoken("sqs", "AWS"):
        raise ClientError({"Error": {"Code": "ExpiredToken", "Message": "it is old"}}, "ReceiveMessage")
    assert session.client("sqs") is not before


def test_nobody_answers(aws: Moto, made: Callable[..., Resource], tmp_path: Path) -> None:
    away = session_on(aws, tmp_path, endpoint_url="http://127.0.0.1:9")
    resource = made()
    source = DRIVER.source(resource.model_copy(update={"outputs": {"url": "http://127.0.0.1:9/1/q"}}), away)
    with pytest.raises(ServiceUnavailable, match=r'queue "orders-.*" is out of reach: Could not connect'):
        source.lease(1)


@pytest.mark.parametrize(
    ("settings", "words", "hint"),
    [
        ({"aws_access_key_id": None, "aws_secret_access_key": None}, "Unable to locate credentials", "aws configure"),
        ({"region": None}, "You must specify a region", "aws: {region: ...}"),
        ({"profile": "nobody"}, r"The config profile \(nobody\) could not be found", "~/.aws/config"),
        ({"aws_secret_access_key": None}, "Partial credentials", "aws_secret_access_key"),
    ],
)
def test_how_a_stack_cannot_sign_in(
    aws: Moto,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    words: str,
    hint: str,
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    with pytest.raises(ServiceUnavailable, match=words) as caught:
        DRIVER.handle(queue(), session_on(aws, tmp_path, **settings)).send("1")
    assert hint in caught.value.hint


def test_without_redis_nothing_is_taken_for_that_would_count(
    source: SQSSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.send(b"1", {})
    [element] = leased(source)
    source.release(element, counted=False)
    with monkeypatch.context() as patch:
        patch.setattr(source.deliveries, "redis", lambda: connect("redis://127.0.0.1:9"))
        patch.setattr("buildflow.providers.redis_client.PATIENCE", 0.0)
        for _ in range(3):
            for ask in (lambda: source.lease(1), lambda: source.wait(1)):
                with pytest.raises(ServiceUnavailable, match="Redis does not answer"):
                    ask()
    [again] = source.lease(1)
    assert (again.attempt, again.alone) == (1, False)


def test_what_was_received_when_redis_went_is_leased_when_it_is_back(
    source: SQSSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.send(b"1", {})
    [element] = leased(source)
    source.release(element)
    with monkeypatch.context() as patch:
        patch.setattr(source.deliveries, "read", _unavailable)
        with pytest.raises(ServiceUnavailable):
            source.lease(1)
    [again] = source.lease(1)
    assert (again.attempt, again.alone) == (2, False)


def test_what_was_kept_is_not_forgotten_when_no_more_can_be_received(
    source: SQSSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.send(b"1", {})
    source.wait(1)
    with monkeypatch.context() as patch:
        patch.setattr(source.queue, "receive", _unavailable)
        with pytest.raises(ServiceUnavailable):
            source.lease(10)
    assert [(e.body, e.attempt, e.alone) for e in leased(source)] == [(b"1", 1, False)]


def _unavailable(*_: Any, **__: Any) -> Any:
    raise ServiceUnavailable


def test_it_works_after_a_fork(source: SQSSource, session: AwsSession) -> None:
    source.send(b"of the parent", {})
    child = os.fork()
    if child == 0:
        try:
            source.send(b"of the child", {})
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert sorted(bodies(leased(source, 2))) == [b"of the child", b"of the parent"]


# -- sinks and handles -----------------------------------------------------------------------------------------


def test_rows_become_messages_and_a_repeated_commit_has_the_same_ids(
    made: Callable[..., Resource], session: AwsSession
) -> None:
    resource = made()
    sink, source = DRIVER.sink(resource, session), source_of(resource, session)
    assert sink.guarantee == "at least once"
    sink.commit("c", [])
    rows = [{"a": 1}, Message({"b": 2}, attributes={"kind": "x"}), b"\x00raw"]
    for writer in ("c", "c", "d"):
        sink.commit(writer, [Entry("1", rows[:2]), Entry("2", []), Entry("3", rows[2:])])
    found = leased(source, 9)
    assert len({element.id for element in found}) == 6
    once = {element.id: element for element in found}.values()
    assert sorted((e.body, tuple(e.headers.items())) for e in once)[::2] == [
        (b"\x00raw", ()),
        (b'{"a":1}', ()),
        (b'{"b":2}', (("kind", "x"),)),
    ]


def test_a_handler_can_send(made: Callable[..., Resource], session: AwsSession) -> None:
    resource = made()
    handle = DRIVER.handle(resource, session)
    assert isinstance(handle, Queue)
    assert handle.name == resource.name
    ids = [handle.send({"a": 1}, attributes={"kind": "x"}), *handle.send_many(["two", b"three"])]
    found = {e.id: e for e in leased(source_of(resource, session), 3)}
    assert [(found[id].body, found[id].headers) for id in ids] == [
        (b'{"a":1}', {"kind": "x"}),
        (b"two", {}),
        (b"three", {}),
    ]


# -- FIFO ------------------------------------------------------------------------------------------------------


def test_a_fifo_queue_keeps_the_order_over_retries(made: Callable[..., Resource], session: AwsSession) -> None:
    resource = made(fifo=True)
    source = source_of(resource, session)
    source.send_many([(str(n).encode(), {}, None) for n in range(25)])
    found: list[bytes] = []
    while group := leased(source, 10, 2):
        found += bodies(group)
        source.acknowledge(group)
    assert found == [str(n).encode() for n in range(25)]


def test_groups_of_a_fifo_queue_come_by_a_header(made: Callable[..., Resource], session: AwsSession) -> None:
    resource = made(fifo=True)
    source = source_of(resource, session)
    DRIVER.sink(resource, session).commit(
        "c", [Entry("1", [Message(f"{g}{n}", attributes={"MessageGroupId": g}) for n in (1, 2) for g in "ab"])]
    )
    first = leased(source, 1)
    assert first[0].headers == {"MessageGroupId": "a"}
    assert bodies(leased(source, 2)) == [b"b1", b"b2"], "a's next waits for its first"


def test_a_fifo_sink_sends_once_and_a_replay_always(made: Callable[..., Resource], session: AwsSession) -> None:
    resource = made(fifo=True)
    sink, source = DRIVER.sink(resource, session), source_of(resource, session)
    for _ in range(3):
        sink.commit("c", [Entry("1", ["a"])])
    [element] = leased(source, 3, 1)
    source.acknowledge([element])
    source.send(element.body, element.headers, element.id)
    assert [e.id for e in leased(source)] == [element.id]


def test_what_aws_refuses_of_a_request_is_not_overtaken_by_its_group(
    aws: Moto, made: Callable[..., Resource], session: AwsSession
) -> None:
    resource = made(fifo=True)
    source = source_of(resource, session)

    def every_other_fails(entries: list[dict[str, Any]]) -> dict[str, Any]:
        if taken := entries[1::2]:
            aws.client("sqs").send_message_batch(QueueUrl=resource.outputs["url"], Entries=taken)
        return some_fail(entries)

    asked, undo = failing(session, "SendMessageBatch", 3, every_other_fails)
    source.send_many([(f"{g}{n}".encode(), {"MessageGroupId": g}, None) for g in "ab" for n in range(4)])
    undo()
    assert max(asked) == 2, "one of each group"
    found: list[bytes] = []
    while group := leased(source, 10, 2):
        found += bodies(group)
        source.acknowledge(group)
    assert [body for body in found if body[:1] == b"a"] == [b"a0", b"a1", b"a2", b"a3"]
    assert [body for body in found if body[:1] == b"b"] == [b"b0", b"b1", b"b2", b"b3"]


def test_messages_of_many_groups_share_requests() -> None:
    messages = [envelope(b"x", {"MessageGroupId": group}, f"{group}{n}") for n in (1, 2) for group in "abcdefghijkl"]
    messages += [envelope(b"x", {}, "none"), envelope(b"x", {"MessageGroupId": "all"}, "all")]
    requests = [[message.id for message in request] for request in batches_in_order(messages, LARGEST)]
    assert requests == [
        [f"{group}1" for group in "abcdefghij"],
        ["k1", "l1", "none"],
        [f"{group}2" for group in "abcdefghij"],
        ["k2", "l2", "all"],
    ], "who names no group is in the group of all"


LOCK = "shop-aws:leader:consumer:save"


def test_one_leader_takes_a_fifo_queue_in_order_and_begins_are_counted(
    made: Callable[..., Resource], session: AwsSession
) -> None:
    resource = made(fifo=True, lease="1s")
    source = source_of(resource, session)
    source.send_many([(str(n).encode(), {}, None) for n in range(3)])
    session.redis().set(LOCK, "me")
    order = source.in_order(LOCK, "me")
    assert order.resume(10) == []
    first, second, _ = order.next(10)
    assert [first.attempt, first.alone] == [0, False]
    order.count([first, second])
    order.count([second], 0)
    order.count([Element(second.id, b"", second.receipt, attempt=1)], -1)
    session.redis().set(LOCK, "another")
    for step in (lambda: order.next(1), lambda: order.count([first])):
        with pytest.raises(LeadershipLost):
            step()
    successor = source_of(resource, session)
    taken = successor.in_order(LOCK, "another")
    found: dict[bytes, tuple[int, bool]] = {}
    end = time.monotonic() + 60
    while len(found) < 3 and time.monotonic() < end:
        group = taken.next(10)  # moto does not keep the order of those that lapsed together, as SQS does
        found |= {e.body: (e.attempt, e.alone) for e in group}
        successor.acknowledge(group)
        successor.wait(0.1)
    assert found == {b"0": (1, True), b"1": (0, False), b"2": (0, False)}
    assert session.redis().keys(f"*{resource.name}*") == []


def test_what_a_leader_took_while_its_notes_were_away_comes_in_order_with_them(
    made: Callable[..., Resource], session: AwsSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = made(fifo=True)
    source = source_of(resource, session)
    source.send_many([(str(n).encode(), {}, None) for n in range(3)])
    session.redis().set(LOCK, "me")
    order = source.in_order(LOCK, "me")
    with monkeypatch.context() as patch:
        patch.setattr(order._begun, "read", _unavailable)
        for _ in range(2):
            with pytest.raises(ServiceUnavailable):
                order.next(3)
    assert [(e.body, e.attempt, e.alone) for e in order.next(2)] == [(b"0", 0, False), (b"1", 0, False)]
    assert bodies(order.next(2)) == [b"2"]
    assert order.next(2) == []


# -- SQS' own redrive queue ------------------------------------------------------------------------------------


def test_what_sqs_moved_away_is_shown_sent_again_and_deleted(
    made: Callable[..., Resource], session: AwsSession
) -> None:
    resource = made(received=2)
    source = source_of(resource, session)
    redrive = DRIVER.backstop(resource, session)
    assert redrive is not None
    ids = source.send_many([(f"m{n}".encode(), {"n": str(n)}, None) for n in range(12)])
    for _ in range(2):
        for element in leased(source, 12):
            source.release(element)
    assert source.lease(100) == []
    assert (source.counts().backlog, redrive.count()) == (0, 12)
    with redrive.held() as elements:
        assert {(e.id, e.body, e.headers["n"]) for e in elements} == {
            (id, f"m{n}".encode(), str(n)) for n, id in enumerate(ids)
        }
        with redrive.held() as others:
            assert others == []
        chosen = next(e for e in elements if e.id == ids[3])
        source.send(chosen.body, chosen.headers, chosen.id)
        redrive.delete([chosen])
    assert redrive.count() == 11
    with redrive.held(limit=5) as elements:
        assert len(elements) == 5, "what was not deleted is back at once"
    with redrive.held(size=1) as elements:
        assert len(elements) == 10, "one request, and not another where these are large enough"
    assert [(e.id, e.attempt) for e in leased(source)] == [(ids[3], 1)]


def test_a_queue_without_a_redrive_queue_has_none(made: Callable[..., Resource], session: AwsSession) -> None:
    assert redrive_of(made(), session) is None
    fifo = made(fifo=True, received=1)
    found = redrive_of(fifo.model_copy(update={"outputs": {"url": fifo.outputs["url"]}}), session)
    assert found is not None, "by its name"
    assert found.count() == 0


def test_a_redrive_queue_s_name_has_no_more_than_80_characters() -> None:
    longest = "q" * 72
    assert redrive_name(longest) == longest + "-redrive"
    others = [redrive_name(longest + "a"), redrive_name(longest + "b"), redrive_name(longest + ".fifo")]
    assert [len(name) for name in others] == [80, 80, 80]
    assert len(set(others)) == 3
    assert others[2].endswith("-redrive.fifo")
