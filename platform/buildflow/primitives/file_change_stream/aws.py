"""A file change stream on AWS: S3's notifications in an SQS queue of its own."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from buildflow.ir.graph import Resource
from buildflow.primitives.base import Grant, Refusal, Role, Source
from buildflow.primitives.file_change_stream.aws_filters import overlapping
from buildflow.primitives.queue.aws import TAKEN, messages_in
from buildflow.providers.aws import AwsSession
from buildflow.providers.names import SQS_EVENT_QUEUE
from buildflow.types.events import FileChangeEvent

if TYPE_CHECKING:
    from buildflow.primitives.queue.sqs_redrive import RedriveQueue


class S3FileChangeStreamDriver:
    """`file_change_stream` on AWS; a `CloudDriver`."""

    label = "S3FileChangeStream"
    outputs = ("name", "url", "arn", "redrive_url")

    def name(self, key: str, spec: Any, project: str, stack: str) -> str:
        return spec.name or SQS_EVENT_QUEUE.physical(project, stack, key)

    def identify(self, resource: Resource, settings: Any) -> str:
        return f"sqs://{resource.name}"

    def check_name(self, name: str) -> str:
        return SQS_EVENT_QUEUE.refuses(name)

    def clash(self, one: Resource, other: Resource) -> Refusal | None:
        hint = "give them prefixes or suffixes that no object has both of, or declare one stream"
        words = overlapping(one, other)
        return Refusal((), words, hint) if words else None

    def unordered(self, resource: Resource, referred: Mapping[str, Resource]) -> tuple[str, str] | None:
        return f'"{resource.key}" is fed by S3', "let the handler read the object: it finds its last state"

    def declare(self, resource: Resource, program: Any) -> Any:
        from buildflow.primitives.file_change_stream.aws_resources import S3FileChangeStream

        return S3FileChangeStream(resource, program)

    def grants(self, resource: Resource, role: Role) -> tuple[Grant, ...]:
        """Its events, and to read the objects that they are about. Who may not list a bucket is refused what it does
        not hold, and never told that an object is gone."""
        bucket = resource.references["bucket"]
        return (
            Grant(resource.key, TAKEN),
            Grant(bucket, ("s3:GetObject",), below="/*"),
            Grant(bucket, ("s3:ListBucket",)),
            Grant(bucket, ("kms:Decrypt",), on="kms_key_arn"),
        )

    def content(self, resource: Resource, session: AwsSession) -> str:
        return messages_in(resource, session, "event")

    def backstop(self, resource: Resource, session: AwsSession) -> "RedriveQueue | None":
        from buildflow.primitives.queue.sqs import redrive_of

        return redrive_of(resource, session)

    def source(self, resource: Resource, session: AwsSession) -> Source:
        from buildflow.primitives.file_change_stream.s3_events import event_source

        return event_source(resource, session)

    def decode(self, body: bytes, resource: Resource, session: AwsSession) -> FileChangeEvent:
        from buildflow.primitives.file_change_stream.s3_events import decode

        return decode(body, resource, session)


DRIVER = S3FileChangeStreamDriver()
