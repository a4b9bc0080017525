"""`file` and `schedule` on AWS: the local ones, with their files in S3 and their ticks in the stack's Redis."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from buildflow.ir.columns import Column
from buildflow.ir.graph import Resource
from buildflow.primitives.base import Action, Entry, Role
from buildflow.primitives.bucket.aws import DRIVER as BUCKETS
from buildflow.primitives.file import FileSpec
from buildflow.primitives.file.aws import DRIVER
from buildflow.primitives.registry import is_declared
from buildflow.primitives.schedule import ScheduleSpec
from buildflow.primitives.schedule.aws import DRIVER as SCHEDULES
from buildflow.providers.aws import AwsSession
from tests.drivers.test_bucket_aws import bucket
from tests.moto import Moto, session_on


def file(**fields: Any) -> Resource:
    spec = FileSpec(type="file", bucket="images", **{"path": "exports/{date}/orders.jsonl", **fields})
    return Resource(
        key="archive",
        type="file",
        provider="aws",
        name=DRIVER.name("archive", spec, "shop", "aws"),
        id="",
        label=DRIVER.label,
        spec=spec.model_dump(mode="json"),
        references={"bucket": "images"},
        columns=(Column(name="id", kind="integer"),) if spec.columns else (),
    )


@pytest.fixture
def images(aws: Moto, request: pytest.FixtureRequest) -> Resource:
    return bucket(outputs=aws.bucket(f"files-{abs(hash(request.node.name)) % 10**8}"))


@pytest.fixture
def session(aws: Moto, images: Resource, tmp_path: Path) -> Iterator[AwsSession]:
    session = session_on(aws, tmp_path, images, file())
    yield session
    session.close(wait=5)


def test_they_are_created_by_their_drivers_and_not_declared() -> None:
    assert not is_declared("file", "aws")
    assert not is_declared("schedule", "aws")
    assert not is_declared("table", "aws")


def test_a_file_s_outputs_and_permissions(session: AwsSession, images: Resource) -> None:
    assert not DRIVER.exists(file(), session)
    assert DRIVER.create(file(), session) == {"path": f"s3://{images.name}/exports"}
    assert DRIVER.exists(file(), session)
    assert DRIVER.identify(file(), None) == "s3://images:exports/{date}/orders.jsonl"
    actions = {action for g in DRIVER.grants(file(), Role.SINK) if g.on == "arn" for action in g.actions}
    assert actions == {"s3:PutObject", "s3:AbortMultipartUpload", "s3:GetObject", "s3:ListBucket"}
    assert DRIVER.compare(file(), file(rotate={"size": 1000}), session).action is Action.UPDATE


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_rows_appear_in_the_bucket(session: AwsSession, images: Resource, tmp_path: Path, format: str) -> None:
    columns = {"columns": {"id": "integer"}} if format == "parquet" else {}
    resource = file(path=f"exports/orders.{format}", format=format, **columns)
    DRIVER.create(resource, session)
    sink = DRIVER.sink(resource, session)
    sink.commit("c", [Entry(str(n), [{"id": n}]) for n in range(10)])
    handle = BUCKETS.handle(images, session)
    assert list(handle.list()) == []
    sink.close()
    [info] = handle.list("exports/")
    if format == "jsonl":
        rows = [json.loads(line) for line in handle.read(info.path).splitlines()]
    else:
        with handle.open(info.path) as opened:
            rows = pyarrow.parquet.read_table(opened).to_pylist()
    assert [row["id"] for row in rows] == list(range(10))


def test_rows_that_cannot_be_put_are_kept_and_put_by_the_next_process(
    aws: Moto, session: AwsSession, images: Resource, tmp_path: Path
) -> None:
    away = session_on(aws, tmp_path, images, file(), endpoint_url="http://127.0.0.1:9")
    DRIVER.create(file(), away)
    sink = DRIVER.sink(file(), away)
    sink.commit("c", [Entry("1", [{"id": 1}])])
    away._clients.client("s3").meta.events.register("needs-retry.s3", lambda **_: None)
    sink.close()
    assert list(BUCKETS.handle(images, session).list()) == []
    DRIVER.delete(file(), session)
    [info] = BUCKETS.handle(images, session).list("exports/")
    assert json.loads(BUCKETS.handle(images, session).read(info.path)) == {"id": 1}
    assert not DRIVER.exists(file(), session)


def test_a_schedule_ticks_in_the_stack_s_redis(session: AwsSession) -> None:
    spec = ScheduleSpec(type="schedule", every="1s")
    name = SCHEDULES.name("nightly", spec, "shop", "aws")
    assert SCHEDULES.check_name(name) == ""
    resource = Resource(
        key="nightly",
        type="schedule",
        provider="aws",
        name=name,
        id=SCHEDULES.identify(file().model_copy(update={"name": name}), None),
        label=SCHEDULES.label,
        spec=spec.model_dump(mode="json"),
    )
    assert (resource.id, resource.label) == ("redis://shop-aws-nightly", "RedisSchedule")
    SCHEDULES.create(resource, session)
    stop = threading.Event()
    clock = threading.Thread(target=SCHEDULES.watch, args=(resource, session, stop))
    clock.start()
    source = SCHEDULES.source(resource, session)
    try:
        for _ in range(60):
            if found := source.lease(1):
                break
            source.wait(1)
        [element] = found
        assert SCHEDULES.decode(element.body, resource, session).schedule == "nightly"
    finally:
        stop.set()
        clock.join()
