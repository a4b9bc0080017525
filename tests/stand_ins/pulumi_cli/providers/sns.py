"""SNS: topics, their policies and their subscriptions."""

from typing import Any

from pulumi_cli.problems import NotThere
from pulumi_cli.providers.aws import tag_changes, tag_list, tags_of
from pulumi_cli.providers.handler import Handler
from pulumi_cli.providers.s3 import asked
from pulumi_cli.providers.sqs import _value, attributes
from pulumi_cli.values import Properties

ABSENT = {"NotFound", "NotFoundException"}
TOPIC_ATTRIBUTES = {
    "archivePolicy": "ArchivePolicy",
    "contentBasedDeduplication": "ContentBasedDeduplication",
    "deliveryPolicy": "DeliveryPolicy",
    "displayName": "DisplayName",
    "fifoThroughputScope": "FifoThroughputScope",
    "fifoTopic": "FifoTopic",
    "kmsMasterKeyId": "KmsMasterKeyId",
    "policy": "Policy",
    "signatureVersion": "SignatureVersion",
    "tracingConfig": "TracingConfig",
}
SUBSCRIPTION_ATTRIBUTES = {
    "deliveryPolicy": "DeliveryPolicy",
    "filterPolicy": "FilterPolicy",
    "filterPolicyScope": "FilterPolicyScope",
    "rawMessageDelivery": "RawMessageDelivery",
    "redrivePolicy": "RedrivePolicy",
    "subscriptionRoleArn": "SubscriptionRoleArn",
}


class SnsHandler(Handler):
    def client(self, cloud: Any, known: Properties) -> Any:
        return cloud.client("sns", known.get("region"))


class Topic(SnsHandler):
    token = "aws:sns/topic:Topic"
    noun = "SNS Topic"
    named = "name"
    optional = ("name", *TOPIC_ATTRIBUTES, "tags")
    defaults = {"fifoTopic": False, "contentBasedDeduplication": False}
    replace_on = ("name", "fifoTopic")
    documents = ("policy", "deliveryPolicy", "archivePolicy")

    def check(self, name: str, inputs: Properties, old: Properties, cloud: Any) -> tuple[Properties, list[str]]:
        checked, faults = super().check(name, inputs, old, cloud)
        if checked["fifoTopic"] is True and "name" in checked["__defaults"] and not checked["name"].endswith(".fifo"):
            checked["name"] += ".fifo"
        return checked, faults

    def create(self, cloud: Any, inputs: Properties) -> str:
        # SNS takes these two for a FIFO topic alone.
        fifo = ("fifoTopic", "contentBasedDeduplication")
        wanted = {key: value for key, value in inputs.items() if key not in fifo or inputs["fifoTopic"]}
        answer = self.client(cloud, inputs).create_topic(
            Name=inputs["name"], Attributes=attributes(wanted, TOPIC_ATTRIBUTES), Tags=tag_list(inputs.get("tags"))
        )
        return str(answer["TopicArn"])

    def read(self, cloud: Any, id: str, known: Properties) -> Properties | None:
        client = self.client(cloud, known)
        answer = asked(lambda: client.get_topic_attributes(TopicArn=id), ABSENT)
        if answer is None:
            return None
        found = answer["Attributes"]
        like = self.defaults | known
        given = {key: _value(like[key], found.get(name)) for key, name in TOPIC_ATTRIBUTES.items() if key in like}
        tags = tags_of(client.list_tags_for_resource(ResourceArn=id)["Tags"])
        region, account, name = id.split(":")[3:6]
        about = {"name": name, "arn": id, "owner": account, "region": region}
        return {**given, **about, "tags": tags, "tagsAll": tags}

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> None:
        client = self.client(cloud, new)
        gone = dict.fromkeys((key for key in TOPIC_ATTRIBUTES if key in old and key not in new), "")
        changed = {key: value for key, value in new.items() if old.get(key) != value} | gone
        for name, text in attributes(changed, TOPIC_ATTRIBUTES).items():
            client.set_topic_attributes(TopicArn=id, AttributeName=name, AttributeValue=text)
        added, removed = tag_changes(old, new)
        if added:
            client.tag_resource(ResourceArn=id, Tags=tag_list(added))
        if removed:
            client.untag_resource(ResourceArn=id, TagKeys=removed)

    def delete(self, cloud: Any, id: str, known: Properties) -> None:
        asked(lambda: self.client(cloud, known).delete_topic(TopicArn=id), ABSENT)


class TopicPolicy(SnsHandler):
    token = "aws:sns/topicPolicy:TopicPolicy"
    noun = "SNS Topic Policy"
    required = ("arn", "policy")
    replace_on = ("arn",)
    documents = ("policy",)

    def create(self, cloud: Any, inputs: Properties) -> str:
        self.update(cloud, inputs["arn"], {}, inputs)
        return str(inputs["arn"])

    def read(self, cloud: Any, id: str, known: Properties) -> Properties | None:
        found = asked(lambda: self.client(cloud, known).get_topic_attributes(TopicArn=id), ABSENT)
        if found is None:
            return None
        region, account = id.split(":")[3:5]
        return {"arn": id, "policy": found["Attributes"].get("Policy", ""), "owner": account, "region": region}

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> None:
        self.client(cloud, new).set_topic_attributes(TopicArn=id, AttributeName="Policy", AttributeValue=new["policy"])

    def delete(self, cloud: Any, id: str, known: Properties) -> None:
        """The real provider puts SNS's default policy back; here the topic keeps what it has, as it goes next."""


class TopicSubscription(SnsHandler):
    token = "aws:sns/topicSubscription:TopicSubscription"
    noun = "SNS Topic Subscription"
    required = ("topic", "protocol", "endpoint")
    optional = (*SUBSCRIPTION_ATTRIBUTES, "confirmationTimeoutInMinutes", "endpointAutoConfirms")
    defaults = {"rawMessageDelivery": False, "confirmationTimeoutInMinutes": 1, "endpointAutoConfirms": False}
    replace_on = ("topic", "protocol", "endpoint")
    documents = ("deliveryPolicy", "filterPolicy", "redrivePolicy")

    def create(self, cloud: Any, inputs: Properties) -> str:
        answer = self.client(cloud, inputs).subscribe(
            TopicArn=inputs["topic"],
            Protocol=inputs["protocol"],
            Endpoint=inputs["endpoint"],
            Attributes=attributes(inputs, SUBSCRIPTION_ATTRIBUTES),
            ReturnSubscriptionArn=True,
        )
        return str(answer["SubscriptionArn"])

    def read(self, cloud: Any, id: str, known: Properties) -> Properties | None:
        answer = asked(lambda: self.client(cloud, known).get_subscription_attributes(SubscriptionArn=id), ABSENT)
        if answer is None:
            return None
        found = answer["Attributes"]
        like = self.defaults | known
        given = {
            key: _value(like[key], found.get(name)) for key, name in SUBSCRIPTION_ATTRIBUTES.items() if key in like
        }
        return {
            **given,
            "topic": found["TopicArn"],
            "protocol": found["Protocol"],
            "endpoint": found["Endpoint"],
            "arn": id,
            "ownerId": found.get("Owner", ""),
            "pendingConfirmation": found.get("PendingConfirmation") == "true",
            "confirmationWasAuthenticated": True,
            "region": id.split(":")[3],
        }

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> None:
        gone = dict.fromkeys((key for key in SUBSCRIPTION_ATTRIBUTES if key in old and key not in new), "")
        changed = {key: value for key, value in new.items() if old.get(key) != value} | gone
        for name, text in attributes(changed, SUBSCRIPTION_ATTRIBUTES).items():
            self.client(cloud, new).set_subscription_attributes(
                SubscriptionArn=id, AttributeName=name, AttributeValue=text
            )

    def delete(self, cloud: Any, id: str, known: Properties) -> None:
        asked(lambda: self.client(cloud, known).unsubscribe(SubscriptionArn=id), ABSENT)


def get_topic(cloud: Any, args: Properties) -> Properties:
    client = cloud.client("sns", args.get("region"))
    for page in client.get_paginator("list_topics").paginate():
        for topic in page["Topics"]:
            if topic["TopicArn"].rsplit(":", 1)[1] == args["name"]:
                found = Topic().read(cloud, topic["TopicArn"], args) or {}
                return {"id": topic["TopicArn"], **{key: found[key] for key in ("arn", "name", "region", "tags")}}
    raise NotThere("reading SNS Topic: no matching SNS Topic found")


HANDLERS: tuple[Handler, ...] = (Topic(), TopicPolicy(), TopicSubscription())
FUNCTIONS = {"aws:sns/getTopic:getTopic": get_topic}
