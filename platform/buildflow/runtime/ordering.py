"""`ordering: {key}`: elements with the same key one after the other, in the order in which they were sent.

One process leads an ordered consumer, and takes its elements in order. Of each key one is under way at most; those
behind it wait here, still leased, until it was committed or given up, over all its retries. A leader that dies leaves
them where they were: the next one finds them in their old order.
"""

import dataclasses
import itertools
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from buildflow.errors import LeadershipLost
from buildflow.ir.runtime import ConsumerPlan
from buildflow.primitives.base import Element
from buildflow.runtime.connections import Connections
from buildflow.runtime.delivery import backoff
from buildflow.runtime.leadership import LAPSE, Leadership
from buildflow.runtime.leasing import Dispatcher, Lease, Leaser, log
from buildflow.runtime.process import in_words

BOUND = 1000
"""Elements that wait here at most, beside a group's worth."""


@dataclass
class _Line:
    """The elements of one key, oldest first; the first may be under way, or wait for its next attempt."""

    elements: deque[Element]
    under_way: bool = False
    due: float = 0.0


class Lines:
    """Elements in lines by key. Not thread-safe."""

    def __init__(self, field: str) -> None:
        self.field = field
        self.by_key: dict[Any, _Line] = {}
        self.count = 0

    def add(self, element: Element) -> None:
        line = self.by_key.setdefault(self.key(element), _Line(deque()))
        line.elements.append(element)
        self.count += 1

    def next(self, limit: int, now: float) -> list[Element]:
        """The first of each line that is due and has none under way; they are from now on."""
        found: list[Element] = []
        for line in self.by_key.values():
            if len(found) >= limit:
                break
            if not line.under_way and line.due <= now:
                line.under_way = True
                found.append(line.elements[0])
        return found

    def begun(self, element: Element) -> None:
        """The first of its line, as it is now."""
        self.by_key[self.key(element)].elements[0] = element

    def done(self, element: Element) -> None:
        key = self.key(element)
        line = self.by_key[key]
        line.elements.popleft()
        self.count -= 1
        line.under_way = False
        line.due = 0.0
        del self.by_key[key]
        if line.elements:
            self.by_key[key] = line  # behind the others: every key has its turn

    def again(self, element: Element, due: float) -> None:
        """It stays first in its line, and has another attempt at `due`."""
        line = self.by_key[self.key(element)]
        line.elements[0] = element
        line.under_way = False
        line.due = due

    def due(self) -> float:
        """When the next line is due of those that have none under way; never, if there is no such line."""
        return min((line.due for line in self.by_key.values() if not line.under_way), default=float("inf"))

    def waiting(self) -> list[Element]:
        return [
            e for line in self.by_key.values() for i, e in enumerate(line.elements) if i or not line.under_way
        ]  # fmt: skip

    def forget(self, is_mine: Callable[[Element], bool]) -> None:
        """Waiting elements that are not ours any more, and all behind them: they come again, in their order."""
        for key, line in list(self.by_key.items()):
            kept = int(line.under_way)
            kept += sum(1 for _ in itertools.takewhile(is_mine, itertools.islice(line.elements, kept, None)))
            while len(line.elements) > kept:
                line.elements.pop()
                self.count -= 1
            if not line.elements:
                del self.by_key[key]

    def key(self, element: Element) -> Any:
        """What stands in the element's field; an element without it is in a line of its own."""
        try:
            return json.dumps(json.loads(element.body)[self.field], sort_keys=True)
        except (ValueError, KeyError, TypeError, IndexError, RecursionError):
            return (None, element.receipt)


class OrderedLeaser(Leaser):
    """Leads one ordered consumer, while nobody else does."""

    def __init__(self, plan: ConsumerPlan, connections: Connections, worker: Dispatcher) -> None:
        super().__init__(plan, connections, worker)
        assert plan.ordering is not None
        self.leadership = Leadership(connections, f"consumer:{plan.key}")
        self.stream: Any = connections.source(plan.source).in_order(self.leadership.key, self.leadership.token)  # type: ignore[attr-defined]
        self.lines = Lines(plan.ordering)
        self.leading = False
        self._under_way: dict[str, Element] = {}
        self._changed = threading.Condition()

    def run(self) -> None:
        threading.Thread(target=self._keep_leading, name=f"lead-{self.plan.key}", daemon=True).start()
        super().run()

    def close(self) -> None:
        """Let another lead at once: nothing is under way any more."""
        self.leadership.give_up()

    def held(self) -> list[Element]:
        with self._changed:
            return self.lines.waiting()

    def _keep_leading(self) -> None:
        while True:
            try:
                if self.leadership.held:
                    self.leadership.keep()
                elif not self.worker.stopping.is_set() and not self.leading:
                    self.leadership.take()
            except Exception as exc:
                log.warning("%s: cannot lead: %s", self.plan.key, in_words(exc))
            with self._changed:
                self._changed.notify_all()
            time.sleep(LAPSE / 6)

    def _take(self) -> None:
        if not self.leadership.held:
            self._stand_by()
            return
        try:
            if not self.leading:
                self._begin_leading()
            with self._changed:
                self.lines.forget(self.stream.is_mine)
            self._fill()
            self._go_on()
        except LeadershipLost:
            self._stand_by()

    def _stand_by(self) -> None:
        """Another leads, or may: forget what waits here, it is in the stream."""
        with self._changed:
            self.lines = Lines(self.lines.field)
            self._under_way.clear()
            self.leading = False
            self._changed.wait(LAPSE / 6)

    def _begin_leading(self) -> None:
        found = self.stream.resume(BOUND)
        with self._changed:
            for element in found:
                self.lines.add(element)
        self.leading = True

    def _fill(self) -> None:
        room = BOUND + self.plan.batch.size - self.lines.count
        for element in self._lease(min(room, self.plan.batch.size)) if room > 0 else []:
            with self._changed:
                self.lines.add(element)

    def _take_from_source(self, limit: int) -> list[Element]:
        elements: list[Element] = self.stream.next(limit)
        return elements

    def _go_on(self) -> None:
        """Hand over what may begin; wait when there is nothing."""
        credits, stopping = self.worker.credits, self.worker.stopping
        with self._changed:
            due = self.lines.due() - time.monotonic()
            if due > 0 and self.lines.count:
                self._changed.wait(min(due, 0.05))  # until a group is settled, a retry is due, or more has come
                return
        if not self.lines.count:
            if self.pause:
                stopping.wait(min(self.pause, 1.0))
            else:
                self.source.wait(1.0)
            return
        if not credits.acquire(stopping):
            return
        begun = self._begin()
        if begun:
            self._submit(begun)
        else:
            credits.release()

    def _begin(self) -> list[Element]:
        """The elements that begin now, counted: nobody else may have begun with them meanwhile."""
        with self._changed:
            chosen = self.lines.next(self._size(), time.monotonic())
        try:
            self.stream.count(chosen)
        except BaseException:
            with self._changed:
                for element in chosen:
                    self.lines.again(element, 0.0)
            raise
        begun = [dataclasses.replace(element, attempt=element.attempt + 1) for element in chosen]
        with self._changed:
            for element in begun:
                self.lines.begun(element)
                self._under_way[element.receipt] = element
        return begun

    def _handed_over(self, elements: Sequence[Element]) -> None:
        """They stay first in their lines until they are settled."""

    def _tell_source(self, leases: Sequence[Lease]) -> None:
        for lease in leases:
            self._settle(lease)

    def _settle(self, lease: Lease) -> None:
        report = lease.report
        again: dict[int, float] = dict(report.retry) if report is not None else {}
        uncounted: list[Element] = []
        if report is not None:
            self.source.acknowledge([lease.elements[i] for i in report.done])
            uncounted = [lease.elements[i] for i in report.uncounted]
        elif lease.accepted:
            again = {i: backoff(self.plan.retry, e.attempt) for i, e in enumerate(lease.elements)}
        else:
            again = dict.fromkeys(range(len(lease.elements)), 0.0)
            uncounted = lease.elements
        if uncounted and self.leadership.held:
            self.stream.count(uncounted, -1)
        with self._changed:
            now = time.monotonic()
            less = {element.receipt for element in uncounted}
            for index, element in enumerate(lease.elements):
                if self._under_way.pop(element.receipt, None) is None:
                    continue  # taken under an earlier leadership
                if index not in again:
                    self.lines.done(element)
                    continue
                attempt = element.attempt - (element.receipt in less)
                alone = element.alone or (report is None and lease.accepted)
                self.lines.again(dataclasses.replace(element, attempt=attempt, alone=alone), now + again[index])
            self._changed.notify_all()
