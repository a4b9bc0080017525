"""SQS: queues and their policies."""

from collections.abc import Mapping
from typing import Any

from pulumi_cli.problems import NotThere
from pulumi_cli.providers.aws import tag_changes
from pulumi_cli.providers.handler import Handler
from pulumi_cli.providers.s3 import asked
from pulumi_cli.values import Properties

ABSENT = {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"}
ATTRIBUTES = {
    "contentBasedDeduplication": "ContentBasedDeduplication",
    "deduplicationScope": "DeduplicationScope",
    "delaySeconds": "DelaySeconds",
    "fifoQueue": "FifoQueue",
    "fifoThroughputLimit": "FifoThroughputLimit",
    "kmsDataKeyReusePeriodSeconds": "KmsDataKeyReusePeriodSeconds",
    "kmsMasterKeyId": "KmsMasterKeyId",
    "maxMessageSize": "MaximumMessageSize",
    "messageRetentionSeconds": "MessageRetentionPeriod",
    "policy": "Policy",
    "receiveWaitTimeSeconds": "ReceiveMessageWaitTimeSeconds",
    "redriveAllowPolicy": "RedriveAllowPolicy",
    "redrivePolicy": "RedrivePolicy",
    "sqsManagedSseEnabled": "SqsManagedSseEnabled",
    "visibilityTimeoutSeconds": "VisibilityTimeout",
}


class SqsHandler(Handler):
    def client(self, cloud: Any, known: Properties) -> Any:
        return cloud.client("sqs", known.get("region"))


class Queue(SqsHandler):
    token = "aws:sqs/queue:Queue"
    noun = "SQS Queue"
    named = "name"
    optional = ("name", *ATTRIBUTES, "tags")
    defaults = {
        "delaySeconds": 0,
        "fifoQueue": False,
        "maxMessageSize": 262144,
        "messageRetentionSeconds": 345600,
        "receiveWaitTimeSeconds": 0,
        "visibilityTimeoutSeconds": 30,
    }
    replace_on = ("name", "fifoQueue")
    documents = ("policy", "redriveAllowPolicy", "redrivePolicy")

    def check(self, name: str, inputs: Properties, old: Properties, cloud: Any) -> tuple[Properties, list[str]]:
        checked, faults = super().check(name, inputs, old, cloud)
        if checked["fifoQueue"] is True and "name" in checked["__defaults"] and not checked["name"].endswith(".fifo"):
            checked["name"] += ".fifo"
        return checked, faults

    def create(self, cloud: Any, inputs: Properties) -> str:
        # SQS takes FifoQueue for a FIFO queue alone.
        wanted = {key: value for key, value in inputs.items() if (key, value) != ("fifoQueue", False)}
        answer = self.client(cloud, inputs).create_queue(
            QueueName=inputs["name"], Attributes=attributes(wanted, ATTRIBUTES), tags=inputs.get("tags") or {}
        )
        return str(answer["QueueUrl"])

    def read(self, cloud: Any, id: str, known: Properties) -> Properties | None:
        client = self.client(cloud, known)
        found = queue_attributes(client, id)
        if found is None:
            return None
        tags = client.list_queue_tags(QueueUrl=id).get("Tags", {})
        region = found["QueueArn"].split(":")[3]
        given = {
            key: _value(known.get(key, self.defaults.get(key)), found.get(name)) for key, name in ATTRIBUTES.items()
        }
        shown = {key: value for key, value in given.items() if key in known or key in self.defaults}
        if "redriveAllowPolicy" in shown:  # moto takes it and does not say it again
            shown["redriveAllowPolicy"] = known["redriveAllowPolicy"]
        return {
            **shown,
            "fifoQueue": found.get("FifoQueue") == "true",
            "name": id.rsplit("/", 1)[1],
            "arn": found["QueueArn"],
            "url": id,
            "region": region,
            "tags": tags,
            "tagsAll": tags,
        }

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> None:
        client = self.client(cloud, new)
        gone = dict.fromkeys((key for key in ATTRIBUTES if key in old and key not in new), "")
        changed = {key: value for key, value in new.items() if old.get(key) != value} | gone
        if wanted := attributes(changed, ATTRIBUTES):
            set_attributes(client, id, wanted)
        added, removed = tag_changes(old, new)
        if added:
            client.tag_queue(QueueUrl=id, Tags=added)
        if removed:
            client.untag_queue(QueueUrl=id, TagKeys=removed)

    def delete(self, cloud: Any, id: str, known: Properties) -> None:
        asked(lambda: self.client(cloud, known).delete_queue(QueueUrl=id), ABSENT)


def attributes(given: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, str]:
    """AWS takes every attribute as text."""
    return {names[key]: _text(value) for key, value in given.items() if key in names}


def set_attributes(client: Any, url: str, wanted: dict[str, str]) -> None:
    """moto forgets a queue's policy when another attribute is set: say it again."""
    policy = (queue_attributes(client, url) or {}).get("Policy")
    client.set_queue_attributes(QueueUrl=url, Attributes=({"Policy": policy} if policy else {}) | wanted)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _value(like: Any, text: str | None) -> Any:
    """The text of an attribute as a value of the type that the program gave."""
    if isinstance(like, bool):
        return text == "true"
    if isinstance(like, int):
        return int(text or 0)
    return text or ""


def queue_attributes(client: Any, url: str) -> dict[str, str] | None:
    found = asked(lambda: client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"]), ABSENT)
    return found["Attributes"] if found else None


class QueueAttribute(SqsHandler):
    """One attribute of a queue as a resource of its own; its id is the queue's URL."""

    attribute = ""
    property = ""

    def create(self, cloud: Any, inputs: Properties) -> str:
        self._set(cloud, inputs, inputs["queueUrl"], inputs[self.property])
        return str(inputs["queueUrl"])

    def read(self, cloud: Any, id: str, known: Properties) -> Properties | None:
        found = queue_attributes(self.client(cloud, known), id) or {}
        if not found.get(self.attribute):
            return None
        region = found["QueueArn"].split(":")[3]
        return {"queueUrl": id, self.property: found[self.attribute], "region": region}

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> None:
        self._set(cloud, new, id, new[self.property])

    def delete(self, cloud: Any, id: str, known: Properties) -> None:
        asked(lambda: self._set(cloud, known, id, ""), ABSENT)

    def _set(self, cloud: Any, known: Properties, url: str, value: str) -> None:
        set_attributes(self.client(cloud, known), url, {self.attribute: value})


class QueuePolicy(QueueAttribute):
    token = "aws:sqs/queuePolicy:QueuePolicy"
    noun = "SQS Queue Policy"
    attribute, property = "Policy", "policy"
    required = ("queueUrl", "policy")
    replace_on = ("queueUrl",)
    documents = ("policy",)


class RedrivePolicy(QueueAttribute):
    token = "aws:sqs/redrivePolicy:RedrivePolicy"
    noun = "SQS Queue Redrive Policy"
    attribute, property = "RedrivePolicy", "redrivePolicy"
    required = ("queueUrl", "redrivePolicy")
    replace_on = ("queueUrl",)
    documents = ("redrivePolicy",)


class RedriveAllowPolicy(QueueAttribute):
    token = "aws:sqs/redriveAllowPolicy:RedriveAllowPolicy"
    noun = "SQS Queue Redrive Allow Policy"
    attribute, property = "RedriveAllowPolicy", "redriveAllowPolicy"
    required = ("queueUrl", "redriveAllowPolicy")
    replace_on = ("queueUrl",)
    documents = ("redriveAllowPolicy",)

    def read(self, cloud: Any, id: str, known: Properties) -> Properties | None:
        """moto takes it and does not say it again."""
        found = queue_attributes(self.client(cloud, known), id)
        if not found:
            return None
        region = found["QueueArn"].split(":")[3]
        return {"queueUrl": id, "redriveAllowPolicy": known.get("redriveAllowPolicy", ""), "region": region}


def get_queue(cloud: Any, args: Properties) -> Properties:
    client = cloud.client("sqs", args.get("region"))
    url = asked(lambda: client.get_queue_url(QueueName=args["name"])["QueueUrl"], ABSENT)
    if url is None:
        raise NotThere(f"reading SQS Queue ({args['name']}) URL: couldn't find resource")
    found = Queue().read(cloud, url, args) or {}
    return {"id": url, **{key: found[key] for key in ("arn", "url", "name", "region", "tags")}}


HANDLERS: tuple[Handler, ...] = (Queue(), QueuePolicy(), RedrivePolicy(), RedriveAllowPolicy())
FUNCTIONS = {"aws:sqs/getQueue:getQueue": get_queue}
