"""A queue on AWS: SQS as a source, a sink and a handle."""

import logging
import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from buildflow.errors import BuildflowError, NotApplied, ServiceUnavailable
from buildflow.ir.graph import Resource
from buildflow.primitives.base import Counts, Element
from buildflow.primitives.messages import Encoder, encoder
from buildflow.primitives.queue.aws import redrive_name
from buildflow.primitives.queue.local import LocalQueue, QueueSink
from buildflow.primitives.queue.sqs_deliveries import Deliveries, Note
from buildflow.primitives.queue.sqs_messages import GROUP, LARGEST, envelope, opened
from buildflow.primitives.queue.sqs_queue import LONGEST, SQSQueue, queue_of
from buildflow.primitives.queue.sqs_redrive import RedriveQueue
from buildflow.primitives.redis_stream import Outgoing
from buildflow.providers.aws import AT_ONCE, AwsSession, at_once
from buildflow.providers.aws_batches import TEN

if TYPE_CHECKING:
    from buildflow.primitives.queue.sqs_order import InOrder

log = logging.getLogger("buildflow.sqs")

_SLOWEST = 300.0
"""Seconds between two tries of what waits for a service that is away, at most."""
_KEEP = 1.0
"""Seconds for which a message that came while nobody asked for one is kept, before others get it."""
_FORGET = 256
"""Leases that have lapsed are dropped from our list when it has grown by so many."""

_TOO_LONG = f"has ended, as SQS hides no message for longer than {LONGEST // 3600} hours"


@dataclass(frozen=True, slots=True)
class _Received:
    """A message, when it was asked for, by `time.time`, and until when it is ours, by `time.monotonic`."""

    message: Mapping[str, Any]
    at: float
    until: float

    @property
    def id(self) -> str:
        return str(self.message["MessageId"])

    @property
    def deliveries(self) -> int:
        return int(self.message["Attributes"]["ApproximateReceiveCount"])


class SQSSource:
    """A `Source` on an SQS queue: a lease is a message's visibility timeout.

    Attempts are SQS' count of deliveries without those that were none; what SQS does not remember of them is in
    `Deliveries`. A worker that dies says nothing, so its messages come again when their leases lapse. While the stack's
    Redis is away nothing is taken: it would count. A delay is at least a second, and 12 hours at most, as SQS has it.
    """

    def __init__(
        self,
        queue: SQSQueue,
        deliveries: Deliveries,
        *,
        lease_seconds: float = 30.0,
        most: int = 0,
        carries_headers: bool = True,
    ) -> None:
        self.queue = queue
        self.deliveries = deliveries
        self.lease_seconds = lease_seconds
        self._most = most
        self._carries_headers = carries_headers
        self._begun: Deliveries | None = None
        """How often handlers have begun with elements that are taken in order."""
        self._lock = threading.Lock()
        self._renewed = threading.Condition(self._lock)
        self._until: dict[str, float] = {}
        """Until when each lease is ours, by its message's handle."""
        self._renewing: frozenset[str] = frozenset()
        """The handles that are being renewed at this moment."""
        self._forget_at = _FORGET
        self._kept: list[_Received] = []
        self._giving_back: threading.Timer | None = None
        self._was_empty = False
        self._closed = threading.Event()

    # -- a source ------------------------------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        """By a long poll, which may bring a message: it is kept for the next `lease`, a moment at most."""
        if seconds < 1:  # SQS counts in whole seconds
            self._closed.wait(seconds)
            return
        if self._closed.is_set() or self._kept:
            return
        self.deliveries.check()
        patience = min(int(seconds), 20)
        self._keep(self._receive(1, patience))
        self._was_empty = not self._kept

    def lease(self, limit: int) -> Sequence[Element]:
        limit = min(limit, self._most or limit)
        if limit < 1:
            return []
        received = self._take_kept(limit)
        was_empty, self._was_empty = self._was_empty, False
        try:
            if len(received) < limit and not was_empty:
                received += self._receive_many(limit - len(received))
            return self._elements(_once(received))
        except BaseException:
            self._keep(received)
            raise

    def renew(self, elements: Sequence[Element]) -> None:
        """Those whose leases have lapsed are others' by now, perhaps, and stay theirs: so it is said, once."""
        mine = self._begin_renewing(elements)
        try:
            began = time.monotonic()
            longest = {handle: _longest(element.receipt) for handle, element in mine.items()}
            hidden = {handle: min(self._hidden_seconds(), seconds) for handle, seconds in longest.items() if seconds}
            refused = set(self.queue.hide(hidden.items()))
            with self._lock:  # of what was acknowledged meanwhile nothing is noted
                lost = [handle for handle in refused if self._until.pop(handle, None)]
                self._until.update({h: began + s for h, s in hidden.items() if h in self._until})
        finally:
            with self._renewed:
                self._renewing = frozenset()
                self._renewed.notify_all()
        self._say_lost([mine[handle] for handle in lost], "cannot be renewed")

    def _begin_renewing(self, elements: Sequence[Element]) -> dict[str, Element]:
        """The leases that are ours, by handle: none of them is released before they are renewed."""
        held = {_handle(element.receipt): element for element in elements}
        now = time.monotonic()
        with self._lock:
            lapsed = [handle for handle in held if self._until.get(handle, math.inf) <= now]
            for handle in lapsed:
                del self._until[handle]
            mine = {handle: element for handle, element in held.items() if handle in self._until}
            self._renewing = frozenset(mine)
        gone = [held[handle] for handle in lapsed]
        self._say_lost([e for e in gone if _longest(e.receipt)], "was not renewed in time")
        self._say_lost([e for e in gone if not _longest(e.receipt)], _TOO_LONG)
        return mine

    def _say_lost(self, elements: Sequence[Element], why: str) -> None:
        if elements:
            others = f" and {len(elements) - 1} others" if len(elements) > 1 else ""
            words = "queue %s: the lease of %s%s %s: whoever asks next gets it"
            log.warning(words, self.queue.name, elements[0].id, others, why)

    def acknowledge(self, elements: Sequence[Element]) -> None:
        """Whoever holds the lease by now: acknowledged means committed, so even when ours lapsed and another
        worker has the element, there is nothing left to do for it."""
        handles = [_handle(element.receipt) for element in elements]
        with self._lock:  # before they are deleted: nobody is to wonder that they cannot be renewed
            dropped = {handle: self._until.pop(handle) for handle in handles if handle in self._until}
        try:
            self.queue.delete(handles)
        except BaseException:
            for handle, until in dropped.items():
                self._note_lease(handle, until)
            raise
        try:
            if again := [_message(e.receipt) for e in elements if _deliveries(e.receipt) > 1]:
                self.deliveries.forget(again)
            if self._begun is not None and elements:
                self._begun.forget([_message(e.receipt) for e in elements])
        except ServiceUnavailable as exc:  # they end by themselves
            log.info("queue %s: notes of %d messages are left behind: %s", self.queue.name, len(elements), exc)

    def release(self, element: Element, *, delay: float = 0.0, alone: bool = False, counted: bool = True) -> None:
        """One whose lease has lapsed is left to whoever has it by now; so is one that was released before."""
        handle = _handle(element.receipt)
        with self._renewed:
            left = self._until.get(handle, 0.0) - time.monotonic()
            self._renewed.wait_for(lambda: handle not in self._renewing, timeout=max(0.0, left))
            until = self._until.pop(handle, 0.0)  # whoever renews now leaves it out
        if until <= time.monotonic():
            return
        deliveries = _deliveries(element.receipt)
        uncounted = deliveries - element.attempt + (0 if counted else 1)
        if delay > 0 and not counted:  # a sink that is away for hours must not use up what SQS lets a queue receive
            delay = max(delay, min(_SLOWEST, float(deliveries)))
        delay = min(delay, _longest(element.receipt))
        try:
            self.deliveries.write(_message(element.receipt), Note(deliveries, uncounted, alone), delay)
            self.queue.hide([(handle, math.ceil(max(0.0, delay)))])
        except BaseException:
            self._note_lease(handle, until)  # it is ours yet, and may be released again
            raise

    def send(self, body: bytes, headers: Mapping[str, str], id: str | None = None) -> str:
        return self.queue.send(body, headers, id)

    def send_many(self, elements: Sequence[Outgoing]) -> list[str]:
        return self.queue.send_many(elements)

    def counts(self) -> Counts:
        waiting, hidden = self.queue.counts()
        delayed = self.deliveries.delayed()
        return Counts(waiting + delayed, max(0, hidden - delayed))

    def in_order(self, lock: str, token: str) -> "InOrder":
        """The queue for one leader, who holds `lock` (a key of the stack's Redis) with `token`."""
        from buildflow.primitives.queue.sqs_order import InOrder

        self._begun = Deliveries(self.deliveries.redis, f"{self.deliveries.key}:begun")
        return InOrder(self, self._begun, lock, token)

    def message_of(self, element: Element) -> str:
        """SQS' own id of an element's message."""
        return _message(element.receipt)

    def close(self) -> None:
        """Give back what was kept; what is leased comes again when its lease lapses."""
        self._closed.set()
        self._give_back_kept()

    # -- leases --------------------------------------------------------------------------------------------

    def _hidden_seconds(self) -> int:
        return min(LONGEST, math.ceil(self.lease_seconds))

    def is_mine(self, element: Element) -> bool:
        """Not when it was settled or has lapsed: SQS may take an old receipt for a message that another worker has."""
        return self._holds(element.receipt)

    def _holds(self, receipt: str) -> bool:
        with self._lock:
            return self._until.get(_handle(receipt), 0.0) > time.monotonic()

    def _note_lease(self, handle: str, until: float) -> None:
        with self._lock:
            self._until[handle] = until
            if len(self._until) >= self._forget_at:
                before = time.monotonic() - LONGEST
                self._until = {handle: until for handle, until in self._until.items() if until > before}
                self._forget_at = len(self._until) + _FORGET

    # -- receiving -----------------------------------------------------------------------------------------

    def _receive(self, count: int, wait: int = 0) -> list[_Received]:
        """They are ours for `lease_seconds` at least from now on: hidden for as long as we waited, too."""
        at, until = time.time(), time.monotonic() + wait + self._hidden_seconds()
        found = self.queue.receive(count, wait=wait, hidden=min(LONGEST, self._hidden_seconds() + wait))
        return [_Received(message, at, until) for message in found]

    def _receive_many(self, wanted: int) -> list[_Received]:
        """Ten, and where there are ten more of them, with several requests at once."""
        self.deliveries.check()
        end = time.monotonic() + self.lease_seconds / 4
        found = last = self._receive(wanted)
        asked = min(TEN, wanted)
        while len(last) == asked and len(found) < wanted and time.monotonic() < end:
            left = min(wanted - len(found), AT_ONCE * TEN)
            asked = left
            requests = [min(TEN, left - start) for start in range(0, left, TEN)]
            last = [one for some in at_once(self._receive_or_say, requests) for one in some]
            found = found + last
        return found

    def _receive_or_say(self, count: int) -> list[_Received]:
        """For one of several requests: what the others brought is not to be lost with it."""
        try:
            return self._receive(count)
        except BuildflowError as exc:
            log.warning("%s", exc)
            return []

    def _elements(self, received: Sequence[_Received]) -> list[Element]:
        now = time.monotonic()
        mine = [one for one in received if one.until > now]
        again = [one.id for one in mine if one.deliveries > 1]
        notes = dict(zip(again, self.deliveries.read(again), strict=True))
        elements = [self._element(one, notes.get(one.id, Note())) for one in mine]
        for element, one in zip(elements, mine, strict=True):
            self._note_lease(_handle(element.receipt), one.until)
        return elements

    def _element(self, one: _Received, note: Note) -> Element:
        message = one.message
        id, body, headers = opened(message["Body"], message.get("MessageAttributes") or {})
        facts = message["Attributes"]
        if GROUP in facts:
            headers[GROUP] = facts[GROUP]
        return Element(
            id=id or one.id,
            body=body,
            receipt=f"{one.deliveries} {one.at:.0f} {one.id} {message['ReceiptHandle']}",
            attempt=max(1, one.deliveries - note.uncounted),
            headers=headers if self._carries_headers else {},
            sent_at=datetime.fromtimestamp(int(facts["SentTimestamp"]) / 1000, UTC),
            alone=one.deliveries > 1 and (note.alone or note.deliveries < one.deliveries - 1),
        )

    # -- what came while nobody asked ----------------------------------------------------------------------

    def _keep(self, received: Sequence[_Received]) -> None:
        if not received:
            return
        with self._lock:
            self._kept += received
            if self._giving_back is None:
                self._giving_back = threading.Timer(min(_KEEP, self.lease_seconds / 2), self._give_back_kept)
                self._giving_back.daemon = True
                self._giving_back.start()

    def _take_kept(self, limit: int | None = None) -> list[_Received]:
        with self._lock:
            limit = len(self._kept) if limit is None else limit
            taken, self._kept = self._kept[:limit], self._kept[limit:]
            if not self._kept and self._giving_back is not None:
                self._giving_back.cancel()
                self._giving_back = None
        return taken

    def _give_back_kept(self) -> None:
        """To others, as they were: every child of ours is busy."""
        kept = self._take_kept()
        try:
            for element in self._elements(kept):
                self.release(element, alone=element.alone, counted=False)
        except BuildflowError as exc:
            log.warning("queue %s: %d messages come again when they lapse: %s", self.queue.name, len(kept), exc)


def _once(received: Sequence[_Received]) -> list[_Received]:
    """SQS may give two requests the same message; its last receipt counts."""
    found: dict[str, _Received] = {}
    for one in received:
        if one.id not in found or found[one.id].deliveries < one.deliveries:
            found[one.id] = one
    return list(found.values())


def _deliveries(receipt: str) -> int:
    return int(receipt.split(" ", 1)[0])


def _message(receipt: str) -> str:
    return receipt.split(" ")[2]


def _handle(receipt: str) -> str:
    """By what SQS knows the lease; a stream puts a word of its own behind it."""
    return receipt.split(" ")[3]


def _longest(receipt: str) -> int:
    """For how many seconds SQS hides it yet."""
    age = math.ceil(time.time()) - int(receipt.split(" ", 2)[1])
    return max(0, LONGEST - max(0, age) - 1)


# -- of a resource -----------------------------------------------------------------------------------------


def queue_source(resource: Resource, session: AwsSession) -> SQSSource:
    """Of a queue, or of a subscription, whose messages come raw."""
    return SQSSource(queue_of(resource, session), deliveries_of(resource, session), **source_options(resource))


def source_options(resource: Resource) -> dict[str, Any]:
    spec = resource.spec
    return {
        "lease_seconds": float(spec.get("lease", 30.0)),
        "most": int(spec.get("batch_size", 0)),
        "carries_headers": bool(spec.get("include_attributes", True)),
    }


def deliveries_of(resource: Resource, session: AwsSession) -> Deliveries:
    return Deliveries(session.redis, f"{session.namespace}:sqs:{resource.name}")


def queue_sink(resource: Resource, session: AwsSession) -> QueueSink:
    """Each row is a message of its own; a `Message` with its attributes. A repeated commit sends under the same ids,
    by which whoever takes the messages can tell, and which a FIFO queue drops for five minutes."""
    return QueueSink(queue_of(resource, session, deduplicate=True), checked(encoder(resource, session.graph)))


def queue_handle(resource: Resource, session: AwsSession) -> LocalQueue:
    return LocalQueue(resource.name, queue_of(resource, session), encoder(resource, session.graph))


def checked(encode: Encoder, largest: int = LARGEST) -> Encoder:
    """An encoder that refuses what is too large for a message."""

    def encode_checked(row: Any) -> bytes:
        body = encode(row)
        envelope(body, {}, None, largest=largest)
        return body

    return encode_checked


def redrive_of(resource: Resource, session: AwsSession) -> RedriveQueue | None:
    """The queue into which SQS itself moves what was received too often; None where there is none of ours."""
    if not resource.managed:
        return None
    url = str(resource.outputs.get("redrive_url") or "")
    queue = SQSQueue(session, redrive_name(resource.name), url=url, region=session.region_of(resource))
    try:
        return RedriveQueue(queue) if queue.url else None
    except NotApplied:
        return None
