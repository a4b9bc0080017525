"""One pool's worker: Celery's engine, fed by leases.

    leasing.py (main process) --lease--> source
        Lease -> GroupRequest -> a pool child -> ConsumerRunner -> Report -> settle

A lease is a message to Celery: its acknowledge settles the lease, its reject gives it back.

    python -m buildflow.runtime.worker PLAN --pool main [--notify FD]
"""

import argparse
import asyncio
import contextlib
import encodings.idna  # noqa: F401 - like redis below; a connection's host name asks for it
import json
import logging
import os
import queue
import signal
import socket
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import celery.apps.worker
import celery.worker.state
import redis  # noqa: F401 - before there are threads: a child forked while one imports it would wait for it for ever
from celery import Celery, bootsteps, signals
from celery.app.trace import fast_trace_task
from celery.exceptions import CPendingDeprecationWarning, SecurityWarning, TaskRevokedError
from celery.worker.request import Request
from celery.worker.state import task_reserved

from buildflow.ir.runtime import ConsumerPlan, PoolPlan, RuntimePlan
from buildflow.primitives.base import Element
from buildflow.runtime.autoscale import Autoscaler, Sample
from buildflow.runtime.calls import Watchdog
from buildflow.runtime.celery_app import celery_app
from buildflow.runtime.connections import Connections
from buildflow.runtime.delivery import ConsumerRunner, Report, load_elements
from buildflow.runtime.dependencies import Container
from buildflow.runtime.leasing import TASK, Credits, Lease, Leaser
from buildflow.runtime.ordering import OrderedLeaser
from buildflow.runtime.process import Heartbeat, Notify, in_words, read_plan, set_up_logging

log = logging.getLogger("buildflow.worker")

FIRST_RETRY, LONGEST_RETRY = 1.0, 60.0
"""Seconds between tries to build dependencies that fail."""
LONGEST_DRAIN = 5.0
"""Seconds that groups may take to end before Celery is told to stop."""


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
        for runner in self.runners.values():
            runner.sinks.prepare()
        Watchdog([runner.call for runner in self.runners.values()]).start()

    def run(self, consumer: str, elements: Sequence[Element], bury: str) -> str:
        report = self.loop.run_until_complete(self.runners[consumer].run(elements, bury=bury))
        return report.to_json()

    def close(self) -> None:
        for runner in self.runners.values():
            runner.close()
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

    def receive(message: Any, body: Any, ack: Any, reject: Any, callbacks: Any) -> None:  # noqa: ARG001
        if not isinstance(message, Lease):
            log.error("refused a message to %s in Celery's queue: groups are leased from sources only", task.name)
            message.reject_log_error(log, consumer.connection_errors)
            return
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
        request.send_event("task-received", name=request.name, args=request.argsrepr, kwargs="{}")
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
        self.lease.accepted = True  # a process that dies at once may not have said that it began
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
        self.leasers = [self._leaser(plan.consumer(key)) for key in pool.consumers]
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
        self.replicas = pool.replicas
        self._celery_pool: Any = None
        self.scaling: dict[str, Any] = {}
        self._drain_until = 0.0
        self.heartbeat = notify.heartbeat = Heartbeat("worker", self.connections, self.describe)

    def _leaser(self, consumer: ConsumerPlan) -> Leaser:
        kind = OrderedLeaser if consumer.ordering else Leaser
        return kind(consumer, self.connections, self)

    # building and running

    def run(self) -> None:
        self.heartbeat.start()
        self.notify("building")
        inherited = self._build_global()
        app = self._celery(inherited)
        threading.Thread(target=self._listen_to_children, name="children", daemon=True).start()
        threading.Thread(target=self._settle_loop, name="settle", daemon=True).start()
        threading.Thread(target=self._renew_loop, name="renew", daemon=True).start()
        threading.Thread(target=self._scale_loop, name="scale", daemon=True).start()
        worker = app.Worker(
            hostname=f"{self.pool.name}@{socket.gethostname()}-{os.getpid()}",
            pool_cls="prefork",
            concurrency=self.pool.replicas,
            without_gossip=True,
            without_mingle=True,
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
        app = celery_app(self.connections)
        app.conf.update(
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

    # leases

    def attach(self, consumer: Any) -> None:
        """Celery's consumer is up (again): feed it."""
        # Celery shows them whatever is set before: what becomes of its messages when the broker is lost
        warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
        signal.signal(signal.SIGTERM, lambda *_: self._begin_to_stop())
        with self._counting:
            self._consumer = consumer
            if self.credits.ready:
                self.notify("ready")
        self._limit_credits()
        self._celery_pool = consumer.pool
        self._receive = consumer.create_task_handler()
        consumer.hub.add_reader(self._wake_read, self._drain)
        for leaser in self.leasers:
            if not leaser.is_alive():
                leaser.start()

    def detach(self) -> None:
        """Celery lost its broker, or stops: lease nothing, and give back at once the groups that no child has begun."""
        self._consumer = None
        self._limit_credits()
        with self._lock:
            waiting = [lease for lease in self.in_flight if not lease.accepted]
        for lease in waiting:
            lease.reason = lease.reason or "the worker was stopping"
            lease.end()
        if self.stopping.is_set():
            _stop_celery()

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
        if self._consumer is None or self.stopping.is_set():
            lease.reason = "the worker was stopping, or had lost its broker"
            lease.end()
            return
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
        self._resize()
        if self.stopping.is_set():
            self._stop_when_drained()

    def ended(self, lease: Lease) -> None:
        if lease.report is not None and lease.report.spent:
            with contextlib.suppress(ProcessLookupError):
                os.kill(lease.report.spent, signal.SIGKILL)  # the pool starts another in its place
        if lease.has_credit:
            self.credits.release()
        self._settling.put(lease)

    def _settle_loop(self) -> None:
        """Settle what has ended: all that did while the source was told of those before, in one go."""
        ending = False
        while not ending:
            ended = [self._settling.get()]
            with contextlib.suppress(queue.Empty):
                while True:
                    ended.append(self._settling.get_nowait())
            ending = None in ended
            by_leaser: dict[Leaser, list[Lease]] = {}
            for lease in ended:
                if lease is not None:
                    by_leaser.setdefault(lease.leaser, []).append(lease)
            for leaser, leases in by_leaser.items():
                self._settle(leaser, leases)

    def _settle(self, leaser: Leaser, leases: list[Lease]) -> None:
        delay = 0.2
        while True:
            try:
                leaser.settle(leases)
                break
            except Exception as exc:
                log.warning("%s: cannot settle a group: %s", leaser.plan.key, in_words(exc))
                time.sleep(delay)
                delay = min(delay * 2, 5.0)
        with self._lock:
            self.in_flight.difference_update(leases)

    def _renew_loop(self) -> None:
        shortest = min((leaser.source.lease_seconds for leaser in self.leasers), default=30.0)
        while not self.stopping.wait(shortest / 3) or self.in_flight:
            if self.stopping.is_set():
                time.sleep(shortest / 3)
            for leaser in self.leasers:
                with self._lock:
                    held = [e for lease in self.in_flight if lease.leaser is leaser for e in lease.elements]
                try:
                    leaser.source.renew([*held, *leaser.held()])  # none, too: some sources hold others yet
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
            if ready and not self.credits.ready and self._consumer is not None:
                self.notify("ready")
            self.credits.set_ready(ready)
            return list(self.children.values())

    def describe(self) -> dict[str, Any]:
        children = self.count_children()
        states = [child["state"] for child in children]
        errors = [c["error"] for c in children if c["error"] and c["state"] == "failed"]
        error = self.global_error or next(iter(errors), "")
        if "ready" in states and self._consumer is None:
            states, error = [], "Celery waits for its broker"
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
            "scaling": self.scaling,
            "consumers": {
                x.plan.key: {
                    "done": x.done,
                    "failed": x.failed,
                    "dead": x.dead,
                    "rate": round(x.rate, 1),
                    "last_error": x.last_error,
                }
                for x in self.leasers
            },
        }

    # how many children

    def _scale_loop(self) -> None:
        """Measure, and with `replicas: {min, max}` decide how many children there are to be."""
        most = self.pool.max_replicas or self.pool.replicas
        scaler = Autoscaler(self.pool.replicas, most, self.pool.target_backlog or 1000)
        busy = 0.0
        while not self.stopping.wait(1.0):
            now = time.monotonic()
            for leaser in self.leasers:
                leaser.measure(now)
            ready = self.credits.ready
            busy = 0.8 * busy + 0.2 * (min(1.0, self.credits.used / ready) if ready else 0.0)
            if most == self.pool.replicas:
                continue
            try:
                backlog = sum(leaser.source.counts().backlog for leaser in self.leasers)
            except Exception as exc:
                log.warning("pool %s: its backlog cannot be read: %s", self.pool.name, in_words(exc))
                continue
            sample = Sample(self.replicas, backlog, busy, sum(leaser.rate for leaser in self.leasers))
            self._set_replicas(scaler.decide(sample, now))
            self.scaling = {
                "replicas": self.replicas,
                "wanted": scaler.wanted(sample),
                "backlog": backlog,
                "rate": sample.rate,
            }

    def _set_replicas(self, wanted: int) -> None:
        if wanted != self.replicas:
            log.info("pool %s: %d processes instead of %d", self.pool.name, wanted, self.replicas)
            self.replicas = wanted
            self._limit_credits()
        self._wake()

    def _limit_credits(self) -> None:
        self.credits.set_limit(0 if self._consumer is None else self.replicas)

    def _resize(self) -> None:
        """In Celery's loop: bring the pool to `replicas` processes. One that leaves must have nothing to do, and none
        may be on its way to it: that waits until every group has told which child has it."""
        if self._celery_pool is None or self._consumer is None:
            return
        surplus = self._celery_pool.num_processes - self.replicas
        if surplus < 0:
            self._celery_pool.grow(-surplus)
        with self._lock:
            told = all(lease.accepted for lease in self.in_flight if not lease.ended)
        if surplus > 0 and told and not self._inbox:
            with contextlib.suppress(ValueError):  # all are busy
                self._celery_pool.shrink(surplus)

    # the end

    def shut_down(self) -> None:
        """Celery begins its shutdown: lease nothing more; children that still build have no work to finish."""
        self.stopping.set()
        threading.Thread(target=self._end_builders, name="end-builders", daemon=True).start()

    def _begin_to_stop(self) -> None:
        """On SIGTERM. Celery is told when the groups have ended: it forgets those that a child has got and has not yet
        told of. A second SIGTERM does not wait."""
        if self._consumer is None or self.stopping.is_set():
            _stop_celery()
        self._drain_until = time.monotonic() + LONGEST_DRAIN
        self.shut_down()
        self._wake()

    def _stop_when_drained(self) -> None:
        """In Celery's loop."""
        with self._lock:
            busy = any(not lease.ended for lease in self.in_flight)
        if busy and time.monotonic() < self._drain_until and self._consumer is not None:
            self._consumer.hub.call_later(0.02, self._wake)
        else:
            _stop_celery()

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
        for leaser in self.leasers:
            leaser.close()
        self.heartbeat.stop()
        self.loop.run_until_complete(self.container.close())
        self.loop.close()
        self.connections.close()


def _stop_celery() -> None:
    """What Celery's own handler of SIGTERM does."""
    celery.worker.state.should_stop = 0


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
            signal.signal(signal.SIGTERM, lambda *_: _leave())
            break
        except Exception as exc:
            say("failed", in_words(exc))
            log.error("pool %s takes no work: %s; trying again in %g s", pool.name, in_words(exc), delay)
            time.sleep(delay)
            delay = min(delay * 2, LONGEST_RETRY)
    say("ready")


def _leave() -> None:
    """The pool shrinks, and this child, which has nothing to do, is the one that goes."""
    if _child is not None and not _child.loop.is_running():
        _child.close()
    os._exit(0)


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
