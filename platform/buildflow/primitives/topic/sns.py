"""A topic on AWS: SNS as a sink and a handle."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from buildflow.errors import InvalidRow
from buildflow.ir.graph import Resource
from buildflow.primitives.messages import encoder
from buildflow.primitives.queue.local import LocalQueue, QueueSink
from buildflow.primitives.queue.sqs import checked
from buildflow.primitives.queue.sqs_messages import Envelope, envelope
from buildflow.primitives.queue.sqs_queue import batches, batches_in_order, in_group
from buildflow.primitives.redis_stream import Outgoing
from buildflow.providers.aws import AwsSession, at_once
from buildflow.providers.aws_batches import send_batch

LARGEST = 262_144
"""Bytes of a message with its attributes, and of all messages of one request, unless a topic says otherwise. Source:
https://docs.aws.amazon.com/sns/latest/api/API_PublishBatch.html"""


class SNSTopic:
    """One topic to publish to. Thread-safe, also after a fork. `deduplicate` lets a FIFO topic drop what it was sent
    under the same id within five minutes."""

    def __init__(self, resource: Resource, session: AwsSession, *, deduplicate: bool = False) -> None:
        self.name = resource.name
        self._session = session
        self._region = session.region_of(resource)
        self._arn = str(resource.outputs.get("arn") or "")
        self._fifo = resource.name.endswith(".fifo")
        self._deduplicate = deduplicate
        self._what = f'topic "{resource.name}"'
        self._filtered = {name for r in session.graph.referrers(resource.key) for name in r.spec.get("filter") or ()}

    @property
    def arn(self) -> str:
        if not self._arn:
            client = self._client()
            with self._session.spoken("sts", self._what):
                account = self._session.client("sts").get_caller_identity()["Account"]
            self._arn = f"arn:{client.meta.partition}:sns:{client.meta.region_name}:{account}:{self.name}"
        return self._arn

    def send(self, body: bytes, headers: Mapping[str, str], id: str | None = None) -> str:
        return self.send_many([(body, headers, id)])[0]

    def send_many(self, elements: Iterable[Outgoing], *, together: bool = False) -> list[str]:  # noqa: ARG002
        """Publish many; their ids. Nothing is published when one of them is too large. SNS knows no transactions: when
        this raises half-way, some are published, and whoever repeats it does so under the same ids."""
        messages = [envelope(*element, first=self._filtered, largest=LARGEST) for element in elements]
        if self._fifo:
            for request in batches_in_order(messages, LARGEST):
                self._publish(request)
        else:
            at_once(self._publish, list(batches(messages, LARGEST)))
        return [message.id for message in messages]

    def close(self) -> None:
        """Clients belong to the session."""

    def _publish(self, messages: Sequence[Envelope]) -> None:
        entries = [
            {"Message": m.text, "MessageAttributes": m.attributes, **in_group(m, self._fifo, self._deduplicate)}
            for m in messages
        ]
        with self._session.spoken("sns", self._what):
            refused = send_batch(
                lambda batch: self._client().publish_batch(TopicArn=self.arn, PublishBatchRequestEntries=batch), entries
            )
        if refused:
            _, why = refused[0]
            raise InvalidRow(f"{self._what} refuses a message: {why.get('Message') or why['Code']}")

    def _client(self) -> Any:
        return self._session.client("sns", self._region)


def topic_sink(resource: Resource, session: AwsSession) -> QueueSink:
    """Each row is a message of its own; a `Message` with its attributes. A repeated commit publishes under the same
    ids, by which whoever takes the messages can tell, and which a FIFO topic drops for five minutes."""
    topic = SNSTopic(resource, session, deduplicate=True)
    return QueueSink(topic, checked(encoder(resource, session.graph), LARGEST))


def topic_handle(resource: Resource, session: AwsSession) -> LocalQueue:
    return LocalQueue(resource.name, SNSTopic(resource, session), encoder(resource, session.graph))
