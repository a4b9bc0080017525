"""What a subscription is made of on AWS: a queue, its policy, and SNS' own subscription."""

import json
from collections.abc import Mapping
from typing import Any

from buildflow.primitives.queue.aws_resources import QueueComponent
from buildflow.providers.secrets import cloud_sdk

sns = cloud_sdk("pulumi_aws.sns", "aws")


class SNSSubscription(QueueComponent):
    """The queue that SNS sends a topic's messages to, as they were published."""

    def create(self) -> Mapping[str, Any]:
        topic = self._program.component(self._resource.references["topic"])
        outputs = super().create()
        policy = self.let_in(outputs, "sns.amazonaws.com", topic.outputs["arn"])
        self.child(
            sns.TopicSubscription,
            topic=topic.outputs["arn"],
            protocol="sqs",
            endpoint=outputs["arn"],
            raw_message_delivery=True,
            options={"depends_on": [policy]},
            **_filter(self._spec["filter"]),
        )
        return outputs


def _filter(wanted: Mapping[str, str | list[str]]) -> dict[str, Any]:
    """Each attribute with the values that it may have."""
    if not wanted:
        return {}
    policy = {name: [values] if isinstance(values, str) else values for name, values in wanted.items()}
    return {"filter_policy": json.dumps(policy, sort_keys=True), "filter_policy_scope": "MessageAttributes"}
