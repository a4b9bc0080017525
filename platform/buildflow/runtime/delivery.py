"""The delivery contract of one consumer, without an engine: what a pool child does with a group, and how its
report settles the leases.

    lease -> Group -> ConsumerRunner.run (child) -> Report -> settle (main process)

The source is acknowledged after the sink has committed, never before.
"""

import asyncio
import base64
import contextlib
import errno
import json
import os
import random
import re
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, get_args, get_origin

from pydantic import ValidationError

from buildflow.errors import BuildflowError, ServiceUnavailable
from buildflow.ir.runtime import ConsumerPlan, RetryPlan, RuntimePlan
from buildflow.primitives.base import Element, Entry, Source
from buildflow.providers.secret_mask import masked
from buildflow.runtime.calls import Caller
from buildflow.runtime.connections import Connections
from buildflow.runtime.dead_letters import encodable, letter_of, open_dead_letters
from buildflow.runtime.dependencies import Container
from buildflow.runtime.functions import hints_of, load, load_handler
from buildflow.runtime.idempotency import Handled
from buildflow.runtime.sinks import Sinks
from buildflow.types import DeadLetter, Message
from buildflow.validation import in_words, json_reader

COMMIT_EVERY = 0.2
"""Seconds after which a group's rows so far are committed, though more elements are to come."""


@dataclass
class Report:
    """What became of a group, by position: `done` may be acknowledged, `retry` comes again after a delay.

    The latter count as attempts, unless something was out of reach that the element cannot help (`uncounted`).
    `error` is the last failure in one line; `reasons` are the errors of elements that were given up and stay at
    the source, because their dead letters could not be written. `spent` is the process that is to be replaced: a
    thread of it goes on with a handler that was given up.
    """

    done: list[int] = field(default_factory=list)
    retry: list[tuple[int, float]] = field(default_factory=list)
    uncounted: list[int] = field(default_factory=list)
    failed: int = 0
    dead: int = 0
    error: str = ""
    reasons: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0
    spent: int = 0

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Report":
        values = json.loads(text)
        retry = [(i, delay) for i, delay in values["retry"]]
        reasons = {int(i): words for i, words in values["reasons"].items()}  # JSON's keys are text
        return cls(**{**values, "retry": retry, "reasons": reasons})


_FAILURES = (Exception, asyncio.CancelledError)
"""What a handler fails with; nobody else cancels its task."""


class Undecodable(BuildflowError):
    """The element is not what its handler takes."""


class ProcessDied(BuildflowError):
    """The process that handled the element died of it."""


@dataclass(frozen=True, slots=True)
class _Failure:
    error: str  # in full, of many lines perhaps
    traceback: str
    dead: bool
    delay: float
    counted: bool = True


class ConsumerRunner:
    """One consumer in one process: decodes, calls the handler, commits. Everything that can be known before the
    first element is looked up here, once."""

    def __init__(
        self, plan: ConsumerPlan, runtime: RuntimePlan, connections: Connections, container: Container
    ) -> None:
        self.plan = plan
        self.connections = connections
        self.container = container
        self.function = load_handler(plan.handler, runtime, source=plan.source)
        self.constants = container.constants(plan.handler.inject)
        self.short = container.short(plan.handler.inject)
        self.decode, self.batched = _decoder(plan, connections, self.function)
        self.call = Caller(self.function, plan.timeout, threads=0 if self.batched else plan.concurrency)
        self.sinks = Sinks(plan, connections)
        self.handled = Handled(plan.key, plan.idempotency_key, connections) if plan.idempotency_key else None
        self.retry_only = tuple(load(name) for name in plan.retry.only)
        self.retry_never = tuple(load(name) for name in plan.retry.never)

    async def run(self, elements: Sequence[Element], *, bury: str = "") -> Report:
        """Handle a group. `bury` gives every element up with that reason, without calling the handler."""
        started = time.perf_counter()
        report = Report()
        work = _Work(self, elements, report)
        if bury:
            for index in range(len(elements)):
                work.give_up(index, bury)
        else:
            await self._handle(work, self._decoded(work))
        work.commit()
        work.write_dead_letters()
        report.seconds = time.perf_counter() - started
        report.spent = os.getpid() if self.call.spent else 0
        return report

    def close(self) -> None:
        self.call.close()

    def _decoded(self, work: "_Work") -> dict[int, Any]:
        """The elements' values by position; what cannot be decoded is given up."""
        values = {}
        for index, element in enumerate(work.elements):
            try:
                value = self._decode(element)
                if self.handled is not None:
                    work.name(index, self.handled.key(value))
            except Exception as exc:
                work.fail(index, exc)
            else:
                values[index] = value
        return values

    async def _handle(self, work: "_Work", values: dict[int, Any]) -> None:
        """Handle what was not handled before; of those that repeat one another the first, then what is left."""
        later: dict[int, Any] = {}
        if self.handled is not None and values:
            values, later = self._new(work, values)
        if self.batched:
            await self._run_batch(work, values)
        elif self.plan.concurrency > 1:
            await self._run_at_once(work, values)
        else:
            while values:
                await self._call_next(work, values)
        if self.handled is not None:
            work.commit()
            self.handled.note(work.keys_done())
            if later:
                await self._handle(work, later)

    def _new(self, work: "_Work", values: dict[int, Any]) -> tuple[dict[int, Any], dict[int, Any]]:
        """The values whose keys are new, and those behind them that repeat one. Those that were handled before are
        done."""
        assert self.handled is not None
        before = self.handled.known(key for index in values if (key := work.keys.get(index)))
        new: dict[int, Any] = {}
        later: dict[int, Any] = {}
        asked: set[str] = set()
        for index, value in values.items():
            key = work.keys.get(index)
            if key in before:
                work.report.done.append(index)
            elif key in asked:
                later[index] = value
            else:
                new[index] = value
                if key:
                    asked.add(key)
        return new, later

    async def _run_at_once(self, work: "_Work", values: dict[int, Any]) -> None:
        """Up to `concurrency` elements at a time."""

        async def take() -> None:
            while values:
                await self._call_next(work, values)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(self.plan.concurrency, len(values))):
                tasks.create_task(take())

    async def _run_batch(self, work: "_Work", values: dict[int, Any]) -> None:
        """All elements in one call and one commit; when either fails, each alone, so that only the culprit goes on
        failing."""
        if not values:
            return
        try:
            work.commit_batch(list(values), await self._call(list(values.values())))
        except _FAILURES as exc:
            if len(values) == 1:
                work.fail(next(iter(values)), exc)
                return
            for index, value in values.items():
                await self._call_alone(work, index, [value])

    async def _call_next(self, work: "_Work", values: dict[int, Any]) -> None:
        """The first of these, which goes with its call: an event may have a file."""
        index = next(iter(values))
        await self._call_alone(work, index, values.pop(index))
        work.commit_if_due()

    async def _call_alone(self, work: "_Work", index: int, value: Any) -> None:
        try:
            rows = await self._call(value)
        except _FAILURES as exc:
            work.fail(index, exc)
        else:
            work.pending.append((Entry(work.id(index), rows), index))

    def _decode(self, element: Element) -> Any:
        try:
            return self.decode(element)
        except ValidationError as exc:  # its traceback says nothing more
            raise Undecodable(f"the element cannot be decoded: {in_words(exc)}") from None
        except (ValueError, TypeError, KeyError, RecursionError) as exc:
            raise Undecodable(f"the element cannot be decoded: {exc}") from exc

    async def _call(self, value: Any) -> list[Any]:
        """The handler's rows, checked against the sink. Request-scoped dependencies live as long as the call."""
        arguments = {**self.constants}
        if self.plan.handler.element:
            arguments[self.plan.handler.element] = value
        async with contextlib.AsyncExitStack() as stack:
            local: dict[str, Any] = {}
            for injection in self.short:
                arguments[injection.parameter] = await self.container.value(injection, stack, local)
            rows = await self.call(arguments)
        if self.sinks.choices:  # nothing is to reach one of them when another will refuse
            for row in rows:
                self.sinks.check(row)
        return rows

    def failure(self, exc: BaseException, element: Element) -> _Failure:
        # starred here, where the process knows its secrets: the main process, the store and `status` do not
        words = masked("".join(traceback.format_exception(exc)))
        error = masked(f"{type(exc).__name__}: {in_words(exc)}") if str(exc) else type(exc).__name__
        if isinstance(exc, ServiceUnavailable) or _disk_is_full(exc):
            return _Failure(error, words, dead=False, delay=backoff(AWAITING, element.attempt), counted=False)
        last = element.attempt >= self.plan.retry.attempts
        hopeless = isinstance(exc, (Undecodable, *self.retry_never)) or (
            bool(self.retry_only) and not isinstance(exc, self.retry_only)
        )
        return _Failure(error, words, last or hopeless, backoff(self.plan.retry, element.attempt))


def _disk_is_full(exc: BaseException | None) -> bool:
    """Whether this, or what it came of, says that there is no room on a disk."""
    while exc is not None:
        if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        exc = exc.__cause__ or exc.__context__
    return False


def in_one_line(text: str, limit: int = 500) -> str:
    """For lists; the whole text is in the traceback."""
    words = " ".join(text.split())
    return words if len(words) <= limit else f"{words[: limit - 1]}…"


def first_line(text: str) -> str:
    """For logs."""
    return in_one_line(encodable(text).strip().split("\n", 1)[0])


def short(id: str) -> str:
    """An element's id in a line: of the hexadecimal ones the first digits tell enough."""
    return id[:8] if re.fullmatch(r"[0-9a-f]{32}", id) else first_line(id)


def backoff(retry: RetryPlan, attempt: int) -> float:
    """Seconds before the attempt after `attempt`: doubled each time up to `max`, or always `initial`; with jitter."""
    doublings = min(attempt - 1, 40) if retry.backoff == "exponential" else 0
    delay = min(retry.max, retry.initial * 2.0**doublings)
    return delay * (1 + retry.jitter * (2 * random.random() - 1))


AWAITING = RetryPlan(attempts=1, backoff="fixed", initial=2.0, max=2.0, jitter=0.5)
"""How an element waits for a service that is out of reach."""


@dataclass
class _Work:
    """A group in progress: rows not yet committed, elements given up, the report so far."""

    runner: ConsumerRunner
    elements: Sequence[Element]
    report: Report
    pending: list[tuple[Entry, int]] = field(default_factory=list)
    dead: list[tuple[int, DeadLetter]] = field(default_factory=list)
    keys: dict[int, str] = field(default_factory=dict)
    """Idempotency keys by position, of those that have one."""
    committed_at: float = field(default_factory=time.monotonic)

    def name(self, index: int, key: str | None) -> None:
        if key:
            self.keys[index] = key

    def id(self, index: int) -> str:
        """By what a sink knows the element: its idempotency key, or its own id."""
        return f"key:{self.keys[index]}" if index in self.keys else self.elements[index].id

    def keys_done(self) -> list[str]:
        return [self.keys[index] for index in self.report.done if index in self.keys]

    def fail(self, index: int, exc: BaseException) -> None:
        element = self.elements[index]
        failure = self.runner.failure(exc, element)
        if failure.dead:
            self.give_up(index, failure.error, failure.traceback)
            return
        self.report.failed += 1
        self.report.retry.append((index, failure.delay))
        if not failure.counted:
            self.report.uncounted.append(index)
        attempt = f"attempt {element.attempt} of {self.runner.plan.retry.attempts}"
        self._tell(index, f"{attempt}, again in {failure.delay:.1f} s", failure.error)

    def give_up(self, index: int, error: str, traceback: str = "") -> None:
        element = self.elements[index]
        self.report.failed += 1
        self.dead.append((index, letter_of(self.runner.plan, element, in_one_line(error), traceback)))
        self._tell(index, f"given up after attempt {element.attempt}", error)

    def _tell(self, index: int, fate: str, error: str) -> None:
        self.report.error = f"{short(self.elements[index].id)} {fate}: {first_line(masked(error))}"

    def commit_if_due(self) -> None:
        if self.pending and time.monotonic() - self.committed_at >= COMMIT_EVERY:
            self.commit()

    def commit(self) -> None:
        """Commit what is pending; when that fails, each element alone."""
        pending, self.pending = self.pending, []
        self.committed_at = time.monotonic()
        if not pending:
            return
        try:
            self._store(pending)
        except Exception as exc:
            if len(pending) == 1:
                self.fail(pending[0][1], exc)
                return
            for one in pending:
                self.pending = [one]
                self.commit()

    def commit_batch(self, indexes: list[int], rows: list[Any]) -> None:
        """A batch's rows go with its first element's id; the others' ids are recorded beside it. Which rows are
        whose nobody knows, so a sink that has seen one of the elements is to refuse them all."""
        first = indexes[0]
        entries = [(Entry(self.id(i), rows if i == first else ()), i) for i in indexes]
        self._store(entries, fresh=len(indexes) > 1)

    def _store(self, entries: list[tuple[Entry, int]], *, fresh: bool = False) -> None:
        if self.runner.sinks:
            self.runner.sinks.commit([entry for entry, _ in entries], fresh=fresh)
        self.report.done += [index for _, index in entries]

    def write_dead_letters(self) -> None:
        """All letters at once; when that fails, each alone, unless the store cannot be reached at all."""
        dead, self.dead = self.dead, []
        if not dead:
            return
        try:
            store = open_dead_letters(self.runner.plan, self.runner.connections)
            store.put([letter for _, letter in dead])
        except Exception as exc:
            if len(dead) == 1 or isinstance(exc, ServiceUnavailable):
                for index, letter in dead:
                    self._keep(index, letter, exc)
                return
            for one in dead:
                self.dead = [one]
                self.write_dead_letters()
        else:
            self.report.dead += len(dead)
            self.report.done += [i for i, _ in dead]

    def _keep(self, index: int, letter: DeadLetter, exc: Exception) -> None:
        """A dead letter that cannot be written keeps its element at the source, and its error in the report."""
        element = self.elements[index]
        self.report.retry.append((index, backoff(AWAITING, element.attempt)))
        self.report.reasons[index] = letter.error
        fate = f"kept after attempt {element.attempt}, again in {self.report.retry[-1][1]:.1f} s"
        self._tell(index, fate, f"the dead-letter store fails: {type(exc).__name__}: {exc}")


def _decoder(plan: ConsumerPlan, connections: Connections, function: Any) -> tuple[Callable[[Element], Any], bool]:
    """How this handler's element is read from its bytes, and whether it takes a batch."""
    annotation = hints_of(function).get(plan.handler.element or "", Any)
    batched = get_origin(annotation) is list
    if batched:
        annotation = get_args(annotation)[0]
    enveloped = annotation is Message or get_origin(annotation) is Message
    if enveloped:
        annotation = (get_args(annotation) or (Any,))[0]
    of_source = connections.decoder(plan.source)
    body = of_source if of_source and annotation not in (bytes, str, dict) else _body_decoder(annotation)

    def decode(element: Element) -> Any:
        data = body(element.body)
        if not enveloped:
            return data
        return Message(data, element.id, element.attempt, element.sent_at, dict(element.headers))

    return decode, batched


def _body_decoder(annotation: Any) -> Callable[[bytes], Any]:
    if annotation is bytes:
        return lambda body: body
    if annotation is str:
        return lambda body: body.decode("utf-8")
    if annotation is Any or annotation is dict:
        return json.loads
    return json_reader(annotation)


# the main process's part


def settle(source: Source, elements: Sequence[Element], report: Report) -> None:
    """Turn a report into acknowledgements and releases at the source."""
    if report.done:
        source.acknowledge([elements[i] for i in report.done])
    release(source, elements, report)


def release(source: Source, elements: Sequence[Element], report: Report) -> None:
    """Give back what is to come again, each after its delay."""
    for index, delay in report.retry:
        source.release(elements[index], delay=delay, counted=index not in report.uncounted)


def give_back(source: Source, elements: Sequence[Element], retry: RetryPlan) -> None:
    """A group ended without a report: its process died, or was stopped. Its elements come back one by one; one
    that was alone has most likely killed its process, and waits before it may again."""
    for element in elements:
        delay = backoff(retry, element.attempt) if len(elements) == 1 else 0.0
        source.release(element, delay=delay, alone=True)


def give_back_untouched(source: Source, elements: Sequence[Element]) -> None:
    """Nobody has begun with them: they come again at once, as they were."""
    for element in elements:
        source.release(element, alone=element.alone, counted=False)


def groups_of(
    elements: Sequence[Element], plan: ConsumerPlan, limit: int | None = None
) -> Iterator[tuple[list[Element], bool]]:
    """Leased elements as groups to run, of `limit` elements at most (`batch.size`, unless it is given) and none larger
    than `batch.max_bytes` (a larger element goes alone): suspects alone; those whose attempts are used up are to be
    buried."""
    limit = limit or plan.batch.size
    together: list[Element] = []
    size = 0
    for element in elements:
        if element.attempt > plan.retry.attempts:
            yield [element], True
        elif element.alone:
            yield [element], False
        else:
            if len(together) == limit or (together and size + len(element.body) > plan.batch.max_bytes):
                yield together, False
                together, size = [], 0
            together.append(element)
            size += len(element.body)
    if together:
        yield together, False


def died_words(element: Element, reason: str) -> str:
    """Why an element is buried whose processes ended without a report."""
    ended = reason or "it died, or was stopped, before it could report"
    return f"ProcessDied: the process that handled it ended {element.attempt - 1} times: {ended}"


def dump_group(consumer: str, elements: Sequence[Element], bury: str) -> bytes:
    """A group as the JSON that crosses to the child."""
    return json.dumps([[consumer, [_dump(e) for e in elements], bury], {}, {}]).encode()


def _dump(element: Element) -> list[Any]:
    try:
        body, encoded = element.body.decode("utf-8"), False
    except UnicodeDecodeError:
        body, encoded = base64.b64encode(element.body).decode(), True
    sent = element.sent_at.isoformat() if element.sent_at else None
    return [element.id, body, encoded, element.receipt, element.attempt, dict(element.headers), sent, element.alone]


def load_elements(values: Sequence[Sequence[Any]]) -> list[Element]:
    return [
        Element(
            id=id,
            body=base64.b64decode(body) if encoded else body.encode("utf-8"),
            receipt=receipt,
            attempt=attempt,
            headers=headers,
            sent_at=datetime.fromisoformat(sent) if sent else None,
            alone=alone,
        )
        for id, body, encoded, receipt, attempt, headers, sent, alone in values
    ]
