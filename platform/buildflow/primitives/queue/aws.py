"""A queue on AWS: SQS."""

from typing import TYPE_CHECKING, Any

from buildflow.ir.graph import Resource
from buildflow.primitives.base import Grant, Role, Sink, Source
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


class SQSQueueDriver:
    """`queue` on AWS; a `CloudDriver`."""

    label = "SQSQueue"
    outputs = ("name", "url", "arn", "redrive_url")

    def name(self, key: str, spec: Any, project: str, stack: str) -> str:
        return spec.name or _rule(spec.aws.fifo).physical(project, stack, key)

    def identify(self, resource: Resource, settings: Any) -> str:
        return f"sqs://{resource.name}"

    def check_name(self, name: str) -> str:
        return _rule(name.endswith(".fifo")).refuses(name)

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


def messages_in(resource: Resource, session: AwsSession, noun: str) -> str:
    """What the queue behind a source holds, and what SQS moved away of it, in words; SQS counts about."""
    from buildflow.primitives.queue.sqs import redrive_of
    from buildflow.primitives.queue.sqs_queue import queue_of

    backstop = redrive_of(resource, session)
    count = sum(queue_of(resource, session).counts()) + (backstop.count() if backstop else 0)
    return f"about {count:,} {noun}{'s' * (count != 1)}" if count else ""


def _rule(fifo: bool) -> NameRule:
    return SQS_FIFO_QUEUE if fifo else SQS_QUEUE


DRIVER = SQSQueueDriver()
