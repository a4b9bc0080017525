"""A queue on AWS: SQS."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from buildflow.ir.graph import Resource
from buildflow.primitives.base import Grant, Refusal, Role, Sink, Source
from buildflow.providers.aws import AwsSession
from buildflow.providers.names import SQS_FIFO_QUEUE, SQS_QUEUE, NameRule

if TYPE_CHECKING:
    from buildflow.primitives.queue.sqs_redrive import RedriveQueue

TAKEN = (
    "sqs:ReceiveMessage",
    "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibility",
    "sqs:GetQueueAttributes",
)
"""What a consumer does with the queue behind its source."""
SENT = ("sqs:SendMessage",)
REDRIVE = "-redrive"


class SQSQueueDriver:
    """`queue` on AWS; a `CloudDriver`."""

    label = "SQSQueue"
    outputs = ("name", "url", "arn", "redrive_url")

    def name(self, key: str, spec: Any, project: str, stack: str) -> str:
        return spec.name or sqs_rule(spec.aws.fifo).physical(project, stack, key)

    def identify(self, resource: Resource, settings: Any) -> str:
        return f"sqs://{resource.name}"

    def check_name(self, name: str) -> str:
        return sqs_rule(name.endswith(".fifo")).refuses(name)

    def refuses(self, resource: Resource, referred: Mapping[str, Resource]) -> Iterator[Refusal]:
        if resource.spec["aws"]["account_id"]:
            hint = "write `managed: false`, or take `account_id` out"
            yield Refusal(("aws", "account_id"), "a queue of another account is not created from here", hint)

    def unordered(self, resource: Resource, referred: Mapping[str, Resource]) -> tuple[str, str] | None:
        return standard_queue(resource, f'write `aws: {{fifo: true}}` in "{resource.key}"')

    def declare(self, resource: Resource, program: Any) -> Any:
        from buildflow.primitives.queue.aws_resources import SQSQueue

        return SQSQueue(resource, program)

    def grants(self, resource: Resource, role: Role) -> tuple[Grant, ...]:
        return (Grant(resource.key, TAKEN if role is Role.SOURCE else SENT),)

    def content(self, resource: Resource, session: AwsSession) -> str:
        return messages_in(resource, session, "message")

    def backstop(self, resource: Resource, session: AwsSession) -> "RedriveQueue | None":
        from buildflow.primitives.queue.sqs import redrive_of

        return redrive_of(resource, session)

    def source(self, resource: Resource, session: AwsSession) -> Source:
        from buildflow.primitives.queue.sqs import queue_source

        return queue_source(resource, session)

    def sink(self, resource: Resource, session: AwsSession) -> Sink:
        from buildflow.primitives.queue.sqs import queue_sink

        return queue_sink(resource, session)

    def handle(self, resource: Resource, session: AwsSession) -> Any:
        from buildflow.primitives.queue.sqs import queue_handle

        return queue_handle(resource, session)


def standard_queue(resource: Resource, cure: str) -> tuple[str, str] | None:
    """What does not keep the order of what is sent, and the cure; None of a FIFO queue, which does."""
    if resource.spec["aws"]["fifo"]:
        return None
    return f'"{resource.key}" is a standard queue of SQS', cure if resource.managed else "name a FIFO queue"


def messages_in(resource: Resource, session: AwsSession, noun: str) -> str:
    """What the queue behind a source holds, and what SQS moved away of it, in words; SQS counts about."""
    from buildflow.primitives.queue.sqs import redrive_of
    from buildflow.primitives.queue.sqs_queue import queue_of

    backstop = redrive_of(resource, session)
    count = sum(queue_of(resource, session).counts()) + (backstop.count() if backstop else 0)
    return f"about {count:,} {noun}{'s' * (count != 1)}" if count else ""


def sqs_rule(fifo: bool | None) -> NameRule:
    return SQS_FIFO_QUEUE if fifo else SQS_QUEUE


def redrive_name(name: str) -> str:
    """The name of a queue's redrive queue; a name that leaves no room for it is shortened with a hash."""
    suffix = REDRIVE + (".fifo" if name.endswith(".fifo") else "")
    stem, room = name.removesuffix(".fifo"), SQS_QUEUE.longest - len(suffix)
    if len(stem) > room:
        stem = f"{stem[: room - 9]}-{hashlib.sha256(stem.encode()).hexdigest()[:8]}"
    return stem + suffix


DRIVER = SQSQueueDriver()
