"""What a leaser has taken is never lost between its source and its groups."""

import threading
from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

from buildflow.errors import ServiceUnavailable
from buildflow.ir.runtime import BatchPlan, ConsumerPlan, HandlerPlan, RetryPlan
from buildflow.primitives.base import Element
from buildflow.runtime.leasing import Credits, Lease, Leaser


class Source:
    """Gives its elements one by one; where it is away, everything fails once."""

    def __init__(self, *elements: str) -> None:
        self.waiting = [Element(id, b"{}", f"r-{id}") for id in elements]
        self.away = False
        self.given_back: list[tuple[str, bool]] = []

    def release(self, element: Element, *, alone: bool, counted: bool) -> None:
        assert not alone
        self.given_back.append((element.id, counted))

    def wait(self, seconds: float) -> None: ...

    def lease(self, limit: int) -> Sequence[Element]:
        if self.away:
            self.away = False
            raise ServiceUnavailable
        found, self.waiting = self.waiting[:1], self.waiting[1:]
        self.away = bool(found)
        return found


class Worker:
    """Has one child, and stops when it was given so many elements."""

    def __init__(self, wanted: int) -> None:
        self.credits = Credits()
        self.credits.set_ready(1)
        self.stopping = threading.Event()
        self.groups: list[list[str]] = []
        self._wanted = wanted

    def hold(self, leases: Iterable[Lease]) -> None: ...

    def submit(self, lease: Lease) -> None:
        self.groups.append([element.id for element in lease.elements])
        self.credits.release()
        if sum(map(len, self.groups)) >= self._wanted:
            self.stopping.set()


def leaser(source: Source, worker: Any, **more: Any) -> Leaser:
    plan = ConsumerPlan(
        key="save",
        source="orders",
        handler=HandlerPlan(function="app:save", element="order"),
        batch=BatchPlan(size=2, linger=more.pop("linger", 0), max_bytes=1000),
        retry=RetryPlan(attempts=1, backoff="fixed", initial=0, max=0, jitter=0),
        **more,
    )
    connections: Any = SimpleNamespace(source=lambda _: source, namespace="shop-test", state=None)
    return Leaser(plan, connections, worker)


def run(made: Leaser) -> None:
    made.start()
    made.join(10)
    made.worker.stopping.set()


def test_what_was_gathered_stays_when_the_source_goes_away_while_it_lingers() -> None:
    source, worker = Source("a", "b"), Worker(2)
    made = leaser(source, worker, linger=30)
    run(made)
    assert worker.groups == [["a", "b"]]
    assert made.held() == []


def test_elements_are_not_lost_with_the_permits_that_cannot_be_given_back() -> None:
    source, worker = Source("a"), Worker(1)
    made = leaser(source, worker, rate_limit=10.0)

    def fail(unused: int) -> None:
        assert unused == 1
        raise ServiceUnavailable

    made.limit = SimpleNamespace(take=lambda _: (2, 0.0), give_back=fail)  # type: ignore[assignment]
    run(made)
    assert worker.groups == [["a"]]


def test_what_was_gathered_is_given_back_when_the_worker_stops_while_the_source_is_away() -> None:
    worker = Worker(2)

    class Stopping(Source):
        def lease(self, limit: int) -> Sequence[Element]:
            if self.away:
                worker.stopping.set()
            return super().lease(limit)

    source = Stopping("a", "b")
    made = leaser(source, worker, linger=30)
    run(made)
    assert (worker.groups, made.held(), source.given_back) == ([], [], [("a", False)])
