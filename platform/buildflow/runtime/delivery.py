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
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict

from pydantic import TypeAdapter, ValidationError

from buildflow.errors import BuildflowError, ServiceUnavailable
from buildflow.interrupts import interrupt
from buildflow.ir.runtime import ConsumerPlan, RetryPlan, RuntimePlan
from buildflow.primitives.base import Element, Entry, Source, flatten
from buildflow.providers.secret_mask import masked
from buildflow.runtime.connections import Connections
from buildflow.runtime.dead_letters import encodable, letter_of, open_dead_letters
from buildflow.runtime.dependencies import Container
from buildflow.runtime.functions import hints_of, load, load_handler
from buildflow.types import DeadLetter, Message

COMMIT_EVERY = 0.2
"""Seconds after which a group's rows so far are committed, though more elements are to come."""


@dataclass
class Report:
    """What became of a group, by position: `done` may be acknowledged, `retry` comes again after a delay.

    `error` is the last failure in one line; `reasons` are the errors of elements that were given up and stay at
    the source, because their dead letters could not be written.
    """

    done: list[int] = field(default_factory=list)
    retry: list[tuple[int, float]] = field(default_factory=list)
    failed: int = 0
    dead: int = 0
    error: str = ""
    reasons: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0

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


class ElementTimeout(BuildflowError):
    """The handler took longer than its timeout."""


class Undecodable(BuildflowError):
    """The element is not what its handler takes."""


class ProcessDied(BuildflowError):
    """The process that handled the element died of it."""


@dataclass(frozen=True, slots=True)
class _Failure:
    error: str  # in full, of many lines perhaps
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
                work.give_up(index, bury)
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
        try:
            value = self._decode(work.elements[index])
        except Exception as exc:
            work.fail(index, exc)
        else:
            await self._call_alone(work, index, value)

    async def _run_batch(self, work: "_Work") -> None:
        """All elements in one call and one commit; when either fails, each alone, so that only the culprit goes on
        failing."""
        values: dict[int, Any] = {}
        for index, element in enumerate(work.elements):
            try:
                values[index] = self._decode(element)
            except Exception as exc:
                work.fail(index, exc)
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

    async def _call_alone(self, work: "_Work", index: int, value: Any) -> None:
        try:
            rows = await self._call(value)
        except _FAILURES as exc:
            work.fail(index, exc)
        else:
            work.pending.append((Entry(work.elements[index].id, rows), index))

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
            rows = await _rows(self.function, arguments, self.plan.timeout)
        if self.plan.sink:
            sink = self.connections.sink(self.plan.sink)
            for row in rows:
                sink.check(row)
        return rows

    def failure(self, exc: BaseException, element: Element) -> _Failure:
        # starred here, where the process knows its secrets: the main process, the store and `status` do not
        words = masked("".join(traceback.format_exception(exc)))
        error = masked(f"{type(exc).__name__}: {exc}") if str(exc) else type(exc).__name__
        last = element.attempt >= self.plan.retry.attempts
        hopeless = isinstance(exc, (Undecodable, *self.retry_never)) or (
            bool(self.retry_only) and not isinstance(exc, self.retry_only)
        )
        return _Failure(error, words, last or hopeless, backoff(self.plan.retry, element.attempt))


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
    """Seconds before the attempt after `attempt`: doubled each time, up to `max`, with jitter."""
    delay = min(retry.max, retry.initial * 2.0 ** min(attempt - 1, 40))
    return delay * (1 + retry.jitter * (2 * random.random() - 1))


@dataclass
class _Work:
    """A group in progress: rows not yet committed, elements given up, the report so far."""

    runner: ConsumerRunner
    elements: Sequence[Element]
    report: Report
    pending: list[tuple[Entry, int]] = field(default_factory=list)
    dead: list[tuple[int, DeadLetter]] = field(default_factory=list)
    committed_at: float = field(default_factory=time.monotonic)

    def fail(self, index: int, exc: BaseException) -> None:
        element = self.elements[index]
        failure = self.runner.failure(exc, element)
        if failure.dead:
            self.give_up(index, failure.error, failure.traceback)
            return
        self.report.failed += 1
        self.report.retry.append((index, failure.delay))
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
        entries = [(Entry(self.elements[i].id, rows if i == first else ()), i) for i in indexes]
        self._store(entries, fresh=len(indexes) > 1)

    def _store(self, entries: list[tuple[Entry, int]], *, fresh: bool = False) -> None:
        plan = self.runner.plan
        if plan.sink is not None:
            self.runner.connections.sink(plan.sink).commit(plan.key, [entry for entry, _ in entries], fresh=fresh)
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
        delay = backoff(self.runner.plan.retry, element.attempt)
        self.report.retry.append((index, delay))
        self.report.reasons[index] = letter.error
        fate = f"kept after attempt {element.attempt}, again in {delay:.1f} s"
        self._tell(index, fate, f"the dead-letter store fails: {type(exc).__name__}: {exc}")


async def _rows(function: Callable[..., Any], arguments: dict[str, Any], timeout: float | None) -> list[Any]:
    """Call a handler and give its answer, of whatever form, as rows: a value, a list, a generator, and their async
    counterparts. Celery's hard limit stands behind the timeout."""
    with _alarm(timeout):
        returned = function(**arguments)
        if not inspect.isawaitable(returned) and not inspect.isasyncgen(returned):
            return list(flatten(returned))
    try:
        async with asyncio.timeout(timeout) as limit:
            if inspect.isawaitable(returned):
                returned = await returned
            if inspect.isasyncgen(returned):
                return [row async for row in returned]
            return list(flatten(returned))
    except TimeoutError as exc:
        if not limit.expired():
            raise
        raise _too_slow(timeout) from exc


@contextlib.contextmanager
def _alarm(seconds: float | None) -> Iterator[None]:
    """Stops synchronous code after `seconds` by the alarm signal: the pool child's main thread runs it."""
    if seconds is None or not _in_main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        interrupt(_too_slow(seconds))

    previous = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _too_slow(seconds: float | None) -> ElementTimeout:
    return ElementTimeout(f"stopped after its timeout of {seconds:g} s")


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
    adapter: TypeAdapter[Any] = TypeAdapter(_readable(annotation))
    return adapter.validate_json


def _readable(annotation: Any) -> Any:
    """Before Python 3.12 pydantic reads the TypedDict of typing_extensions only: say it in that one."""
    if sys.version_info >= (3, 12) or not is_typeddict(annotation):
        return annotation
    import typing_extensions

    extensions: Any = typing_extensions
    fields = {}
    for name, hint in get_type_hints(annotation).items():
        form = extensions.Required if name in annotation.__required_keys__ else extensions.NotRequired
        fields[name] = form[_readable(hint)]
    return extensions.TypedDict(annotation.__name__, fields)


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


def groups_of(elements: Sequence[Element], plan: ConsumerPlan) -> Iterator[tuple[list[Element], bool]]:
    """Leased elements as groups to run, none larger than `batch.max_bytes` (a larger element goes alone): suspects
    alone; those whose attempts are used up are to be buried."""
    together: list[Element] = []
    size = 0
    for element in elements:
        if element.attempt > plan.retry.attempts:
            yield [element], True
        elif element.alone:
            yield [element], False
        else:
            if together and size + len(element.body) > plan.batch.max_bytes:
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
