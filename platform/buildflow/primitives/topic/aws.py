"""A topic on AWS: SNS."""

from typing import Any

from buildflow.ir.graph import Resource
from buildflow.primitives.base import Grant, Role, Sink
from buildflow.providers.aws import AwsSession
from buildflow.providers.names import SNS_FIFO_TOPIC, SNS_TOPIC, NameRule


class SNSTopicDriver:
    """`topic` on AWS; a `CloudDriver`."""

    label = "SNSTopic"
    outputs = ("name", "arn")

    def name(self, key: str, spec: Any, project: str, stack: str) -> str:
        return spec.name or _rule(spec.aws.fifo).physical(project, stack, key)

    def identify(self, resource: Resource, settings: Any) -> str:
        return f"sns://{resource.name}"

    def check_name(self, name: str) -> str:
        return _rule(name.endswith(".fifo")).refuses(name)

    def declare(self, resource: Resource, program: Any) -> Any:
        from buildflow.primitives.topic.aws_resources import SNSTopic

        return SNSTopic(resource, program)

    def grants(self, resource: Resource, role: Role) -> tuple[Grant, ...]:
        return (Grant(resource.key, ("sns:Publish",)),)

    def content(self, resource: Resource, session: AwsSession) -> str:
        """A topic keeps nothing: its subscriptions do."""
        return ""

    def sink(self, resource: Resource, session: AwsSession) -> Sink:
        from buildflow.primitives.topic.sns import topic_sink

        return topic_sink(resource, session)

    def handle(self, resource: Resource, session: AwsSession) -> Any:
        from buildflow.primitives.topic.sns import topic_handle

        return topic_handle(resource, session)


def _rule(fifo: bool) -> NameRule:
    return SNS_FIFO_TOPIC if fifo else SNS_TOPIC


DRIVER = SNSTopicDriver()
