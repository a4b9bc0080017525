"""One pool's worker: Celery's engine, fed by leases.

    Leaser threads (main process) --lease--> source
        group -> GroupRequest -> a pool child -> ConsumerRunner -> Report -> settle

A lease is a message to Celery: its acknowledge settles the lease, its reject gives it back. Credits are the
pool's children that are ready, so nothing is leased that nobody could take at once.

    python -m buildflow.runtime.worker PLAN --pool main [--notify FD]
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import queue
import signal
import socket
import threading
import time
import uuid
import warnings
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import celery.apps.worker
from celery import Celery, bootsteps, signals
from celery.app.trace import fast_trace_task
from celery.exceptions import SecurityWarning, TaskRevokedError
from celery.worker.request import Request
from celery.worker.state import task_reserved

from buildflow.ir.runtime import ConsumerPlan, PoolPlan, RuntimePlan
from buildflow.primitives.base import Element, Source
from buildflow.runtime.connections import Connections
from buildflow.runtime.delivery import (
    ConsumerRunner,
    Report,
    died_words,
    dump_group,
    give_back,
    groups_of,
    load_elements,
    settle,
)
from buildflow.runtime.dependencies import Container
from buildflow.runtime.process import Heartbeat, Notify, in_words, read_plan, set_up_logging

log = logging.getLogger("buildflow.worker")

TASK = "buildflow.group"
TARGET_SECONDS = 0.1
"""A group is sized to keep its child busy about this long, so that slow handlers spread over children."""
HARD_LIMIT_GRACE = 10.0
FIRST_RETRY, LONGEST_RETRY = 1.0, 60.0
"""Seconds between tries to build dependencies that fail."""


# the pool child


class _Child:
    """What a pool child keeps: its loop, its connections, its dependencies, a runner a consumer."""

    def __init__(self, plan: RuntimePlan, pool: PoolPlan, root: Path, inherited: dict[str, Any]) -> None:
        self.plan = plan
        self.pool = pool
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.connections = Connections(plan, root)
        self.container = Container(plan, self.connections, inherited=inherited)
        self.runners: dict[str, ConsumerRunner] = {}
        self.report = ""

    def build(self) -> None:
        self.loop.run_until_complete(self.container.open(self.pool.dependencies))
        for key in self.pool.consumers:
            if key not in self.runners:
                self.runners[key] = ConsumerRunner(self.plan.consumer(key), self.plan, self.connections, self.container)

    def run(self, consumer: str, elements: Sequence[Element], bury: str) -> str:
        report = self.loop.run_until_complete(self.runners[consumer].run(elements, bury=bury))
        return report.to_json()

    def close(self) -> None:
        self.loop.run_until_complete(self.container.close())
        self.connections.close()


_child: _Child | None = None


def run_group(consumer: str, elements: list[Any], bury: str) -> None:
    """The one task: a group of leased elements."""
    assert _child is not None
    _child.report = _child.run(consumer, load_elements(elements), bury)


def _traced(*args: Any, **kwargs: Any) -> tuple[int, Any, float]:
    """Celery's tracer gives the main process a shortened text of a result; a report has to arrive whole."""
    failed, returned, seconds = fast_trace_task(*args, **kwargs)
    return failed, (returned if failed or _child is None else _child.report), seconds


# the main process


def group_strategy(task: Any, app: Any, consumer: Any) -> Any:
    """Celery's strategy for the one task: like its default one, for leases instead of broker messages."""
    events = consumer.event_dispatcher and consumer.event_dispatcher.enabled

    def receive(message: "Lease", body: Any, ack: Any, reject: Any, callbacks: Any) -> None:  # noqa: ARG001
        request = GroupRequest(
            message,
            on_ack=ack,
            on_reject=reject,
            app=app,
            hostname=consumer.hostname,
            eventer=consumer.event_dispatcher,
            task=task,
            connection_errors=consumer.connection_errors,
            body=message.body,
            headers=message.headers,
            decoded=False,
            utc=True,
        )
        request.lease = message
        signals.task_received.send(sender=consumer, request=request)
        if events:
            request.send_event("task-received", uuid=request.id, name=request.name, args=request.argsrepr, kwargs="{}")
        task_reserved(request)
        for callback in callbacks or ():
            callback(request)
        consumer.on_task_request(request)

    return receive


class GroupRequest(Request):  # type: ignore[misc]
    """A group on its way through the pool."""

    lease: "Lease"

    def execute_using_pool(self, pool: Any, **_: Any) -> Any:
        if self.revoked():
            raise TaskRevokedError(self.id)
        hard, soft = self.time_limits
        return pool.apply_async(
            _traced,
            args=(self._type, self.id, self._request_dict, self._body, self._content_type, self._content_encoding),
            accept_callback=self.on_accepted,
            timeout_callback=self.on_timeout,
            callback=self.on_success,
            error_callback=self.on_failure,
            soft_timeout=soft,
            timeout=hard,
            correlation_id=self.id,
        )

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        self.lease.accepted = True
        super().on_accepted(pid, time_accepted)

    def on_success(self, failed__retval__runtime: Any, **kwargs: Any) -> Any:
        failed, returned, _ = failed__retval__runtime
        if not failed:
            self.lease.report = Report.from_json(returned)
        try:
            return super().on_success(failed__retval__runtime, **kwargs)
        finally:
            self.lease.end()  # during a shutdown celery's own acknowledge would wait for a loop that has ended

    def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> Any:
        self.lease.reason = str(exc_info.exception)
        try:
            return super().on_failure(exc_info, *args, **kwargs)
        finally:
            self.lease.end()  # celery leaves a terminated request unsettled

    def on_timeout(self, soft: bool, timeout: float) -> None:
        if not soft:
            self.lease.reason = f"stopped after the hard limit of {timeout:g} s"
        super().on_timeout(soft, timeout)
        if not soft:
            self.lease.end()


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

    def __init__(self, plan: ConsumerPlan, source: Source, worker: "Worker") -> None:
        super().__init__(name=f"lease-{plan.key}", daemon=True)
        self.plan = plan
        self.source = source
        self.worker = worker
        self.seconds_each = 0.0
        self.done = self.failed = self.dead = 0
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

    def _take(self) -> None:
        """One group, if a child is free and the source has one; else wait for either."""
        credits, stopping = self.worker.credits, self.worker.stopping
        if not credits.acquire(stopping):
            return
        try:
            self.gathered = list(self.source.lease(self._size()))
        except BaseException:
            credits.release()
            raise
        if self._worth_lingering():
            credits.release()  # the child is for others meanwhile
            self._linger()
            if not credits.acquire(stopping):
                for element in self.gathered:
                    self.source.release(element)
                self.gathered = []
                return
        if not self.gathered:
            credits.release()
            self.source.wait(1.0)
            return
        first, *others = [self._message(group, bury) for group, bury in groups_of(self.gathered, self.plan)]
        first.has_credit = True
        self.worker.hold([first, *others])
        self.gathered = []
        self.worker.submit(first)
        for lease in others:
            if not credits.acquire(stopping):
                lease.reason = "the worker was stopping"
                lease.end()
            elif self.worker.grant(lease):
                self.worker.submit(lease)
            else:
                credits.release()

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
            self.gathered = [*self.gathered, *self.source.lease(self.plan.batch.size - len(self.gathered))]

    def _size(self) -> int:
        """As many elements as keep a child busy for about TARGET_SECONDS; few until that is known."""
        if self.plan.batch.linger:
            return self.plan.batch.size
        wanted = int(TARGET_SECONDS / self.seconds_each) if self.seconds_each else 8
        return max(1, min(self.plan.batch.size, wanted))

    def _message(self, elements: list[Element], bury: bool) -> Lease:
        id = str(uuid.uuid4())
        hard = self.plan.timeout * len(elements) + HARD_LIMIT_GRACE if self.plan.timeout else None
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

    def settle(self, lease: Lease) -> None:
        """Tell the source what became of a group."""
        if lease.report is None:
            if len(lease.elements) == 1:
                self.deaths[lease.elements[0].id] = lease.reason
            log.warning(
                "%s: a group of %d ended without a report: %s", self.plan.key, len(lease.elements), lease.reason
            )
            give_back(self.source, lease.elements, self.plan.retry)
            return
        report = lease.report
        settle(self.source, lease.elements, report)
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


class Credits:
    """Free pool children: a lease is taken only against one."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ready = 0
        self._used = 0

    def acquire(self, stopping: threading.Event) -> bool:
        with self._changed:
            while self._used >= self._ready:
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

    @property
    def ready(self) -> int:
        return self._ready


class Worker:
    """One pool: a Celery worker, its leases, its children's readiness."""

    def __init__(self, plan: RuntimePlan, pool: PoolPlan, root: Path, notify: Notify) -> None:
        self.plan = plan
        self.pool = pool
        self.root = root
        self.notify = notify
        self.connections = Connections(plan, root)
        self.container = Container(plan, self.connections)
        self.loop = asyncio.new_event_loop()
        self.credits = Credits()
        self.stopping = threading.Event()
        self.leasers = [
            Leaser(plan.consumer(key), self.connections.source(plan.consumer(key).source), self)
            for key in pool.consumers
        ]
        self.in_flight: set[Lease] = set()
        self.children: dict[int, dict[str, Any]] = {}
        self._counting = threading.Lock()
        self.global_error = ""
        self._lock = threading.Lock()
        self._inbox: deque[Lease] = deque()
        self._settling: queue.SimpleQueue[Lease | None] = queue.SimpleQueue()
        self._consumer: Any = None
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._child_read, self._child_write = os.pipe()
        self.heartbeat = notify.heartbeat = Heartbeat("worker", self.connections, self.describe)

    # building and running

    def run(self) -> None:
        self.heartbeat.start()
        self.notify("building")
        inherited = self._build_global()
        app = self._celery(inherited)
        threading.Thread(target=self._listen_to_children, name="children", daemon=True).start()
        threading.Thread(target=self._settle_loop, name="settle", daemon=True).start()
        threading.Thread(target=self._renew_loop, name="renew", daemon=True).start()
        worker = app.Worker(
            hostname=f"{self.pool.name}@{socket.gethostname()}-{os.getpid()}",
            pool_cls="prefork",
            concurrency=self.pool.replicas,
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            optimization="fair",
            loglevel="WARNING",
            quiet=True,
        )
        try:
            worker.start()
        finally:
            self._close()

    def _build_global(self) -> dict[str, Any]:
        """Dependencies of scope `global`, before the pool forks; tried until they can be built."""
        needed = [k for k in self.pool.dependencies if self.container.plans[k].scope == "global"]
        delay = FIRST_RETRY
        while needed:
            try:
                self.loop.run_until_complete(self.container.open(needed, ("global",)))
                break
            except Exception as exc:
                self.global_error = in_words(exc)
                self.notify("failed", self.global_error)
                log.error("pool %s takes no work: %s; trying again in %g s", self.pool.name, self.global_error, delay)
                time.sleep(delay)
                delay = min(delay * 2, LONGEST_RETRY)
        self.global_error = ""
        return dict(self.container.values)

    def _celery(self, inherited: dict[str, Any]) -> Celery:
        app = Celery("buildflow", broker=self._broker())
        app.conf.update(
            accept_content=["json"],
            task_serializer="json",
            result_serializer="json",
            task_default_queue=f"{self.connections.namespace}.{self.pool.name}",
            task_acks_late=True,
            task_acks_on_failure_or_timeout=False,
            task_reject_on_worker_lost=True,
            task_ignore_result=True,
            task_create_missing_queues=True,
            worker_prefetch_multiplier=1,
            worker_proc_alive_timeout=10**8,  # a slow model is waited for
            worker_hijack_root_logger=False,
            worker_redirect_stdouts=False,
            worker_disable_rate_limits=True,
            broker_connection_retry_on_startup=True,
            broker_connection_max_retries=None,
            broker_transport_options={"global_keyprefix": f"{self.connections.namespace}:celery:"},
        )
        app.task(name=TASK, Strategy=f"{__name__}:group_strategy")(run_group)
        app.steps["consumer"].add(_step(self))
        plan, pool, root, report = self.plan, self.pool, self.root, self._child_write

        def start_child(**_: Any) -> None:
            _build_child(plan, pool, root, inherited, report)

        def stop_child(**_: Any) -> None:
            if _child is not None:
                _child.close()

        signals.setup_logging.connect(lambda **_: None, weak=False)
        signals.worker_process_init.connect(start_child, weak=False)
        signals.worker_process_shutdown.connect(stop_child, weak=False)
        signals.worker_shutting_down.connect(lambda **_: self.shut_down(), weak=False)
        return app

    def _broker(self) -> str:
        url = self.connections.resolve(self.plan.broker_url)
        return str(url) if url else str(self.connections.session("local").kombu_url())

    # leases

    def attach(self, consumer: Any) -> None:
        """Celery's consumer is up (again): feed it."""
        self._consumer = consumer
        self._receive = consumer.create_task_handler()
        consumer.hub.add_reader(self._wake_read, self._drain)
        for leaser in self.leasers:
            if not leaser.is_alive():
                leaser.start()

    def detach(self) -> None:
        """Celery lost its broker, or stops: groups that no child has begun are given back at once."""
        self._consumer = None
        with self._lock:
            waiting = [lease for lease in self.in_flight if not lease.accepted]
        for lease in waiting:
            lease.reason = lease.reason or "the worker was stopping"
            lease.end()

    def hold(self, leases: Iterable[Lease]) -> None:
        """Renew these leases from now on, also those that still wait for a child."""
        with self._lock:
            self.in_flight.update(leases)

    def grant(self, lease: Lease) -> bool:
        """Give a lease its credit, unless it was ended while it waited for one."""
        with self._lock:
            lease.has_credit = not lease.ended
            return lease.has_credit

    def mark_ended(self, lease: Lease) -> bool:
        """Whether this is the first end of the lease."""
        with self._lock:
            first = not lease.ended
            lease.ended = True
            return first

    def submit(self, lease: Lease) -> None:
        self._inbox.append(lease)
        self._wake()

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b"x")
        except BlockingIOError:
            return  # the pipe is full: the loop is awake already

    def _drain(self, *_: Any) -> None:
        """In Celery's loop: hand over what the leasers took."""
        try:
            os.read(self._wake_read, 4096)
        except BlockingIOError:
            return
        while self._inbox and self._consumer is not None:
            lease = self._inbox.popleft()
            if not lease.ended:
                self._receive(lease)

    def ended(self, lease: Lease) -> None:
        if lease.has_credit:
            self.credits.release()
        self._settling.put(lease)

    def _settle_loop(self) -> None:
        while (lease := self._settling.get()) is not None:
            delay = 0.2
            while True:
                try:
                    lease.leaser.settle(lease)
                    break
                except Exception as exc:
                    log.warning("%s: cannot settle a group: %s", lease.leaser.plan.key, in_words(exc))
                    time.sleep(delay)
                    delay = min(delay * 2, 5.0)
            with self._lock:
                self.in_flight.discard(lease)

    def _renew_loop(self) -> None:
        shortest = min((leaser.source.lease_seconds for leaser in self.leasers), default=30.0)
        while not self.stopping.wait(shortest / 3) or self.in_flight:
            if self.stopping.is_set():
                time.sleep(shortest / 3)
            for leaser in self.leasers:
                with self._lock:
                    held = [e for lease in self.in_flight if lease.leaser is leaser for e in lease.elements]
                mine = [*held, *leaser.gathered]
                try:
                    if mine:
                        leaser.source.renew(mine)
                except Exception as exc:
                    log.warning("%s: cannot renew its leases: %s", leaser.plan.key, in_words(exc))

    # children

    def _listen_to_children(self) -> None:
        """Children say on a pipe when they are ready, or why they are not."""
        with os.fdopen(self._child_read, "rb") as lines:
            for line in lines:
                said = json.loads(line)
                if said["state"] == "failed":
                    self.notify("failed", said["error"])
                self.count_children(said)
                self.heartbeat.soon()

    def count_children(self, said: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """The children that live, `said` by one of them noted; as many credits as are ready."""
        with self._counting:
            if said is not None:
                self.children[said["pid"]] = said
            self.children = {pid: child for pid, child in self.children.items() if _alive(pid)}
            ready = sum(1 for child in self.children.values() if child["state"] == "ready")
            if ready and not self.credits.ready:
                self.notify("ready")
            self.credits.set_ready(ready)
            return list(self.children.values())

    def describe(self) -> dict[str, Any]:
        children = self.count_children()
        states = [child["state"] for child in children]
        errors = [c["error"] for c in children if c["error"] and c["state"] == "failed"]
        error = self.global_error or next(iter(errors), "")
        return {
            "pool": self.pool.name,
            "state": "stopping"
            if self.stopping.is_set()
            else "ready"
            if "ready" in states
            else "failed"
            if error
            else "building",
            "error": error,
            "children": children,
            "consumers": {
                x.plan.key: {"done": x.done, "failed": x.failed, "dead": x.dead, "last_error": x.last_error}
                for x in self.leasers
            },
        }

    # the end

    def shut_down(self) -> None:
        """Celery begins its shutdown: lease nothing more; children that still build have no work to finish."""
        self.stopping.set()
        threading.Thread(target=self._end_builders, name="end-builders", daemon=True).start()

    def _end_builders(self) -> None:
        while True:
            for child in self.count_children():
                if child["state"] != "ready":
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(child["pid"], signal.SIGKILL)
            time.sleep(0.1)

    def _close(self) -> None:
        self.detach()
        self._settling.put(None)
        deadline = time.monotonic() + 5
        while self.in_flight and time.monotonic() < deadline:
            time.sleep(0.02)
        self.heartbeat.stop()
        self.loop.run_until_complete(self.container.close())
        self.loop.close()
        self.connections.close()


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _build_child(plan: RuntimePlan, pool: PoolPlan, root: Path, inherited: dict[str, Any], report: int) -> None:
    """In a new pool child, before Celery counts it as up: build what its consumers need, however long it takes.

    It never raises: Celery would log that and give the child work all the same."""
    global _child

    def say(state: str, error: str = "") -> None:
        line = {"pid": os.getpid(), "state": state, "error": error[:500]}
        os.write(report, json.dumps(line).encode() + b"\n")

    delay = FIRST_RETRY
    say("building")
    while True:
        try:
            if _child is None:
                _child = _Child(plan, pool, root, inherited)
            _child.build()
            break
        except Exception as exc:
            say("failed", in_words(exc))
            log.error("pool %s takes no work: %s; trying again in %g s", pool.name, in_words(exc), delay)
            time.sleep(delay)
            delay = min(delay * 2, LONGEST_RETRY)
    say("ready")


def _step(worker: Worker) -> type:
    class LeaseStep(bootsteps.StartStopStep):  # type: ignore[misc]
        """Feeds Celery's consumer from the sources, as long as it is up."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, consumer: Any) -> None:
            worker.attach(consumer)

        def stop(self, consumer: Any) -> None:  # noqa: ARG002 - Celery's signature
            worker.detach()

    return LeaseStep


def main() -> None:
    parser = argparse.ArgumentParser(prog="buildflow.runtime.worker")
    parser.add_argument("plan", type=Path)
    parser.add_argument("--pool", default="main")
    parser.add_argument("--notify", type=int, default=None)
    arguments = parser.parse_args()
    # root is fine in a container: only JSON crosses, nothing is unpickled
    warnings.filterwarnings("ignore", category=SecurityWarning)
    celery.apps.worker.safe_say = lambda *_, **__: None  # it announces its shutdown past all logging
    plan = read_plan(arguments.plan)
    pool = next((p for p in plan.pools if p.name == arguments.pool), None)
    if pool is None:
        parser.error(f'the plan has no pool "{arguments.pool}"')
    name = "worker" if len(plan.pools) == 1 else f"worker {pool.name}"
    set_up_logging(name, plan.options.log_level)
    Worker(plan, pool, Path.cwd(), Notify(arguments.notify)).run()


if __name__ == "__main__":
    # under its own name, so that Celery and its children know one module, not two
    from buildflow.runtime.worker import main as run

    run()
