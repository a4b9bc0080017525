"""A subscription on AWS: an SQS queue of its own behind the SNS topic."""

from typing import TYPE_CHECKING, Any

from buildflow.ir.graph import Resource
from buildflow.primitives.base import Grant, Role, Source
from buildflow.primitives.queue.aws import TAKEN, messages_in
from buildflow.providers.aws import AwsSession
from buildflow.providers.names import SQS_QUEUE

if TYPE_CHECKING:
    from buildflow.primitives.queue.sqs_redrive import RedriveQueue


class SNSSubscriptionDriver:
    """`subscription` on AWS; a `CloudDriver`."""

    label = "SNSSubscription"
    outputs = ("name", "url", "arn", "redrive_url")

    def name(self, key: str, spec: Any, project: str, stack: str) -> str:
        return spec.name or SQS_QUEUE.physical(project, stack, key)

    def identify(self, resource: Resource, settings: Any) -> str:
        return f"sqs://{resource.name}"

    def check_name(self, name: str) -> str:
        return SQS_QUEUE.refuses(name)

    def declare(self, resource: Resource, program: Any) -> Any:
        from buildflow.primitives.subscription.aws_resources import SNSSubscription

        return SNSSubscription(resource, program)

    def grants(self, resource: Resource, role: Role) -> tuple[Grant, ...]:
        return (Grant(resource.key, TAKEN),)

    def content(self, resource: Resource, session: AwsSession) -> str:
        return messages_in(resource, session, "message")

    def backstop(self, resource: Resource, session: AwsSession) -> "RedriveQueue | None":
        from buildflow.primitives.queue.sqs import redrive_of

        return redrive_of(resource, session)

    def source(self, resource: Resource, session: AwsSession) -> Source:
        from buildflow.primitives.queue.sqs import queue_source

        return queue_source(resource, session)


DRIVER = SNSSubscriptionDriver()
