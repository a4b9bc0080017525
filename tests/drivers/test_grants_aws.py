"""What a driver on AWS asks to be allowed is what it calls: every action is used, and none is missing.

boto3's own calls are noted while each role does all that it can. So an action too many fails here, and so does one
that is taken away.
"""

import io
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from botocore.client import BaseClient

from buildflow.errors import ResourceFailed
from buildflow.ir.graph import Resource
from buildflow.primitives.base import Entry, Role
from buildflow.primitives.registry import all_primitives, driver, providers_of
from buildflow.providers.aws import AwsSession
from tests.aws_permissions import needed
from tests.moto import Moto, session_on


def resource(type: str, key: str, outputs: Mapping[str, str], **references: str) -> Resource:
    required = {"file": {"path": "rows/{id}.jsonl"}, "database": {}}.get(type, {})
    spec = all_primitives()[type].spec(type=type, **references, **required)  # type: ignore[arg-type]
    return Resource(
        key=key, type=type, provider="aws", name=outputs["name"], id=key, label=key, references=references,
        spec=spec.model_dump(mode="json"), outputs=dict(outputs),
    )  # fmt: skip


@pytest.fixture(scope="module")
def session(aws: Moto, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsSession]:
    files, events, orders, filled = aws.bucket("files"), aws.queue("events"), aws.queue("orders"), aws.queue("filled")
    aws.notify("files", events)
    news = aws.topic("news")
    readers = aws.subscription("readers", news)
    made = session_on(
        aws,
        tmp_path_factory.mktemp("stack"),
        resource("bucket", "files", files),
        resource("queue", "orders", orders),
        resource("queue", "filled", filled),
        resource("topic", "news", news),
        resource("file_change_stream", "events", events, bucket="files"),
        resource("subscription", "readers", readers, topic="news"),
        resource("file", "rows", {"name": "rows"}, bucket="files"),
    )
    yield made
    made.close(wait=5)


# all that each role does


def as_source(key: str, session: AwsSession) -> None:
    """Leases, keeps, gives back, acknowledges, counts; and reads what an event is about."""
    found = session.graph[key]
    chosen = driver(found.type, "aws")
    source = chosen.source(found, session)
    elements: list[Any] = []
    while len(elements) < 2:
        source.wait(1)
        elements += source.lease(10)
    source.renew(elements)
    source.release(elements[0], delay=0)
    source.acknowledge(elements[1:])
    source.counts()
    if hasattr(chosen, "decode"):
        event = chosen.decode(elements[1].body, found, session)
        assert event.blob
        assert event.path.read_bytes() == event.blob
    source.close()


def as_queue_sink(key: str, session: AwsSession) -> None:
    sink = driver(session.graph[key].type, "aws").sink(session.graph[key], session)
    sink.commit("test", ())
    sink.commit("test", [Entry("1", [{"n": n} for n in range(12)])])
    sink.close()


def as_handle(key: str, session: AwsSession) -> None:
    handle = driver(session.graph[key].type, "aws").handle(session.graph[key], session)
    handle.send({"n": 1})
    handle.send_many([{"n": n} for n in range(12)])


def as_bucket_handle(key: str, session: AwsSession) -> None:
    bucket = driver("bucket", "aws").handle(session.graph[key], session)
    bucket.write("small", b"x")
    bucket.write("large", io.BytesIO(b"x" * (9 << 20)))
    with pytest.raises(ResourceFailed, match="gone"):
        bucket.write("half", Broken())
    assert bucket.read("small") == b"x"
    with bucket.open("large") as file:
        assert file.read(1) == b"x"
    assert bucket.exists("small")
    assert [o.path for o in bucket.list("sm")] == ["small"]
    bucket.delete("small")
    bucket.url("large")


class Broken(io.RawIOBase):
    """A file that breaks off when it has begun to go up."""

    def __init__(self) -> None:
        self._given = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        self._given += 1 << 20
        if self._given > 20 << 20:
            raise OSError("gone")
        return b"x" * (1 << 20)


def as_bucket_sink(key: str, session: AwsSession) -> None:
    sink = driver("bucket", "aws").sink(session.graph[key], session)
    sink.commit("test", ())
    sink.commit("test", [Entry("1", [{"text": "x"}]), Entry("2", [{"text": "x" * (9 << 20)}])])
    sink.close()


def as_file_sink(key: str, session: AwsSession) -> None:
    sink = driver("file", "aws").sink(session.graph[key], session)
    sink.commit("test", [Entry("1", [{"text": "x"}])])
    sink.rotate()
    sink.close()


USES: list[tuple[str, Role, Callable[[str, AwsSession], None]]] = [
    ("orders", Role.SINK, as_queue_sink),
    ("orders", Role.STORE, as_handle),
    ("filled", Role.SOURCE, as_source),
    ("events", Role.SOURCE, as_source),
    ("news", Role.SINK, as_queue_sink),
    ("news", Role.STORE, as_handle),
    ("readers", Role.SOURCE, as_source),
    ("files", Role.STORE, as_bucket_handle),
    ("files", Role.SINK, as_bucket_sink),
    ("rows", Role.SINK, as_file_sink),
]
"""Each of a driver's roles, and what does all of it."""


@pytest.mark.parametrize(("key", "role", "use"), USES, ids=[f"{key}-{role}" for key, role, _ in USES])
def test_what_a_driver_asks_for_is_what_it_calls(
    key: str,
    role: Role,
    use: Callable[[str, AwsSession], None],
    session: AwsSession,
    aws: Moto,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(aws)
    found: set[tuple[str, str]] = set()
    make, here = BaseClient._make_api_call, threading.Lock()

    def noted(client: Any, operation: str, parameters: Mapping[str, Any]) -> Any:
        call = {"service": client.meta.service_model.service_name, "operation": operation, "on": parameters}
        if client.meta.endpoint_url == aws.url:
            with here:
                found.add(needed(call))
        return make(client, operation, parameters)

    monkeypatch.setattr(BaseClient, "_make_api_call", noted)
    use(key, session)
    monkeypatch.undo()

    granted = [
        g for g in driver(session.graph[key].type, "aws").grants(session.graph[key], role) if g.on == "arn"
    ]  # KMS is asked by S3
    asked = {(action, _target(session.graph[g.of], g.below)) for g in granted for action in g.actions}
    assert {(action, _shape(arn)) for action, arn in found} | NOT_CALLED.get((key, role), set()) == asked


NOT_CALLED: dict[tuple[str, Role], set[tuple[str, str]]] = {
    ("files", Role.SINK): {("s3:AbortMultipartUpload", "files/*")},
    ("rows", Role.SINK): {("s3:AbortMultipartUpload", "files/*"), ("s3:ListBucket", "files")},
    ("events", Role.SOURCE): {("s3:ListBucket", "files")},
}
"""What is asked for and called only when something fails (a connection that breaks off, as `Broken` is to the handle),
or what S3 wants of who asks for an object that is gone: without s3:ListBucket it says "forbidden"."""


def _target(resource: Resource, below: str) -> str:
    return f"{resource.name}{below}"


def _shape(arn: str) -> str:
    """An object's ARN as the pattern that allows all of its bucket's."""
    name = arn.rpartition(":")[2]
    return f"{name.partition('/')[0]}/*" if "/" in name else name


def fill(aws: Moto) -> None:
    """Something to take at each source."""
    for name in ("filled", "readers"):
        url = aws.client("sqs").get_queue_url(QueueName=name)["QueueUrl"]
        for n in range(2):
            aws.client("sqs").send_message(QueueUrl=url, MessageBody=f'{{"n": {n}}}')
    for n in range(2):
        aws.client("s3").put_object(Bucket="files", Key=f"given/{n}", Body=b"x")


def test_every_role_on_aws_is_used_here() -> None:
    used = {(key, role) for key, role, _ in USES}
    types = {"orders": "queue", "filled": "queue", "events": "file_change_stream", "news": "topic",
             "readers": "subscription", "files": "bucket", "rows": "file"}  # fmt: skip
    known = {(types[key], role) for key, role in used}
    for type, primitive in all_primitives().items():
        if "aws" in providers_of(type) and hasattr(driver(type, "aws"), "grants") and type != "database":
            roles = {*primitive.roles, *([Role.STORE] if primitive.handle else [])}
            assert {(type, role) for role in roles} <= known, type
