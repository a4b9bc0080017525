"""`bucket` on AWS: S3 as a handle and a sink, against moto. What a bucket is everywhere is asked of it as of the local
one."""

import io
import itertools
import json
import os
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from buildflow.errors import InvalidObjectName, NotApplied, ObjectNotFound, ResourceFailed, ServiceUnavailable
from buildflow.ir.graph import Resource
from buildflow.primitives.base import Entry, Role, Sink
from buildflow.primitives.bucket import BucketSpec
from buildflow.primitives.bucket.aws import DRIVER
from buildflow.primitives.bucket.s3 import PART, S3BucketHandle
from buildflow.providers.aws import AwsSession
from buildflow.types import Bucket
from tests.drivers.test_bucket_local import (  # noqa: F401 - tests of the handle that it has to pass, too
    OUTSIDE,
    Endless,
    test_an_empty_object_is_an_object,
    test_list_is_in_order_of_path,
    test_text_is_written_as_utf_8,
    test_whatever_holds_bytes_can_be_written,
    test_writing_again_replaces,
)
from tests.moto import REGION, Moto, session_on

_numbers = itertools.count()


def bucket(key: str = "images", outputs: dict[str, str] | None = None, **fields: Any) -> Resource:
    spec = BucketSpec(type="bucket", **fields)
    name = (outputs or {}).get("name") or DRIVER.name(key, spec, "shop", "aws")
    return Resource(
        key=key,
        type="bucket",
        provider="aws",
        name=name,
        id=f"s3://{name}",
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
def images(aws: Moto, session: AwsSession) -> S3BucketHandle:
    """A bucket that exists, with nothing in it."""
    handle = DRIVER.handle(bucket(outputs=aws.bucket(f"images-{next(_numbers)}")), session)
    assert isinstance(handle, S3BucketHandle)
    return handle


# -- names and permissions -------------------------------------------------------------------------------------


def test_it_is_called_after_project_stack_and_key() -> None:
    assert bucket().name == "shop-aws-images"
    assert bucket(name="pictures").name == "pictures"
    assert DRIVER.identify(bucket(), None) == "s3://shop-aws-images"
    assert DRIVER.check_name("Pictures").startswith("it consists of lower-case letters")


def test_who_only_writes_may_not_read() -> None:
    written = {action for g in DRIVER.grants(bucket(), Role.SINK) if g.on == "arn" for action in g.actions}
    assert written == {"s3:PutObject", "s3:AbortMultipartUpload"}
    all_of_it = {action for g in DRIVER.grants(bucket(), Role.STORE) if g.on == "arn" for action in g.actions}
    assert all_of_it - written == {"s3:GetObject", "s3:DeleteObject", "s3:ListBucket"}


# -- the handle ------------------------------------------------------------------------------------------------


def test_an_object_is_read_as_it_was_written(images: S3BucketHandle) -> None:
    assert isinstance(images, Bucket)
    before = datetime.now(UTC)
    info = images.write("2026/cat.png", b"meow")
    assert (info.path, info.size) == ("2026/cat.png", 4)
    assert images.read("2026/cat.png") == b"meow"
    found = images.info("2026/cat.png")
    assert (found.path, found.size) == (info.path, info.size)
    assert abs((found.modified - before).total_seconds()) < 30
    assert abs((info.modified - before).total_seconds()) < 30
    assert images.exists("2026/cat.png")
    with images.open("2026/cat.png") as file:
        assert file.read(2) == b"me"
        file.seek(-1, os.SEEK_END)
        assert file.read() == b"w"


@pytest.mark.parametrize("path", [p for p in OUTSIDE if "link" not in str(p) and p not in ("dangling", "circle", "circle/x")], ids=lambda p: repr(p)[:30])  # fmt: skip # noqa: E501
def test_no_name_leads_out_of_the_bucket(images: S3BucketHandle, path: Any) -> None:
    for ask in (images.read, images.open, images.info, images.exists, images.delete, images.url):
        with pytest.raises(InvalidObjectName, match=r"no object name: \w"):
            ask(path)
    with pytest.raises(InvalidObjectName, match=r"no object name: \w"):
        images.write(path, b"mine now")
    assert list(images.list()) == []


@pytest.mark.parametrize("data", [7, None, io.StringIO("text"), ["a"]], ids=lambda data: type(data).__name__)
def test_what_is_no_bytes_is_refused_in_words(images: S3BucketHandle, data: Any) -> None:
    with pytest.raises(TypeError, match="a bucket stores"):
        images.write("x", data)
    assert not images.exists("x")


def test_what_is_missing_is_not_found(images: S3BucketHandle) -> None:
    images.write("a/b", b"")
    for path in ("none", "a", "a/b/c"):
        for ask in (images.read, images.open, images.info, images.delete):
            with pytest.raises(ObjectNotFound, match=f"there is no object '{path}' in the bucket images-"):
                ask(path)
        assert not images.exists(path)
    images.delete("a/b")
    assert list(images.list()) == []


def parts_of(images: S3BucketHandle, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls that write, from now on."""
    made: list[str] = []
    client = images._client()
    client.meta.events.register("before-call.s3", lambda model, **_: made.append(model.name))
    return made


@pytest.mark.parametrize("size", [0, 1, PART, PART + 1, 3 * PART + 7])
def test_a_large_object_goes_up_in_parts(images: S3BucketHandle, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    calls = parts_of(images, monkeypatch)
    file = Endless(size)
    assert images.write("large", file).size == size  # type: ignore[arg-type]
    assert file.largest <= 1 << 20, "it is never whole in memory"
    assert calls.count("UploadPart") == (0 if size <= PART else -(-size // PART))
    assert calls.count("PutObject") == (size <= PART)
    assert images.read("large") == b"x" * size
    data = os.urandom(size)
    images.write("again", data)
    assert images.read("again") == data
    with images.open("again") as opened:
        assert opened.read() == data


def test_an_upload_that_breaks_off_leaves_the_old_object_and_no_parts(aws: Moto, images: S3BucketHandle) -> None:
    images.write("x", b"old")
    for size in (5_000_000, 20_000_000):
        with pytest.raises(ResourceFailed, match="the browser went away"):
            images.write("x", Endless(size, breaks=True))  # type: ignore[arg-type]
    assert images.read("x") == b"old"
    assert "Uploads" not in aws.client("s3").list_multipart_uploads(Bucket=images.name)


def test_a_list_of_many_pages_is_in_order_and_leaves_out_what_is_no_path(aws: Moto, images: S3BucketHandle) -> None:
    for number in range(1005):
        aws.client("s3").put_object(Bucket=images.name, Key=f"n/{number:04}", Body=b"")
    for key in ("n/", "n//x", "../x"):
        aws.client("s3").put_object(Bucket=images.name, Key=key, Body=b"")
    assert [o.path for o in images.list()] == [f"n/{number:04}" for number in range(1005)]


@pytest.mark.parametrize("path", [".hidden", "a b", "ü/é", "x" * 255, "..x", "x..", "-", "a:b", "a.part", "a+b&c?d%2F"])
def test_unusual_names_are_names(images: S3BucketHandle, path: str) -> None:
    images.write(path, b"1")
    assert [o.path for o in images.list()] == [path]
    assert images.read(path) == b"1"
    images.delete(path)


def test_a_url_is_for_anybody_and_for_a_time(images: S3BucketHandle) -> None:
    images.write("2026/ü cat.png", b"meow")
    with urllib.request.urlopen(images.url("2026/ü cat.png", expires=60)) as answer:
        assert answer.read() == b"meow"
        assert answer.headers["Content-Type"] == "image/png"
    assert "X-Amz-Expires=60" in images.url("x", 60) or "Expires=" in images.url("x", 60)
    for expires in (0, 8 * 86_400):
        with pytest.raises(ValueError, match="a URL holds for 1 s to 7 days"):
            images.url("x", expires)


def test_a_bucket_that_does_not_exist_is_named(session: AwsSession) -> None:
    handle = DRIVER.handle(bucket("nowhere"), session)
    for ask in (lambda: handle.write("x", b""), lambda: list(handle.list()), lambda: handle.read("x")):
        with pytest.raises(NotApplied, match='bucket "shop-aws-nowhere" does not exist') as caught:
            ask()
        assert caught.value.hint == "`platform apply` creates it"


@pytest.mark.parametrize(
    ("operation", "code", "words"),
    [
        ("HeadObject", "403", r"s3:GetObject is not allowed \(Forbidden\)"),
        ("PutObject", "AccessDenied", "s3:PutObject is not allowed"),
        ("ListObjectsV2", "AccessDenied", "s3:ListBucket is not allowed"),
        ("PutObject", "SlowDown", "does not answer"),
    ],
)
def test_refusals_name_the_permission(session: AwsSession, operation: str, code: str, words: str) -> None:
    from botocore.exceptions import ClientError

    error = ClientError({"Error": {"Code": code, "Message": "Forbidden"}}, operation)
    with pytest.raises(ServiceUnavailable, match=words), session.spoken("s3", 'bucket "images"'):
        raise error


def test_reading_begins_anew_when_it_breaks_off(images: S3BucketHandle, monkeypatch: pytest.MonkeyPatch) -> None:
    from botocore.exceptions import IncompleteReadError
    from botocore.response import StreamingBody

    images.write("x", b"snow")
    read, broken = StreamingBody.read, [2]

    def break_off(body: Any, amt: int | None = None) -> bytes:
        if broken[0]:
            broken[0] -= 1
            raise IncompleteReadError(actual_bytes=1, expected_bytes=4)
        return bytes(read(body, amt=amt))

    monkeypatch.setattr(StreamingBody, "read", break_off)
    assert images.read("x") == b"snow"
    broken[0] = 99
    with pytest.raises(ServiceUnavailable, match="is out of reach"):
        images.read("x")


def test_it_works_after_a_fork(images: S3BucketHandle) -> None:
    images.write("parent", b"1")
    child = os.fork()
    if child == 0:
        try:
            images.write("child", images.read("parent"))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert images.read("child") == b"1"


# -- as a sink -------------------------------------------------------------------------------------------------


def test_rows_become_objects_under_the_same_names_each_time(aws: Moto, session: AwsSession) -> None:
    resource = bucket(outputs=aws.bucket(f"out-{next(_numbers)}"), object="{consumer}/{id}.{extension}")
    sink, handle = DRIVER.sink(resource, session), DRIVER.handle(resource, session)
    asked = {*vars(Sink), *getattr(Sink, "__annotations__", {})}
    assert [name for name in asked if not name.startswith("_") and not hasattr(sink, name)] == []
    for _ in range(2):
        sink.commit("save", [Entry(str(n), [{"n": n}]) for n in range(20)])
    found = [json.loads(handle.read(o.path)) for o in handle.list("save/")]
    assert sorted(row["n"] for row in found) == list(range(20))


@pytest.mark.parametrize("format", ["raw", "jsonl", "csv", "parquet"])
def test_formats_are_those_of_every_bucket(aws: Moto, session: AwsSession, format: str) -> None:
    from buildflow.ir.columns import Column

    columns = {"columns": {"id": "integer"}} if format == "parquet" else {}
    resource = bucket(outputs=aws.bucket(f"out-{next(_numbers)}"), format=format, **columns)
    if columns:
        resource = resource.model_copy(update={"columns": (Column(name="id", kind="integer"),)})
    rows: list[Any] = ["text"] if format == "raw" else [{"id": 1}, {"id": 2}]
    DRIVER.sink(resource, session).commit("c", [Entry("1", rows)])
    handle = DRIVER.handle(resource, session)
    [info] = handle.list()
    assert info.path.endswith({"raw": ".txt"}.get(format, f".{format}"))
    assert info.size > 0


def test_another_region_is_asked_there(aws: Moto, tmp_path: Path) -> None:
    resource = bucket(aws={"region": "us-west-2"})
    session = session_on(aws, tmp_path, resource)
    assert session.region_of(resource) == "us-west-2"
    assert DRIVER.handle(resource, session)._client().meta.region_name == "us-west-2"
    assert DRIVER.handle(bucket(), session)._client().meta.region_name == REGION
