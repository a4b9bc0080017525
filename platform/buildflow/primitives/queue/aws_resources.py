"""What a queue is made of on AWS; streams and subscriptions have one of their own."""

import math
from collections.abc import Mapping
from typing import Any

import pulumi

from buildflow.primitives.aws_component import AwsComponent
from buildflow.primitives.queue.aws import REDRIVE, redrive_name
from buildflow.providers.secrets import cloud_sdk

aws, sqs = cloud_sdk("pulumi_aws", "aws"), cloud_sdk("pulumi_aws.sqs", "aws")

RECEIVES = 1000
"""How often SQS gives a message out before it moves it to the redrive queue: the most that it takes, because a message
that waits for its sink to come back is received again and again, and the platform's own attempts end far below."""
_LONGEST_RETENTION = 14 * 86400


class QueueComponent(AwsComponent):
    """An SQS queue with the queue that SQS itself moves messages to as a last resort. Both are encrypted with SQS' own
    keys."""

    def create(self) -> Mapping[str, Any]:
        return self.queue(self._resource.name)

    def find(self) -> Mapping[str, Any]:
        return self.found(self._resource.name)

    def queue(self, name: str) -> dict[str, Any]:
        """Register both; returns their outputs."""
        fifo: dict[str, Any] = {"fifo_queue": True} if name.endswith(".fifo") else {}
        redrive = self.child(
            sqs.Queue,
            suffix=REDRIVE,
            name=redrive_name(name),
            message_retention_seconds=_LONGEST_RETENTION,
            sqs_managed_sse_enabled=True,
            tags=self.tags,
            **fifo,
        )
        policy = {"deadLetterTargetArn": redrive.arn, "maxReceiveCount": RECEIVES}
        queue = self.child(
            sqs.Queue,
            name=name,
            visibility_timeout_seconds=math.ceil(self._spec["lease"]),
            message_retention_seconds=math.ceil(self._spec["retention"]),
            redrive_policy=pulumi.Output.json_dumps(policy),
            sqs_managed_sse_enabled=True,
            tags=self.tags,
            **fifo,
        )
        allowed = {"redrivePermission": "byQueue", "sourceQueueArns": [queue.arn]}
        self.child(
            sqs.RedriveAllowPolicy,
            suffix=REDRIVE,
            queue_url=redrive.url,
            redrive_allow_policy=pulumi.Output.json_dumps(allowed),
        )
        return {"name": queue.name, "url": queue.url, "arn": queue.arn, "redrive_url": redrive.url}

    def found(self, name: str) -> dict[str, Any]:
        """The outputs of a queue that exists. It has no redrive queue that the platform knows."""
        found = self._program.look_up(self._resource, sqs.get_queue, name=name)
        return {"name": found.name, "url": found.url, "arn": found.arn, "redrive_url": ""}

    def let_in(self, outputs: Mapping[str, Any], service: str, source: Any) -> Any:
        """The queue's policy: one service of AWS may send, on behalf of one resource of this account."""
        account = outputs["arn"].apply(account_of)
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": service},
            "Action": "sqs:SendMessage",
            "Resource": outputs["arn"],
            "Condition": {"ArnEquals": {"aws:SourceArn": source}, "StringEquals": {"aws:SourceAccount": account}},
        }
        document = {"Version": "2012-10-17", "Statement": [statement]}
        return self.child(sqs.QueuePolicy, queue_url=outputs["url"], policy=pulumi.Output.json_dumps(document))


class SQSQueue(QueueComponent):
    """A queue that consumers take from and sinks write to."""

    def find(self) -> Mapping[str, Any]:
        owner = self._spec["aws"]["account_id"]
        return self._of_another(owner) if owner else super().find()

    def _of_another(self, account: str) -> dict[str, Any]:
        """Another account's, which nobody here may look up: it lets us in, or not."""
        name = self._resource.name
        region = self._program.look_up(self._resource, aws.get_region).region
        place = self._program.look_up(self._resource, aws.get_partition)
        host = self._program.stack_settings.get("endpoint_url") or f"https://sqs.{region}.{place.dns_suffix}"
        arn = f"arn:{place.partition}:sqs:{region}:{account}:{name}"
        return {"name": name, "url": f"{host}/{account}/{name}", "arn": arn, "redrive_url": ""}


def account_of(arn: str) -> str:
    return arn.split(":")[4]
