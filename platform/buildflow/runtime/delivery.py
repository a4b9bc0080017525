"""The delivery contract of one consumer, without an engine: what a pool child does with a group, and how its
report settles the leases.

    lease -> Group -> ConsumerRunner.run (child) -> Report -> settle (main process)

The source is acknowledged after the sink has committed, never before.
"""

import asyncio
import base64
import contextlib
import inspect
import json
import random
import signal
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from buildflow.errors import BuildflowError
from buildflow.ir.runtime import ConsumerPlan, RetryPlan, RuntimePlan
from buildflow.primitives.base import Element, Entry, Source, flatten
from buildflow.runtime.connections import Connections
from buildflow.runtime.dead_letters import letter_of, open_dead_letters
from buildflow.runtime.dependencies import Container
from buildflow.runtime.functions import hints_of, load, load_handler
from buildflow.types import DeadLetter, Message

COMMIT_EVERY = 0.2
"""Seconds after which a group's rows so far are committed, though more elements are to come."""


@dataclass
class Report:
    """What became of a group, by position: `done` may be acknowledged, `retry` comes again after a delay."""

    done: list[int] = field(default_factory=list)
    retry: list[tuple[int, float]] = field(default_factory=list)
    failed: int = 0
    dead: int = 0
    error: str = ""
    seconds: float = 0.0

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Report":
        values = json.loads(text)
        return cls(**{**values, "retry": [(i, delay) for i, delay in values["retry"]]})


class ElementTimeout(BuildflowError):
    """The handler took longer than its timeout."""


class Undecodable(BuildflowError):
    """The element is not what its handler takes."""


class ProcessDied(BuildflowError):
    """The process that handled the element died of it."""


@dataclass(frozen=True, slots=True)
class _Failure:
    error: str
    traceback: str
    dead: bool
    delay: float = 0.0


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
        self.retry_only = tuple(load(name) for name in plan.retry.only)
        self.retry_never = tuple(load(name) for name in plan.retry.never)

    async def run(self, elements: Sequence[Element], *, bury: str = "") -> Report:
        """Handle a group. `bury` gives every element up with that reason, without calling the handler."""
        started = time.perf_counter()
        report = Report()
        work = _Work(self, elements, report)
        if bury:
            for index in range(len(elements)):
                work.fail(index, _Failure(bury, "", dead=True))
        elif self.batched:
            await self._run_batch(work)
        else:
            for index in range(len(elements)):
                await self._run_one(work, index)
                work.commit_if_due()
        work.commit()
        work.write_dead_letters()
        report.seconds = time.perf_counter() - started
        return report

    async def _run_one(self, work: "_Work", index: int) -> None:
        element = work.elements[index]
        try:
            value = self._decode(element)
            rows = await self._call(value)
        except Exception as exc:
            work.fail(index, self._failure(exc, element))
        else:
            work.add(Entry(element.id, rows), [index])

    async def _run_batch(self, work: "_Work") -> None:
        """All elements in one call; when it fails, each alone, so that only the culprit goes on failing."""
        values: dict[int, Any] = {}
        for index, element in enumerate(work.elements):
            try:
                values[index] = self._decode(element)
            except Undecodable as exc:
                work.fail(index, self._failure(exc, element))
        if not values:
            return
        try:
            rows = await self._call(list(values.values()))
        except Exception as exc:
            if len(values) == 1:
                index = next(iter(values))
                work.fail(index, self._failure(exc, work.elements[index]))
                return
            for index, value in values.items():
                try:
                    alone = await self._call([value])
                except Exception as single:
                    work.fail(index, self._failure(single, work.elements[index]))
                else:
                    work.add(Entry(work.elements[index].id, alone), [index])
            return
        work.add_batch([(work.elements[i].id, i) for i in values], rows)

    def _decode(self, element: Element) -> Any:
        try:
            return self.decode(element)
        except (ValidationError, ValueError, TypeError, KeyError) as exc:
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
            with _time_limit(self.plan.timeout, self.function):
                returned = self.function(**arguments)
                rows = [row async for row in _rows(returned, self.plan.timeout)]
        if self.plan.sink:
            sink = self.connections.sink(self.plan.sink)
            for row in rows:
                sink.check(row)
        return rows

    def _failure(self, exc: Exception, element: Element) -> _Failure:
        words = "".join(traceback.format_exception(exc))
        error = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
        last = element.attempt >= self.plan.retry.attempts
        hopeless = isinstance(exc, (Undecodable, *self.retry_never)) or (
            bool(self.retry_only) and not isinstance(exc, self.retry_only)
        )
        return _Failure(error, words, last or hopeless, backoff(self.plan.retry, element.attempt))


def backoff(retry: RetryPlan, attempt: int) -> float:
    """Seconds before the attempt after `attempt`: doubled each time, up to `max`, with jitter."""
    delay = min(retry.max, retry.initial * 2.0 ** min(attempt - 1, 40))
    return delay * (1 + retry.jitter * (2 * random.random() - 1))


@dataclass
class _Work:
    """A group in progress: rows not yet committed, elements given up, the report so far."""

    runner: ConsumerRunner
    elements: Sequence[Element]
    report: Report
    pending: list[tuple[Entry, list[int]]] = field(default_factory=list)
    dead: list[tuple[int, DeadLetter]] = field(default_factory=list)
    committed_at: float = field(default_factory=time.monotonic)

    def add(self, entry: Entry, indexes: list[int]) -> None:
        self.pending.append((entry, indexes))

    def add_batch(self, elements: list[tuple[str, int]], rows: list[Any]) -> None:
        """A batch's rows go with its first element's id; the others' ids are recorded beside it."""
        for position, (id, index) in enumerate(elements):
            self.add(Entry(id, rows if position == 0 else ()), [index])

    def fail(self, index: int, failure: _Failure) -> None:
        self.report.failed += 1
        self.report.error = failure.error
        if failure.dead:
            element = self.elements[index]
            self.dead.append((index, letter_of(self.runner.plan, element, failure.error, failure.traceback)))
        else:
            self.report.retry.append((index, failure.delay))

    def commit_if_due(self) -> None:
        if self.pending and time.monotonic() - self.committed_at >= COMMIT_EVERY:
            self.commit()

    def commit(self) -> None:
        pending, self.pending = self.pending, []
        self.committed_at = time.monotonic()
        plan = self.runner.plan
        if not pending:
            return
        if plan.sink is None:
            self.report.done += [i for _, indexes in pending for i in indexes]
            return
        try:
            self.runner.connections.sink(plan.sink).commit(plan.key, [entry for entry, _ in pending])
        except Exception as exc:
            if len(pending) > 1 and not self.runner.batched:
                for one in pending:
                    self.pending = [one]
                    self.commit()
                return
            for _, indexes in pending:
                for index in indexes:
                    self.fail(index, self.runner._failure(exc, self.elements[index]))
        else:
            self.report.done += [i for _, indexes in pending for i in indexes]

    def write_dead_letters(self) -> None:
        """A dead letter that cannot be written keeps its element at the source."""
        if not self.dead:
            return
        try:
            store = open_dead_letters(self.runner.plan, self.runner.connections)
            store.put([letter for _, letter in self.dead])
        except Exception as exc:
            self.report.error = f"the dead-letter store fails: {type(exc).__name__}: {exc}"
            self.report.retry += [(i, backoff(self.runner.plan.retry, self.elements[i].attempt)) for i, _ in self.dead]
        else:
            self.report.dead += len(self.dead)
            self.report.done += [i for i, _ in self.dead]


async def _rows(returned: Any, timeout: float | None) -> AsyncIterator[Any]:
    """Every form of a handler's answer as rows: a value, a list, a generator, and their async counterparts."""
    if inspect.isawaitable(returned):
        returned = await asyncio.wait_for(returned, timeout) if timeout else await returned
    if inspect.isasyncgen(returned):
        async with asyncio.timeout(timeout):
            async for row in returned:
                yield row
    else:
        for row in flatten(returned):
            yield row


@contextlib.contextmanager
def _time_limit(seconds: float | None, function: Any) -> Iterator[None]:
    """Stops a synchronous handler after `seconds`, by the alarm signal: the pool child's main thread runs it.
    Asynchronous ones are stopped by their loop. Celery's hard limit stands behind both."""
    is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    if seconds is None or is_async or not _in_main_thread():
        try:
            yield
        except TimeoutError as exc:
            if seconds is None:
                raise
            raise ElementTimeout(f"stopped after its timeout of {seconds:g} s") from exc
        return

    def stop(*_: Any) -> None:
        raise ElementTimeout(f"stopped after its timeout of {seconds:g} s")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


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
    adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    return adapter.validate_json


# the main process's part


def settle(source: Source, elements: Sequence[Element], report: Report) -> None:
    """Turn a report into acknowledgements and releases at the source."""
    if report.done:
        source.acknowledge([elements[i] for i in report.done])
    for index, delay in report.retry:
        source.release(elements[index], delay=delay)


def give_back(source: Source, elements: Sequence[Element], retry: RetryPlan) -> None:
    """A group ended without a report: its process died, or was stopped. Its elements come back one by one; one
    that was alone has most likely killed its process, and waits before it may again."""
    for element in elements:
        delay = backoff(retry, element.attempt) if len(elements) == 1 else 0.0
        source.release(element, delay=delay, alone=True)


def groups_of(elements: Sequence[Element], retry: RetryPlan) -> Iterator[tuple[list[Element], bool]]:
    """Leased elements as groups to run: suspects alone; those whose attempts are used up are to be buried."""
    together: list[Element] = []
    for element in elements:
        if element.attempt > retry.attempts:
            yield [element], True
        elif element.alone:
            yield [element], False
        else:
            together.append(element)
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
