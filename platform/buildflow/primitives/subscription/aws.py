"""A subscription on AWS: an SQS queue of its own behind the SNS topic."""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from buildflow.ir.graph import Resource
from buildflow.primitives.base import Grant, Refusal, Role, Source
from buildflow.primitives.queue.aws import TAKEN, messages_in, sqs_rule, standard_queue
from buildflow.primitives.queue.sqs_messages import envelope
from buildflow.providers.aws import AwsSession

if TYPE_CHECKING:
    from buildflow.primitives.queue.sqs_redrive import RedriveQueue


MOST_ATTRIBUTES, MOST_COMBINATIONS = 5, 150
"""What SNS takes as a filter. Source:
https://docs.aws.amazon.com/sns/latest/dg/subscription-filter-policy-constraints.html"""


class SNSSubscriptionDriver:
    """`subscription` on AWS; a `CloudDriver`."""

    label = "SNSSubscription"
    outputs = ("name", "url", "arn", "redrive_url")

    def name(self, key: str, spec: Any, project: str, stack: str) -> str:
        return spec.name or sqs_rule(spec.aws.fifo).physical(project, stack, key)

    def identify(self, resource: Resource, settings: Any) -> str:
        return f"sqs://{resource.name}"

    def check_name(self, name: str) -> str:
        return sqs_rule(name.endswith(".fifo")).refuses(name)

    def refuses(self, resource: Resource, referred: Mapping[str, Resource]) -> Iterator[Refusal]:
        yield from _filter_refusals(resource.spec["filter"])
        topic = referred.get("topic")
        if resource.spec["aws"]["fifo"] and topic and not topic.spec["aws"]["fifo"]:
            why = f'SNS sends to a FIFO queue from a FIFO topic only, and "{topic.key}" is none'
            hint = f'write `aws: {{fifo: true}}` in "{topic.key}", or take it out here'
            yield Refusal(("aws", "fifo"), why, hint)

    def unordered(self, resource: Resource, referred: Mapping[str, Resource]) -> tuple[str, str] | None:
        topic = referred.get("topic")
        if topic is None or resource.spec["aws"]["fifo"] is None:  # the topic could not be read
            return None
        if topic.spec["aws"]["fifo"]:
            return standard_queue(resource, f'take `fifo: false` out of "{resource.key}"')
        return standard_queue(resource, f'write `aws: {{fifo: true}}` in "{topic.key}"')

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


def _filter_refusals(wanted: Mapping[str, str | list[str]]) -> Iterator[Refusal]:
    if len(wanted) > MOST_ATTRIBUTES:
        why = f"SNS filters by {MOST_ATTRIBUTES} attributes at most, these are {len(wanted)}"
        yield Refusal(("filter",), why, "filter by fewer, and let the handler pass over the others")
    combinations = math.prod(1 if isinstance(values, str) else len(values) for values in wanted.values())
    if combinations > MOST_COMBINATIONS:
        why = f"SNS takes {MOST_COMBINATIONS} combinations of values at most, these are {combinations:,}"
        yield Refusal(("filter",), why, "name fewer values, or make it several subscriptions")
    for name in wanted:
        if name not in envelope(b"", {name: "value"}, None).attributes:
            why = f'"{name}" is no name of an attribute, so no message would pass'
            hint = "letters, digits and _ - . with no dot at either end; neither AWS. nor Amazon. nor buildflow- first"
            yield Refusal(("filter", name), why, hint)


DRIVER = SNSSubscriptionDriver()
