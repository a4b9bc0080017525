"""One SQS queue: what its API offers, in requests of ten."""

import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from buildflow.errors import InvalidRow
from buildflow.ir.graph import Resource
from buildflow.primitives.queue.sqs_messages import LARGEST, Envelope, envelope
from buildflow.primitives.redis_stream import Outgoing
from buildflow.providers.aws import AwsSession, at_once
from buildflow.providers.aws_batches import TEN, send_batch, tens

LONGEST = 43_200
"""Seconds for which a message is hidden from others, at most, counted from when it was received."""
ONE_GROUP = "all"
"""The group of a FIFO queue's messages that name none: strict order over the whole queue."""


class SQSQueue:
    """Thread-safe, also after a fork. `deduplicate` lets a FIFO queue drop what it was sent under the same id within
    five minutes."""

    def __init__(
        self,
        session: AwsSession,
        name: str,
        *,
        url: str = "",
        region: str | None = None,
        account: str | None = None,
        deduplicate: bool = False,
    ) -> None:
        self.name = name
        self.fifo = name.endswith(".fifo")
        self._session = session
        self._url = url
        self._region = region
        self._account = account
        self._deduplicate = deduplicate
        self._what = f'queue "{name}"'

    @property
    def url(self) -> str:
        if not self._url:
            owner = {"QueueOwnerAWSAccountId": self._account} if self._account else {}
            with self._session.spoken("sqs", self._what):
                self._url = self._client().get_queue_url(QueueName=self.name, **owner)["QueueUrl"]
        return self._url

    # sending

    def send(self, body: bytes, headers: Mapping[str, str], id: str | None = None) -> str:
        return self.send_many([(body, headers, id)])[0]

    def send_many(self, elements: Iterable[Outgoing], *, together: bool = False) -> list[str]:  # noqa: ARG002
        """Send many; their ids. Nothing is sent when one of them is too large. SQS knows no transactions: when this
        raises half-way, some are sent, and whoever repeats it sends them again under the same ids."""
        messages = [envelope(*element) for element in elements]
        if self.fifo:
            for request in batches_in_order(messages, LARGEST):
                self._send(request)
        else:
            at_once(self._send, list(batches(messages, LARGEST)))
        return [message.id for message in messages]

    def _send(self, messages: Sequence[Envelope]) -> None:
        entries = [
            {"MessageBody": m.text, "MessageAttributes": m.attributes, **in_group(m, self.fifo, self._deduplicate)}
            for m in messages
        ]
        with self._session.spoken("sqs", self._what):
            refused = send_batch(
                lambda batch: self._client().send_message_batch(QueueUrl=self.url, Entries=batch), entries
            )
        if refused:
            _, why = refused[0]
            raise InvalidRow(f"{self._what} refuses a message: {why.get('Message') or why['Code']}")

    # receiving

    def receive(self, count: int, *, hidden: int, wait: int = 0) -> list[dict[str, Any]]:
        """Up to ten messages, hidden from others for some seconds; waits for the first one."""
        again = {"ReceiveRequestAttemptId": uuid.uuid4().hex} if self.fifo else {}
        with self._session.spoken("sqs", self._what):
            answer = self._client().receive_message(
                QueueUrl=self.url,
                MaxNumberOfMessages=min(TEN, count),
                VisibilityTimeout=hidden,
                WaitTimeSeconds=wait,
                MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp", "MessageGroupId"],
                MessageAttributeNames=["All"],
                **again,
            )
        found: list[dict[str, Any]] = answer.get("Messages", [])
        return found

    def delete(self, handles: Iterable[str]) -> None:
        """Delete messages by their receipt handles. Those of which SQS knows nothing any more are gone already."""

        def delete_ten(ten: Sequence[str]) -> None:
            with self._session.spoken("sqs", self._what):
                send_batch(
                    lambda batch: self._client().delete_message_batch(QueueUrl=self.url, Entries=batch),
                    [{"ReceiptHandle": handle} for handle in ten],
                )

        at_once(delete_ten, list(tens(handles)))

    def hide(self, handles: Iterable[tuple[str, int]]) -> list[str]:
        """Hide messages from others for so many seconds from now; those that are ours no more."""

        def hide_ten(ten: Sequence[tuple[str, int]]) -> list[str]:
            with self._session.spoken("sqs", self._what):
                refused = send_batch(
                    lambda batch: self._client().change_message_visibility_batch(QueueUrl=self.url, Entries=batch),
                    [{"ReceiptHandle": handle, "VisibilityTimeout": seconds} for handle, seconds in ten],
                )
            return [entry["ReceiptHandle"] for entry, _ in refused]

        return [handle for lost in at_once(hide_ten, list(tens(handles))) for handle in lost]

    def counts(self) -> tuple[int, int]:
        """How many messages wait, and how many are hidden."""
        waiting, hidden, delayed = (
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        )
        with self._session.spoken("sqs", self._what):
            asked = self._client().get_queue_attributes(QueueUrl=self.url, AttributeNames=[waiting, hidden, delayed])
        found = {name: int(number) for name, number in asked.get("Attributes", {}).items()}
        return found.get(waiting, 0) + found.get(delayed, 0), found.get(hidden, 0)

    def close(self) -> None:
        """Clients belong to the session."""

    def _client(self) -> Any:
        return self._session.client("sqs", self._region)


def queue_of(resource: Resource, session: AwsSession, *, deduplicate: bool = False) -> SQSQueue:
    """The queue behind a `queue`, a `subscription` or a `file_change_stream`."""
    return SQSQueue(
        session,
        resource.name,
        url=str(resource.outputs.get("url") or ""),
        region=session.region_of(resource),
        account=(resource.spec.get("aws") or {}).get("account_id"),
        deduplicate=deduplicate,
    )


def in_group(message: Envelope, fifo: bool, deduplicate: bool) -> dict[str, str]:
    """What a FIFO queue or topic asks of each message."""
    if not fifo:
        return {}
    once = message.id if deduplicate else uuid.uuid4().hex
    return {"MessageGroupId": message.group or ONE_GROUP, "MessageDeduplicationId": once}


def batches(messages: Iterable[Envelope], largest: int) -> Iterator[list[Envelope]]:
    """Ten messages each, or as many as fit into one request."""
    together: list[Envelope] = []
    size = 0
    for message in messages:
        if together and (len(together) == TEN or size + message.size > largest):
            yield together
            together, size = [], 0
        together.append(message)
        size += message.size
    if together:
        yield together


def batches_in_order(messages: Iterable[Envelope], largest: int) -> Iterator[list[Envelope]]:
    """The same for a FIFO queue or topic, one after the other: no request has two messages of a group, for AWS may
    refuse the first and take the second. So each group's first ones go together, then their second ones, and so on."""
    rounds: list[list[Envelope]] = []
    sent: Counter[str] = Counter()
    for message in messages:
        group = message.group or ONE_GROUP
        if sent[group] == len(rounds):
            rounds.append([])
        rounds[sent[group]].append(message)
        sent[group] += 1
    for together in rounds:
        yield from batches(together, largest)
