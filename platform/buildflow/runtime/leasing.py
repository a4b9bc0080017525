"""Leases: what the worker's main process takes from a source, and keeps until its children have reported.

    Leaser (a thread) --lease--> source
        Lease -> the pool, as a Celery message -> Report -> settle

Credits are the pool's children that are ready, so nothing is leased that nobody could take at once.
"""

import logging
import math
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from buildflow.errors import ServiceUnavailable
from buildflow.ir.runtime import ConsumerPlan
from buildflow.primitives.base import Element
from buildflow.runtime.connections import Connections
from buildflow.runtime.delivery import (
    Report,
    died_words,
    dump_group,
    give_back,
    give_back_untouched,
    groups_of,
    release,
)
from buildflow.runtime.process import in_words
from buildflow.runtime.rate_limit import RateLimit

log = logging.getLogger("buildflow.worker")

TASK = "buildflow.group"
TARGET_SECONDS = 0.1
"""A group is sized to keep its child busy about this long, so that slow handlers spread over children."""
MOST_AHEAD = 16
"""Groups that are leased at once, at most."""
HARD_LIMIT_GRACE = 10.0
RATE_SECONDS = 5.0
"""Over how long a rate is averaged."""


class Dispatcher(Protocol):
    """What a leaser needs of its worker."""

    credits: "Credits"
    stopping: threading.Event

    def hold(self, leases: "Iterable[Lease]") -> None:
        """Renew these leases from now on, also those that still wait for a child."""
        ...

    def submit(self, lease: "Lease") -> None:
        """Hand one to the pool."""
        ...

    def grant(self, lease: "Lease") -> bool:
        """Give a lease its credit, unless it was ended while it waited for one."""
        ...

    def mark_ended(self, lease: "Lease") -> bool:
        """Whether this is the first end of the lease."""
        ...

    def ended(self, lease: "Lease") -> None:
        """Settle it, and let another have its credit."""
        ...


class Credits:
    """Free pool children: a lease is taken only against one."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ready = 0
        self._used = 0
        self._limit = sys.maxsize

    def acquire(self, stopping: threading.Event) -> bool:
        with self._changed:
            while self._used >= min(self._ready, self._limit):
                if stopping.is_set():
                    return False
                self._changed.wait(0.5)
            if stopping.is_set():
                return False
            self._used += 1
            return True

    def release(self) -> None:
        with self._changed:
            self._used -= 1
            self._changed.notify()

    def set_ready(self, ready: int) -> None:
        with self._changed:
            self._ready = ready
            self._changed.notify_all()

    def set_limit(self, limit: int) -> None:
        """Use so many children at most, though more may be ready: one of them is to leave."""
        with self._changed:
            self._limit = limit
            self._changed.notify_all()

    @property
    def ready(self) -> int:
        return self._ready

    @property
    def used(self) -> int:
        return self._used


@dataclass(eq=False)
class Lease:
    """A group of leased elements in the form of a Celery message (protocol 2)."""

    leaser: "Leaser"
    elements: list[Element]
    headers: dict[str, Any]
    body: bytes
    report: Report | None = None
    reason: str = ""
    has_credit: bool = False
    accepted: bool = False
    ended: bool = False
    content_type: str = "application/json"
    content_encoding: str = "utf-8"
    properties: dict[str, Any] = field(default_factory=dict)
    delivery_info: dict[str, Any] = field(default_factory=dict)

    @property
    def payload(self) -> list[Any]:
        """What Celery shows of a request's arguments; the elements themselves are for the child alone."""
        return [[self.headers["argsrepr"]], {}, {}]

    def ack_log_error(self, *_: Any, **__: Any) -> None:
        self.end()

    def reject_log_error(self, *_: Any, **__: Any) -> None:
        self.end()

    def end(self) -> None:
        if self.leaser.worker.mark_ended(self):
            self.leaser.worker.ended(self)


class Leaser(threading.Thread):
    """Takes one consumer's elements against free credits, in a thread of the main process."""

    def __init__(self, plan: ConsumerPlan, connections: Connections, worker: Dispatcher) -> None:
        super().__init__(name=f"lease-{plan.key}", daemon=True)
        self.plan = plan
        self.connections = connections
        self.source = connections.source(plan.source)
        self.worker = worker
        self.limit = RateLimit(plan.key, plan.rate_limit, connections) if plan.rate_limit else None
        self.pause = 0.0
        """Seconds until the rate limit lets another element go."""
        self.seconds_each = 0.0
        self.done = self.failed = self.dead = 0
        self.rate = 0.0
        """Elements done a second, lately."""
        self._counted = (time.monotonic(), 0)
        self.last_error = ""
        self.gathered: list[Element] = []
        """Leased, and not yet in a group."""
        self.deaths: dict[str, str] = {}
        """How the last process of an element that runs alone ended."""
        self.errors: dict[str, str] = {}
        """Why an element was given up whose dead letter could not be written."""

    def run(self) -> None:
        delay = 0.5
        while not self.worker.stopping.is_set():
            try:
                self._take()
                delay = 0.5
            except Exception as exc:
                log.warning("%s: the source does not answer: %s", self.plan.key, in_words(exc))
                self.worker.stopping.wait(delay)
                delay = min(delay * 2, 5.0)
        give_back_untouched(self.source, self.gathered)
        self.gathered = []

    def _take(self) -> None:
        """One group, if a child is free and the source has one; else wait for either."""
        credits, stopping = self.worker.credits, self.worker.stopping
        if not credits.acquire(stopping):
            return
        try:
            if not self.gathered:  # else some are left of a time when the source did not answer
                self.gathered = self._lease(self._size() * self._ahead())
        except BaseException:
            credits.release()
            raise
        if self._worth_lingering():
            credits.release()  # the child is for others meanwhile
            self._linger()
            if not credits.acquire(stopping):
                return
        if not self.gathered:
            credits.release()
            if self.pause:
                stopping.wait(min(self.pause, 1.0))
            else:
                self.source.wait(1.0)
            return
        self._submit(self.gathered)

    def _submit(self, elements: list[Element]) -> None:
        """Hand over what was leased: the first group against the credit in hand, others against one each."""
        credits, stopping = self.worker.credits, self.worker.stopping
        first, *others = [self._message(group, bury) for group, bury in groups_of(elements, self.plan, self._size())]
        first.has_credit = True
        self.worker.hold([first, *others])
        self._handed_over(elements)
        self.worker.submit(first)
        for lease in others:
            if not credits.acquire(stopping):
                lease.reason = "the worker was stopping"
                lease.end()
            elif self.worker.grant(lease):
                self.worker.submit(lease)
            else:
                credits.release()

    def _handed_over(self, elements: Sequence[Element]) -> None:  # noqa: ARG002 - for the one that keeps more
        """These are in groups now, which are renewed and settled by themselves."""
        self.gathered = []

    def _lease(self, wanted: int) -> list[Element]:
        """Elements from the source, as many as the rate limit lets go."""
        if self.limit is None:
            return self._take_from_source(wanted)
        granted, self.pause = self.limit.take(wanted)
        if not granted:
            return []
        self.pause = 0.0
        elements = self._take_from_source(granted)
        try:
            self.limit.give_back(granted - len(elements))
        except ServiceUnavailable as exc:  # the elements are leased; the limit is a little lower for a moment
            log.info("%s: permits are not given back: %s", self.plan.key, in_words(exc))
        return elements

    def _take_from_source(self, limit: int) -> list[Element]:
        return list(self.source.lease(limit))

    def _worth_lingering(self) -> bool:
        return bool(self.gathered and self.plan.batch.linger) and len(self.gathered) < self.plan.batch.size

    def _linger(self) -> None:
        """Wait for the group to fill; what it has is renewed meanwhile."""
        deadline = time.monotonic() + self.plan.batch.linger
        while self._worth_lingering() and not self.worker.stopping.is_set():
            left = deadline - time.monotonic()
            if left <= 0:
                return
            self.source.wait(min(left, 0.2))
            self.gathered = [*self.gathered, *self._lease(self.plan.batch.size - len(self.gathered))]
            if self.pause:
                self.worker.stopping.wait(min(self.pause, left))

    def _size(self) -> int:
        """As many elements as keep a child busy for about TARGET_SECONDS; few until that is known."""
        if self.plan.batch.linger:
            return self.plan.batch.size
        wanted = int(TARGET_SECONDS / self.seconds_each) if self.seconds_each else 8
        return max(1, min(self.plan.batch.size, max(wanted, self.plan.concurrency)))

    def _ahead(self) -> int:
        """How many groups to lease at once: several where one keeps a child busy for a short time only, so that
        asking the source does not take longer than the work."""
        if self.plan.batch.linger or not self.seconds_each:
            return 1
        return max(1, min(MOST_AHEAD, int(TARGET_SECONDS / (self.seconds_each * self._size()))))

    def _message(self, elements: list[Element], bury: bool) -> Lease:
        id = str(uuid.uuid4())
        rounds = math.ceil(len(elements) / self.plan.concurrency)
        hard = self.plan.timeout * rounds + HARD_LIMIT_GRACE if self.plan.timeout else None
        reason = self._why(elements[0]) if bury else ""
        headers = {
            "lang": "py",
            "task": TASK,
            "id": id,
            "root_id": id,
            "parent_id": None,
            "group": None,
            "retries": 0,
            "timelimit": [hard, None],
            "eta": None,
            "expires": None,
            "argsrepr": f"{self.plan.key} x{len(elements)}",
            "kwargsrepr": "{}",
            "origin": socket.gethostname(),
            "ignore_result": True,
        }
        return Lease(self, elements, headers, dump_group(self.plan.key, elements, reason))

    def _why(self, element: Element) -> str:
        """Why an element is buried that comes again after its last attempt."""
        return self.errors.pop(element.id, "") or died_words(element, self.deaths.pop(element.id, ""))

    def settle(self, leases: Sequence[Lease]) -> None:
        """Tell the source what became of groups, and keep count. May be repeated as a whole when it fails."""
        for lease in leases:
            if lease.report is None and lease.accepted:
                size = len(lease.elements)
                if size == 1:
                    self.deaths[lease.elements[0].id] = lease.reason
                log.warning("%s: a group of %d ended without a report: %s", self.plan.key, size, lease.reason)
        self._tell_source(leases)
        for lease in leases:
            if lease.report is not None:
                self._count(lease, lease.report)

    def _tell_source(self, leases: Sequence[Lease]) -> None:
        done = [lease.elements[i] for lease in leases if lease.report is not None for i in lease.report.done]
        if done:
            self.source.acknowledge(done)
        for lease in leases:
            if lease.report is not None:
                release(self.source, lease.elements, lease.report)
            elif lease.accepted:
                give_back(self.source, lease.elements, self.plan.retry)
            else:
                give_back_untouched(self.source, lease.elements)

    def _count(self, lease: Lease, report: Report) -> None:
        for index in report.done:
            self.deaths.pop(lease.elements[index].id, None)
        for index, why in report.reasons.items():
            self.errors[lease.elements[index].id] = why
        each = report.seconds / len(lease.elements)
        self.seconds_each = each if not self.seconds_each else 0.7 * self.seconds_each + 0.3 * each
        self.done += len(report.done) - report.dead
        self.failed += report.failed
        self.dead += report.dead
        if report.error:
            self.last_error = report.error
            count = f" ({report.failed} failed in this group)" if report.failed > 1 else ""
            log.warning("%s: %s%s", self.plan.key, report.error, count)

    def measure(self, now: float) -> None:
        """Bring `rate` up to date; called every second or so."""
        before, done = self._counted
        if now > before:
            lately = (self.done - done) / (now - before)
            self.rate += (1 - math.exp((before - now) / RATE_SECONDS)) * (lately - self.rate)
            self._counted = (now, self.done)

    def close(self) -> None:
        """The worker ends, and nothing is under way any more."""

    def held(self) -> list[Element]:
        """What it has leased and not handed over yet."""
        return self.gathered
