"""The backstop of a queue: where SQS itself moves what was received too often. It stands above the platform's own dead
letters, and says nothing about why: a message that killed whole workers, or that no worker could settle."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from buildflow.primitives.base import Element
from buildflow.primitives.queue.sqs_messages import GROUP, opened
from buildflow.primitives.queue.sqs_queue import SQSQueue

REASON = "moved by SQS, reason unknown"
_HELD_SECONDS = 120


class RedriveQueue:
    """One redrive queue.

    with redrive.held() as elements:      # some of them; nobody else sees these meanwhile
        source.send(element.body, element.headers, element.id)
        redrive.delete([element])         # the others are back when the block ends
    """

    reason = REASON

    def __init__(self, queue: SQSQueue) -> None:
        self._queue = queue

    def count(self) -> int:
        return sum(self._queue.counts())

    @contextmanager
    def held(self, limit: int = 1000, size: int = 16_000_000) -> Iterator[list[Element]]:
        """Up to `limit` messages, fewer when they have `size` bytes or more. `attempt` is how often they were received
        before and since SQS moved them."""
        if not self.count():  # or every empty one would cost the second that SQS may take to find a few
            yield []
            return
        elements: list[Element] = []
        try:
            while (left := limit - len(elements)) > 0 and size > 0 and (found := self._receive(left)):
                elements += found
                size -= sum(len(element.body) for element in found)
            yield list(elements)
        finally:
            self._queue.hide((element.receipt, 0) for element in elements)  # of those deleted SQS knows nothing more

    def delete(self, elements: Sequence[Element]) -> None:
        self._queue.delete([element.receipt for element in elements])

    def _receive(self, count: int) -> list[Element]:
        return [_element(message) for message in self._queue.receive(count, wait=1, hidden=_HELD_SECONDS)]


def _element(message: Any) -> Element:
    id, body, headers = opened(message["Body"], message.get("MessageAttributes") or {})
    facts = message["Attributes"]
    if GROUP in facts:
        headers[GROUP] = facts[GROUP]
    sent_at = datetime.fromtimestamp(int(facts["SentTimestamp"]) / 1000, UTC)
    attempt = int(facts["ApproximateReceiveCount"])
    return Element(id or message["MessageId"], body, message["ReceiptHandle"], attempt, headers, sent_at)
