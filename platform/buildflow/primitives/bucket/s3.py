"""A bucket on AWS: S3 as a handle and a sink."""

import mimetypes
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, cast

from buildflow.errors import ObjectNotFound, ResourceFailed
from buildflow.ir.graph import Resource
from buildflow.primitives.bucket.local_handle import chunks
from buildflow.primitives.bucket.object_names import is_object_name, object_parts
from buildflow.primitives.bucket.sink import BucketSink
from buildflow.providers.aws import AwsSession
from buildflow.providers.aws_errors import code_of
from buildflow.providers.secrets import cloud_sdk
from buildflow.types.handles import ObjectInfo

PART = 8 << 20
"""Bytes above which an object goes up in parts, several at a time, and what is opened goes to the disk."""
LONGEST_URL = 7 * 86_400.0
"""Seconds for which a URL holds, at most. Source:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-presigned-url.html"""
_TRIES = 3
_MISSING = ("NoSuchKey", "404")


class S3BucketHandle:
    """What a handler gets of a bucket. Safe to use from several threads, and after a fork."""

    def __init__(self, resource: Resource, session: AwsSession) -> None:
        self.name = resource.name
        self._session = session
        self._region = session.region_of(resource)

    def __repr__(self) -> str:
        return f"S3BucketHandle({self.name!r})"

    def write(self, path: str, data: bytes | str | BinaryIO) -> ObjectInfo:
        key = _key(path)
        stream = _Stream(chunks(data))
        kind = {"ContentType": found} if (found := mimetypes.guess_type(path)[0]) else {}
        try:
            head = stream.read(PART + 1)
            with self._asked(path):
                if len(head) <= PART:
                    self._client().put_object(Bucket=self.name, Key=key, Body=head, **kind)
                else:
                    stream.put_back(head)
                    self._client().upload_fileobj(stream, self.name, key, ExtraArgs=kind)
        except OSError as error:  # of what is read: boto3's are others
            raise ResourceFailed(f"{path!r} could not be written to the bucket {self.name}: {error}") from error
        return ObjectInfo(path, stream.size, datetime.now(UTC))

    def read(self, path: str) -> bytes:
        return self.read_object(_key(path))

    def read_object(self, key: str) -> bytes:
        """Of any name, such as other programs give."""
        errors = cloud_sdk("botocore.exceptions", "aws")
        with self._asked(key):
            for left in reversed(range(_TRIES)):
                try:
                    with closing(self._client().get_object(Bucket=self.name, Key=key)["Body"]) as body:
                        return bytes(body.read())
                except (errors.ReadTimeoutError, errors.ResponseStreamingError, errors.IncompleteReadError):
                    if not left:  # boto3 repeats requests, not what it has begun to read
                        raise
        raise AssertionError("the last try answers or raises")

    def open(self, path: str) -> BinaryIO:
        """The whole object, in memory or, where it is large, in a temporary file."""
        file = tempfile.SpooledTemporaryFile(PART)  # noqa: SIM115 - whoever opens it closes it
        try:
            with self._asked(path):
                self._client().download_fileobj(self.name, _key(path), file)
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return cast(BinaryIO, file)

    def download(self, key: str, target: Path) -> None:
        """An object, of any name, into a file, which appears complete or not at all."""
        with self._asked(key):
            self._client().download_file(self.name, key, str(target))

    def info(self, path: str) -> ObjectInfo:
        with self._asked(path):
            found = self._client().head_object(Bucket=self.name, Key=_key(path))
        return ObjectInfo(path, found["ContentLength"], found["LastModified"])

    def exists(self, path: str) -> bool:
        try:
            self.info(path)
        except ObjectNotFound:
            return False
        return True

    def delete(self, path: str) -> None:
        self.info(path)  # S3 does not say that there was none
        with self._asked(path):
            self._client().delete_object(Bucket=self.name, Key=_key(path))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every object whose path starts with `prefix`, in order of path. What other programs keep under names that
        are no paths, such as the `folder/` of S3's console, is left out."""
        pages = iter(self._client().get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix))
        while True:
            with self._asked(prefix):
                page = next(pages, None)
            if page is None:
                return
            for found in page.get("Contents", ()):
                if is_object_name(found["Key"]):
                    yield ObjectInfo(found["Key"], found["Size"], found["LastModified"])

    def url(self, path: str, expires: float = 3600.0) -> str:
        """A URL under which anybody can read the object, for so many seconds; whether there is one is not asked. Only
        S3's buckets have it."""
        if not 1 <= expires <= LONGEST_URL:
            raise ValueError(f"a URL holds for 1 s to 7 days, not {expires:g} s")
        parameters = {"Bucket": self.name, "Key": _key(path)}
        with self._asked(path):
            made = self._client().generate_presigned_url("get_object", Params=parameters, ExpiresIn=int(expires))
        return str(made)

    def _client(self) -> Any:
        return self._session.client("s3", self._region)

    @contextmanager
    def _asked(self, path: str) -> Iterator[None]:
        """Words for what S3 refuses, about one object."""
        with self._session.spoken("s3", f'bucket "{self.name}"'):
            try:
                yield
            except Exception as exc:
                if hasattr(exc, "response") and code_of(exc) in _MISSING:
                    raise ObjectNotFound(f"there is no object {path!r} in the bucket {self.name}") from exc
                raise


class _Stream:
    """Pieces as a file that is read once, from its beginning to its end."""

    def __init__(self, pieces: Iterable[bytes | bytearray | memoryview]) -> None:
        self.size = 0
        """Bytes that were taken out of the pieces so far."""
        self._pieces = self._counted(pieces)
        self._rest = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        taken: list[memoryview] = []
        left = size
        while left:
            if not self._rest:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                self._rest = memoryview(piece)
            part = self._rest[:left] if left > 0 else self._rest
            self._rest = self._rest[len(part) :]
            left -= len(part) if left > 0 else 0
            taken.append(part)
        return b"".join(taken)

    def put_back(self, data: bytes) -> None:
        self._pieces = chain([data, self._rest], self._pieces)
        self._rest = memoryview(b"")

    def _counted(self, pieces: Iterable[bytes | bytearray | memoryview]) -> Iterator[bytes | bytearray | memoryview]:
        for piece in pieces:
            self.size += len(piece)
            yield piece


def bucket_sink(resource: Resource, session: AwsSession) -> BucketSink:
    bucket: Any = S3BucketHandle(resource, session)
    return BucketSink(resource, bucket)


def _key(path: str) -> str:
    return "/".join(object_parts(path))
