"""An SQS queue whose elements one leader takes, in the order in which SQS gives them. Of a FIFO queue that is the order
in which they were sent, each group by itself.

What a leader has taken stays hidden until it is acknowledged, retries included, and with it what is behind it in its
group. A leader that dies lets it lapse: the next one gets it anew, in its old order.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from buildflow.errors import LeadershipLost
from buildflow.primitives.base import Element
from buildflow.primitives.queue.sqs_deliveries import Deliveries, Note
from buildflow.providers.redis_client import spoken

if TYPE_CHECKING:
    from buildflow.primitives.queue.sqs import SQSSource


class InOrder:
    """The leader's way to a queue. Its elements' `attempt` is how often a handler has begun with them, which is noted
    in the stack's Redis."""

    def __init__(self, source: "SQSSource", begun: Deliveries, lock: str, token: str) -> None:
        self.source = source
        self._begun = begun
        self._lock = lock
        self._token = token
        self._leased: list[Element] = []
        """Taken, and not given to the leader yet, whose notes could not be read."""

    def resume(self, limit: int) -> list[Element]:  # noqa: ARG002 - as of a Redis stream
        """Nothing: what was taken and not finished comes again by itself."""
        self._leased = []
        return []

    def is_mine(self, element: Element) -> bool:
        """Not when its lease has lapsed: SQS gives it, and what is behind it in its group, again."""
        return self.source.is_mine(element)

    def next(self, limit: int) -> list[Element]:
        """Up to `limit` elements, in their order."""
        self._fence()
        if not all(self.source.is_mine(element) for element in self._leased):
            self._leased = []  # one of them is to come again, and those behind it in its group after it
        if limit > len(self._leased):
            self._leased += self.source.lease(limit - len(self._leased))
        elements = self._leased[:limit]
        again = [element for element in elements if element.attempt > 1 or element.alone]
        notes = self._begun.read([self.source.message_of(element) for element in again])
        begun = {element.receipt: note.deliveries for element, note in zip(again, notes, strict=True)}
        counts = [begun.get(element.receipt, 0) for element in elements]
        self._leased = self._leased[len(elements) :]
        return [replace(e, attempt=n, alone=n > 0) for e, n in zip(elements, counts, strict=True)]

    def count(self, elements: Sequence[Element], attempts: int = 1) -> None:
        """Count an attempt that begins, or one less for what failed through no fault of these elements."""
        self._fence()
        for element in elements:
            self._begun.write(self.source.message_of(element), Note(max(0, element.attempt + attempts)))

    def _fence(self) -> None:
        with spoken():
            holder = self.source.deliveries.redis().get(self._lock)
        if holder != self._token.encode():
            raise LeadershipLost("another process leads this consumer now")
