"""The delivery contract of one consumer, without an engine: fakes stand in for its source and its sinks only."""

import asyncio
import json
import random
import subprocess
import sys
import time
import types
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

import pytest
from pydantic import BaseModel

from buildflow.errors import InvalidRow, ServiceUnavailable
from buildflow.ir.columns import Column
from buildflow.ir.runtime import (
    BatchPlan,
    ConsumerPlan,
    DependencyPlan,
    HandlerPlan,
    Injection,
    RetryPlan,
    RuntimePlan,
)
from buildflow.primitives.base import Element, Entry, SeenBefore
from buildflow.primitives.table.duckdb_file import database
from buildflow.primitives.table.duckdb_query import query
from buildflow.primitives.table.duckdb_table import DuckDBSink, Location
from buildflow.runtime.calls import ElementTimeout, _alarm
from buildflow.runtime.delivery import (
    ConsumerRunner,
    Report,
    backoff,
    died_words,
    dump_group,
    give_back,
    groups_of,
    load_elements,
    settle,
)
from buildflow.runtime.dependencies import Container
from buildflow.types import DeadLetter, Message

SENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
RETRY = RetryPlan(attempts=5, initial=1.0, max=300.0, jitter=0.2)


class FakeSink:
    """Keeps what is committed; `refuse` says why a row or a commit fails."""

    guarantee = "effectively once"

    def __init__(self) -> None:
        self.commits: list[list[Entry]] = []
        self.unfit: Callable[[Any], bool] = lambda row: False
        self.refuse: Callable[[Sequence[Entry]], Exception | None] = lambda entries: None

    def check(self, row: Any) -> None:
        if self.unfit(row):
            raise InvalidRow(f"{row!r} does not fit")

    def commit(self, writer: str, entries: Sequence[Entry], *, fresh: bool = False) -> None:
        ids = [entry.id for entry in entries]
        if fresh and (len(set(ids)) < len(ids) or set(ids) & set(self.ids)):
            raise SeenBefore
        if problem := self.refuse(entries):
            raise problem
        for entry in entries:
            for row in entry.rows:
                self.check(row)
        self.commits.append(list(entries))

    def close(self) -> None: ...

    @property
    def rows(self) -> list[Any]:
        return [row for entries in self.commits for entry in entries for row in entry.rows]

    @property
    def ids(self) -> list[str]:
        return [entry.id for entries in self.commits for entry in entries]


class FakeConnections:
    """What a runner asks of its connections."""

    namespace = "shop-test"

    def __init__(self) -> None:
        self.sinks = {"rows": FakeSink(), "graves": FakeSink()}

    def sink(self, key: str) -> FakeSink:
        return self.sinks[key]

    def decoder(self, key: str) -> None: ...

    def resolve(self, value: Any) -> Any:
        return value


class FakeSource:
    """Notes how leases are settled."""

    lease_seconds = 30.0

    def __init__(self) -> None:
        self.acknowledged: list[str] = []
        self.released: list[tuple[str, float, bool]] = []

    def acknowledge(self, elements: Sequence[Element]) -> None:
        self.acknowledged += [e.id for e in elements]

    def release(self, element: Element, *, delay: float = 0.0, alone: bool = False, counted: bool = True) -> None:
        self.released.append((element.id, delay, alone))


@dataclass
class Bench:
    """A runner with its fakes."""

    runner: ConsumerRunner
    rows: FakeSink
    graves: FakeSink

    def run(self, *elements: Element, bury: str = "") -> Report:
        return asyncio.run(self.runner.run(elements, bury=bury))

    @property
    def dead(self) -> list[DeadLetter]:
        return self.graves.rows


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Bench]:
    """Makes the bench of one handler: its element is its first parameter."""
    module = types.ModuleType("handlers_under_test")
    monkeypatch.setitem(sys.modules, "handlers_under_test", module)

    def make(
        handler: Any,
        *,
        element: str | None = "element",
        retry: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        sink: str | None = "rows",
        dependencies: Mapping[str, tuple[Any, str]] | None = None,
    ) -> Bench:
        module.handler = handler  # type: ignore[attr-defined]
        module.Hopeless, module.Passing = Hopeless, Passing  # type: ignore[attr-defined]
        for key, (factory, _) in (dependencies or {}).items():
            setattr(module, key, factory)
        inject = tuple(Injection(parameter=key, kind="dependency", key=key) for key in dependencies or {})
        plan = ConsumerPlan(
            key="save",
            source="orders",
            handler=HandlerPlan(function="handlers_under_test:handler", element=element, inject=inject),
            sink=sink,
            batch=BatchPlan(size=100, linger=0, max_bytes=1_000_000),
            retry=RetryPlan(**{**RETRY.model_dump(), **(retry or {})}),
            dead_letter="graves",
            timeout=timeout,
        )
        runtime = RuntimePlan(
            project="shop",
            stack="test",
            provider="local",
            dir="",
            dependencies=tuple(
                DependencyPlan(key=key, factory=f"handlers_under_test:{key}", scope=scope)  # type: ignore[arg-type]
                for key, (_, scope) in (dependencies or {}).items()
            ),
        )
        connections: Any = FakeConnections()
        container = Container(runtime, connections)
        runner = ConsumerRunner(plan, runtime, connections, container)
        return Bench(runner, connections.sinks["rows"], connections.sinks["graves"])

    return make


class Hopeless(Exception):
    """Trying again would not help."""


class Passing(Exception):
    """Trying again may help."""


def element(id: str, body: Any = None, **more: Any) -> Element:
    data = body if isinstance(body, bytes) else json.dumps({"n": id} if body is None else body).encode()
    return Element(id=id, body=data, receipt=f"r-{id}", **more)


def consumer(max_bytes: int = 1_000_000) -> ConsumerPlan:
    batch = BatchPlan(size=100, linger=0, max_bytes=max_bytes)
    handler = HandlerPlan(function="handlers_under_test:handler")
    return ConsumerPlan(key="save", source="orders", handler=handler, batch=batch, retry=RETRY)


MakeBench = Callable[..., Bench]


# what a handler gives back


def test_rows_and_element_ids_are_committed_together_and_then_reported_done(bench: MakeBench) -> None:
    def handler(element: dict) -> dict:  # type: ignore[type-arg]
        return {"row": element["n"]}

    one = bench(handler)
    report = one.run(element("a"), element("b"))
    assert one.rows.commits == [[Entry("a", [{"row": "a"}]), Entry("b", [{"row": "b"}])]]
    assert (report.done, report.retry, report.failed, report.dead) == ([0, 1], [], 0, 0)


def _none(element: dict) -> None:  # type: ignore[type-arg]
    return None


def _list(element: dict) -> list[int]:  # type: ignore[type-arg]
    return [1, 2]


def _tuple(element: dict) -> tuple[int, ...]:  # type: ignore[type-arg]
    return (1, 2)


def _generator(element: dict) -> Iterator[int]:  # type: ignore[type-arg]
    yield 1
    yield 2


async def _async(element: dict) -> int:  # type: ignore[type-arg]
    await asyncio.sleep(0)
    return 1


async def _async_generator(element: dict) -> AsyncIterator[int]:  # type: ignore[type-arg]
    for n in (1, 2):
        await asyncio.sleep(0)
        yield n


async def _async_list(element: dict) -> list[int]:  # type: ignore[type-arg]
    return [1, 2]


@pytest.mark.parametrize(
    ("handler", "rows"),
    [
        (_none, []),
        (_list, [1, 2]),
        (_tuple, [1, 2]),
        (_generator, [1, 2]),
        (_async, [1]),
        (_async_list, [1, 2]),
        (_async_generator, [1, 2]),
    ],
)
def test_every_form_of_an_answer_becomes_rows(bench: MakeBench, handler: Any, rows: list[int]) -> None:
    one = bench(handler)
    assert one.run(element("a")).done == [0]
    assert one.rows.rows == rows
    assert one.rows.ids == ["a"], "an element without rows is recorded too"


def test_a_consumer_without_a_sink_is_done_when_its_handler_returns(bench: MakeBench) -> None:
    one = bench(_list, sink=None)
    assert one.run(element("a"), element("b")).done == [0, 1]
    assert one.rows.commits == []


def test_a_generator_that_fails_half_way_writes_none_of_its_rows(bench: MakeBench) -> None:
    def handler(element: dict) -> Iterator[int]:  # type: ignore[type-arg]
        yield 1
        raise Passing

    one = bench(handler)
    report = one.run(element("a"))
    assert one.rows.rows == []
    assert [i for i, _ in report.retry] == [0]


# what a handler takes


class Order(BaseModel):
    item: str
    amount: int = 1


@dataclass
class Pick:
    item: str


class Note(TypedDict):
    item: str


def test_an_element_is_decoded_as_its_annotation_says(bench: MakeBench) -> None:
    seen: list[Any] = []

    def model(element: Order) -> None:
        seen.append(element)

    def record(element: Pick) -> None:
        seen.append(element)

    def typed(element: Note) -> None:
        seen.append(element)

    def raw(element: bytes) -> None:
        seen.append(element)

    def text(element: str) -> None:
        seen.append(element)

    def anything(element) -> None:  # type: ignore[no-untyped-def]
        seen.append(element)

    for handler in (model, record, typed, raw, text, anything):
        assert bench(handler).run(element("a", {"item": "tea"})).done == [0]
    written = '{"item": "tea"}'
    plain = {"item": "tea"}
    assert seen == [Order(item="tea"), Pick("tea"), plain, written.encode(), written, plain]


def test_a_message_brings_its_envelope(bench: MakeBench) -> None:
    seen: list[Any] = []

    def handler(element: Message[Order]) -> None:
        seen.append(element)

    sent = element("a", {"item": "tea"}, attempt=3, headers={"from": "me"}, sent_at=SENT)
    bench(handler).run(sent)
    assert seen == [Message(Order(item="tea"), "a", 3, SENT, {"from": "me"})]


def test_a_batch_of_messages_is_one_call(bench: MakeBench) -> None:
    calls: list[Any] = []

    def handler(element: list[Message[Order]]) -> None:
        calls.append([m.id for m in element])

    assert bench(handler).run(element("a", {"item": "x"}), element("b", {"item": "y"})).done == [0, 1]
    assert calls == [["a", "b"]]


# failures


def test_one_of_many_fails_and_its_neighbours_are_committed(bench: MakeBench) -> None:
    def handler(element: dict) -> str:  # type: ignore[type-arg]
        if element["n"] == "bad":
            raise ValueError("not this one")
        return str(element["n"])

    one = bench(handler)
    report = one.run(element("a"), element("bad"), element("c"))
    assert one.rows.rows == ["a", "c"]
    assert sorted(report.done) == [0, 2]
    assert [i for i, _ in report.retry] == [1]
    assert (report.failed, report.dead) == (1, 0)
    assert report.error.endswith(": ValueError: not this one")
    assert one.dead == []


def test_the_last_attempt_ends_in_the_dead_letters_with_everything_that_is_known(bench: MakeBench) -> None:
    def handler(element: dict) -> None:  # type: ignore[type-arg]
        raise ValueError("never")

    one = bench(handler)
    report = one.run(element("a", {"n": 1}, attempt=5, headers={"k": "v"}, sent_at=SENT))
    assert (report.done, report.retry, report.dead) == ([0], [], 1)
    [letter] = one.dead
    assert (letter.id, letter.consumer, letter.source, letter.attempts) == ("a", "save", "orders", 5)
    assert (letter.error, letter.payload) == ("ValueError: never", b'{"n": 1}')
    assert (json.loads(letter.headers), letter.sent_at) == ({"k": "v"}, SENT)
    assert "in handler" in letter.traceback


def test_an_error_is_one_line_however_long_its_message_is(bench: MakeBench) -> None:
    def handler(element: dict) -> None:  # type: ignore[type-arg]
        raise ValueError("first\n  second\n" + "x" * 10_000)

    one = bench(handler, retry={"attempts": 1})
    report = one.run(element("a"))
    error = one.dead[0].error
    assert report.error == "a given up after attempt 1: ValueError: first"
    assert error.startswith("ValueError: first second xxx")
    assert len(error) == 500
    assert "x" * 10_000 in one.dead[0].traceback


def test_a_failure_is_told_with_its_element_and_its_attempt(bench: MakeBench) -> None:
    one = bench(_fails_with(KeyError), retry={"jitter": 0.0})
    line = one.run(element("a" * 8 + "b" * 24, attempt=2), element("logs/é.txt", attempt=3)).error
    assert line == "logs/é.txt attempt 3 of 5, again in 4.0 s: KeyError: 'no'"
    line = one.run(element("a" * 8 + "b" * 24, attempt=2)).error
    assert line == "aaaaaaaa attempt 2 of 5, again in 2.0 s: KeyError: 'no'"


async def _cancels(element: dict) -> None:  # type: ignore[type-arg]
    raise asyncio.CancelledError


def _cancels_sync(element: dict) -> None:  # type: ignore[type-arg]
    raise asyncio.CancelledError


async def _cancels_batch(element: list[dict]) -> None:  # type: ignore[type-arg]
    raise asyncio.CancelledError


@pytest.mark.parametrize("timeout", [None, 20.0])
@pytest.mark.parametrize("handler", [_cancels, _cancels_sync, _cancels_batch])
def test_a_handler_that_is_cancelled_has_failed(bench: MakeBench, handler: Any, timeout: float | None) -> None:
    one = bench(handler, timeout=timeout)
    report = one.run(element("a", attempt=5), element("b"))
    assert (report.done, [i for i, _ in report.retry]) == ([0], [1])
    [letter] = one.dead
    assert letter.error == "CancelledError"
    assert f"in {handler.__name__}" in letter.traceback


@pytest.mark.parametrize("annotation", [dict, Any, Order])
def test_what_is_nested_too_deeply_is_given_up_at_once_and_alone(bench: MakeBench, annotation: Any) -> None:
    def handler(element: Any) -> None: ...

    handler.__annotations__["element"] = annotation
    one = bench(handler)
    report = one.run(element("a", b"[" * 100_000), element("b", {"item": "b"}))
    assert (sorted(report.done), report.dead, report.retry) == ([0, 1], 1, [])
    assert one.dead[0].error.startswith("Undecodable: the element cannot be decoded")


@pytest.mark.parametrize("concurrency", [1, 2])
@pytest.mark.parametrize("fails", [False, True])
def test_an_element_goes_when_it_was_handled_and_what_it_holds_with_it(
    bench: MakeBench, concurrency: int, fails: bool
) -> None:
    gone: list[str] = []

    class Event(dict[str, str]):
        """As one with a temporary file."""

    async def handler(element: dict) -> None:  # type: ignore[type-arg]
        handled.append((element["n"], list(gone)))
        if fails:
            raise Passing

    handled: list[tuple[str, list[str]]] = []
    one = bench(handler)
    one.runner.plan = one.runner.plan.model_copy(update={"concurrency": concurrency})

    def decode(element: Element) -> Event:
        event = Event(n=element.id)
        weakref.finalize(event, gone.append, element.id)
        return event

    one.runner.decode = decode
    one.run(*(element(id) for id in "abcd"))
    assert [id for id, _ in handled] == list("abcd")
    assert [before for _, before in handled][-1][:2] == ["a", "b"], "one of two may be at work yet"


@pytest.mark.parametrize("body", [b"{not json", b'{"amount": 1}', b"\xff\xfe", b"[1, 2]"])
def test_what_cannot_be_decoded_is_given_up_at_once(bench: MakeBench, body: bytes) -> None:
    def handler(element: Order) -> None:
        raise AssertionError("not to be called")

    one = bench(handler)
    report = one.run(element("a", body))
    assert (report.done, report.dead) == ([0], 1)
    assert one.dead[0].payload == body
    assert one.dead[0].error.startswith("Undecodable: the element cannot be decoded")


def test_a_row_that_does_not_fit_fails_its_element_alone(bench: MakeBench) -> None:
    def handler(element: dict) -> str:  # type: ignore[type-arg]
        return str(element["n"])

    one = bench(handler)
    one.rows.unfit = lambda row: row == "bad"
    report = one.run(element("a"), element("bad"))
    assert one.rows.rows == ["a"]
    assert report.error.endswith(": InvalidRow: 'bad' does not fit")


def _fails_with(kind: type[Exception]) -> Any:
    def handler(element: dict) -> None:  # type: ignore[type-arg]
        raise kind("no")

    return handler


def test_never_and_only_say_what_is_worth_another_attempt(bench: MakeBench) -> None:
    hopeless, passing = ["handlers_under_test:Hopeless"], ["handlers_under_test:Passing"]
    assert bench(_fails_with(Hopeless), retry={"never": hopeless}).run(element("a")).dead == 1
    assert bench(_fails_with(Passing), retry={"never": hopeless}).run(element("a")).dead == 0
    assert bench(_fails_with(Passing), retry={"only": passing}).run(element("a")).dead == 0
    assert bench(_fails_with(Hopeless), retry={"only": passing}).run(element("a")).dead == 1


def test_waits_double_up_to_the_longest_and_jitter_stays_in_its_bounds() -> None:
    exact = RETRY.model_copy(update={"jitter": 0.0})
    assert [backoff(exact, n) for n in (1, 2, 3, 4)] == [1, 2, 4, 8]
    assert backoff(exact, 9) == 256
    assert backoff(exact, 10) == backoff(exact, 5000) == 300
    waits = [backoff(RETRY, 3) for _ in range(500)]
    assert 3.2 <= min(waits) < 4 < max(waits) <= 4.8
    assert backoff(RETRY.model_copy(update={"initial": 0.0}), 4) == 0


def test_a_sync_handler_is_stopped_after_its_timeout(bench: MakeBench) -> None:
    def handler(element: dict) -> None:  # type: ignore[type-arg]
        time.sleep(30)

    started = time.monotonic()
    report = bench(handler, timeout=0.05).run(element("a"))
    assert time.monotonic() - started < 5
    assert report.error.endswith(": ElementTimeout: stopped after its timeout of 0.05 s")
    assert [i for i, _ in report.retry] == [0]


async def _sleeps(element: dict) -> None:  # type: ignore[type-arg]
    await asyncio.sleep(30)


async def _yields_and_sleeps(element: dict) -> AsyncIterator[int]:  # type: ignore[type-arg]
    yield 1
    await asyncio.sleep(30)


@pytest.mark.parametrize("handler", [_sleeps, _yields_and_sleeps])
def test_an_async_handler_is_stopped_after_its_timeout(bench: MakeBench, handler: Any) -> None:
    one = bench(handler, timeout=0.05)
    report = one.run(element("a"))
    assert report.error.endswith(": ElementTimeout: stopped after its timeout of 0.05 s")
    assert one.rows.rows == []


def test_the_timeout_is_of_each_element_not_of_the_group(bench: MakeBench) -> None:
    def handler(element: dict) -> None:  # type: ignore[type-arg]
        time.sleep(0.06)

    assert bench(handler, timeout=0.15).run(*(element(str(n)) for n in range(4))).done == [0, 1, 2, 3]


async def _waits_too_long(element: dict) -> None:  # type: ignore[type-arg]
    raise TimeoutError("the shop does not answer")


def _waits_too_long_sync(element: dict) -> None:  # type: ignore[type-arg]
    raise TimeoutError("the shop does not answer")


@pytest.mark.parametrize("timeout", [None, 20.0])
@pytest.mark.parametrize("handler", [_waits_too_long, _waits_too_long_sync])
def test_a_timeout_of_the_handlers_own_is_told_as_it_is(bench: MakeBench, handler: Any, timeout: float | None) -> None:
    error = bench(handler, timeout=timeout).run(element("a")).error
    assert error.endswith(" s: TimeoutError: the shop does not answer")


def test_a_timeout_never_breaks_off_a_read_of_a_table_half_way(tmp_path: Path) -> None:
    path = tmp_path / "t.duckdb"
    file = database(path)
    file.write(lambda c: c.execute("CREATE TABLE t AS SELECT 1 AS i"), create=True)
    if (writer := file._thread) is not None:
        writer.join()  # it lets go of the file a moment after the write returned
    choice, stopped = random.Random(7), 0
    for _ in range(250):
        try:
            with _alarm(choice.uniform(0.0002, 0.006)):
                while True:
                    query(path, "SELECT count(*) AS n FROM t")
        except ElementTimeout:
            stopped += 1
        assert (file._cursors, file._attached) == (0, "")
    assert stopped == 250
    script = (
        "import sys; from pathlib import Path; from buildflow.primitives.table.duckdb_file import database;"
        "database(Path(sys.argv[1])).write(lambda c: c.execute('INSERT INTO t VALUES (2)'))"
    )
    subprocess.run([sys.executable, "-c", script, path], check=True, timeout=30)
    file.write(lambda c: c.execute("INSERT INTO t VALUES (3)"))
    assert query(path, "SELECT sum(i) AS n FROM t") == [{"n": 6}]


# batches


def test_a_batch_that_fails_is_taken_apart_so_that_only_the_culprit_fails(bench: MakeBench) -> None:
    calls: list[int] = []

    def handler(element: list[dict]) -> list[str]:  # type: ignore[type-arg]
        calls.append(len(element))
        if any(e["n"] == "bad" for e in element):
            raise ValueError("one of them")
        return [e["n"] for e in element]

    one = bench(handler)
    report = one.run(element("a"), element("bad"), element("c"))
    assert calls == [3, 1, 1, 1]
    assert one.rows.rows == ["a", "c"]
    assert sorted(report.done) == [0, 2]
    assert ([i for i, _ in report.retry], report.failed) == ([1], 1)


def test_an_undecodable_element_leaves_its_batch_without_it(bench: MakeBench) -> None:
    def handler(element: list[Order]) -> list[str]:
        return [e.item for e in element]

    one = bench(handler)
    report = one.run(element("a", {"item": "tea"}), element("b", b"?"), element("c", {"item": "milk"}))
    assert one.rows.rows == ["tea", "milk"]
    assert (sorted(report.done), report.dead) == ([0, 1, 2], 1)


def test_a_batchs_rows_are_committed_with_the_ids_of_all_its_elements(bench: MakeBench) -> None:
    def handler(element: list[dict]) -> int:  # type: ignore[type-arg]
        return len(element)

    one = bench(handler)
    one.run(element("a"), element("b"))
    assert one.rows.commits == [[Entry("a", [2]), Entry("b", ())]]


def test_a_batch_whose_rows_cannot_be_committed_is_taken_apart_too(bench: MakeBench) -> None:
    def handler(element: list[dict]) -> list[str]:  # type: ignore[type-arg]
        return [e["n"] for e in element]

    one = bench(handler, retry={"attempts": 1})
    one.rows.refuse = _refuse_rows("bad")
    report = one.run(element("a"), element("bad"), element("c"))
    assert one.rows.rows == ["a", "c"]
    assert sorted(report.done) == [0, 1, 2]
    assert ([x.id for x in one.dead], report.dead) == (["bad"], 1)


@pytest.mark.parametrize(
    ("ids", "rows"),
    [("OLD N1 N2", ["N1", "N2"]), ("N3 OLD", ["N3"]), ("N4 N4", ["N4"])],
)
def test_a_batch_with_an_element_seen_before_loses_and_doubles_nothing(
    bench: MakeBench, tmp_path: Path, ids: str, rows: list[str]
) -> None:
    def handler(element: list[dict]) -> list[dict]:  # type: ignore[type-arg]
        return [{"n": e["n"]} for e in element]

    path = tmp_path / "t.duckdb"
    database(path).write(lambda c: c.execute("CREATE TABLE t (n VARCHAR)"), create=True)
    one = bench(handler)
    sinks: dict[str, Any] = one.runner.connections.sinks  # type: ignore[attr-defined]
    sinks["rows"] = DuckDBSink(Location(path, "main", "t"), [Column(name="n", kind="string")])
    assert one.run(element("OLD")).done == [0]
    report = one.run(*map(element, ids.split()))
    assert (len(report.done), report.failed) == (len(ids.split()), 0)
    assert [row["n"] for row in query(path, "SELECT n FROM t")] == ["OLD", *rows]


def _refuse_rows(*bad: str) -> Any:
    def refuse(entries: Sequence[Entry]) -> Exception | None:
        return RuntimeError("refused") if any(row in bad for e in entries for row in e.rows) else None

    return refuse


def test_a_commit_that_fails_is_taken_apart_so_that_only_the_culprit_fails(bench: MakeBench) -> None:
    def handler(element: dict) -> str:  # type: ignore[type-arg]
        return str(element["n"])

    one = bench(handler)
    one.rows.refuse = _refuse_rows("bad")
    report = one.run(element("a"), element("bad"), element("c"))
    assert one.rows.rows == ["a", "c"]
    assert sorted(report.done) == [0, 2]
    assert [i for i, _ in report.retry] == [1]
    assert report.error.endswith(" s: RuntimeError: refused")


def test_rows_of_a_slow_group_are_committed_before_its_end(bench: MakeBench) -> None:
    def handler(element: dict) -> str:  # type: ignore[type-arg]
        time.sleep(0.12)
        return str(element["n"])

    one = bench(handler)
    one.run(*(element(str(n)) for n in range(4)))
    assert len(one.rows.commits) > 1
    assert one.rows.rows == ["0", "1", "2", "3"]


# the dead letters


def test_a_dead_letter_that_cannot_be_stored_keeps_its_element_at_the_source(bench: MakeBench) -> None:
    one = bench(_fails_with(ValueError))
    one.graves.refuse = lambda entries: OSError("disk full")
    report = one.run(element("a", attempt=5))
    assert (report.done, report.dead) == ([], 0)
    assert [i for i, _ in report.retry] == [0]
    assert report.error.startswith("a kept after attempt 5, again in ")
    assert report.error.endswith(" s: the dead-letter store fails: OSError: disk full")
    assert report.reasons == {0: "ValueError: no"}


def test_one_letter_that_cannot_be_stored_does_not_take_its_neighbours(bench: MakeBench) -> None:
    one = bench(_fails_with(ValueError))
    one.graves.refuse = lambda entries: OSError("no") if any(e.id == "bad#0" for e in entries) else None
    report = one.run(element("a", attempt=5), element("bad", attempt=5), element("c", attempt=5))
    assert ([x.id for x in one.dead], sorted(report.done), report.dead) == (["a", "c"], [0, 2], 2)
    assert ([i for i, _ in report.retry], report.reasons) == ([1], {1: "ValueError: no"})


def test_a_store_that_cannot_be_reached_is_asked_once_a_group(bench: MakeBench) -> None:
    asked: list[int] = []

    def refuse(entries: Sequence[Entry]) -> Exception:
        asked.append(len(entries))
        return ServiceUnavailable()

    one = bench(_fails_with(ValueError))
    one.graves.refuse = refuse
    report = one.run(element("a", attempt=5), element("b", attempt=5))
    assert asked == [2]
    assert (sorted(report.reasons), report.done) == ([0, 1], [])


def test_an_error_that_cannot_be_encoded_is_stored_with_escapes(bench: MakeBench) -> None:
    def handler(element: dict) -> None:  # type: ignore[type-arg]
        raise ValueError("a file named \udcff")

    one = bench(handler)
    report = one.run(element("a", attempt=5))
    [letter] = one.dead
    assert letter.error == "ValueError: a file named \\udcff"
    assert report.error == f"a given up after attempt 5: {letter.error}"
    assert letter.error in letter.traceback
    letter.traceback.encode()


def test_burying_gives_up_without_calling_the_handler(bench: MakeBench) -> None:
    def handler(element: dict) -> None:  # type: ignore[type-arg]
        raise AssertionError("not to be called")

    one = bench(handler)
    report = one.run(element("a", attempt=6), bury="ProcessDied: signal 9")
    assert (report.done, report.dead) == ([0], 1)
    assert one.dead[0].error == "ProcessDied: signal 9"


def test_died_words_count_the_deaths_and_say_of_what() -> None:
    assert died_words(element("a", attempt=6), "signal 9 (SIGKILL)").endswith("ended 5 times: signal 9 (SIGKILL)")
    assert "before it could report" in died_words(element("a", attempt=2), "")


# dependencies of one element


def test_a_request_scoped_dependency_lives_as_long_as_the_call(bench: MakeBench) -> None:
    events: list[str] = []

    def session() -> Iterator[str]:
        events.append("open")
        yield "session"
        events.append("close")

    def handler(element: dict, session: str) -> None:  # type: ignore[type-arg]
        events.append(f"handle {element['n']}")

    bench(handler, dependencies={"session": (session, "request")}).run(element("a"), element("b"))
    assert events == ["open", "handle a", "close", "open", "handle b", "close"]


def test_a_dependency_sees_the_handlers_failure_and_cannot_hide_it(bench: MakeBench) -> None:
    seen: list[str] = []

    def session() -> Iterator[str]:
        try:
            yield "session"
        except ValueError as exc:
            seen.append(f"rolled back: {exc}")

    def handler(element: dict, session: str) -> None:  # type: ignore[type-arg]
        raise ValueError("no")

    report = bench(handler, dependencies={"session": (session, "request")}).run(element("a"))
    assert seen == ["rolled back: no"]
    assert report.error.endswith(" s: ValueError: no")


# the main process's part


def test_a_report_crosses_as_json() -> None:
    report = Report(
        done=[0, 2], retry=[(1, 1.5)], failed=1, dead=1, error="ValueError: é", reasons={1: "é"}, seconds=0.25
    )
    assert Report.from_json(report.to_json()) == report


def test_a_group_crosses_as_json_binary_bodies_included() -> None:
    group = [
        element("a", b"\xff\x00", attempt=2, headers={"k": "v"}, sent_at=SENT, alone=True),
        element("b", "plain, é"),
    ]
    [[consumer, elements, bury], _, _] = json.loads(dump_group("save", group, "why"))
    assert (consumer, bury) == ("save", "why")
    assert load_elements(elements) == group


def test_done_is_acknowledged_and_the_rest_comes_again_after_its_wait() -> None:
    source: Any = FakeSource()
    settle(source, [element("a"), element("b"), element("c")], Report(done=[0, 2], retry=[(1, 4.0)]))
    assert source.acknowledged == ["a", "c"]
    assert source.released == [("b", 4.0, False)]


def test_a_group_that_ended_without_a_report_comes_back_one_by_one() -> None:
    source: Any = FakeSource()
    exact = RETRY.model_copy(update={"jitter": 0.0})
    give_back(source, [element("a"), element("b")], exact)
    assert source.released == [("a", 0.0, True), ("b", 0.0, True)]
    alone: Any = FakeSource()
    give_back(alone, [element("a", attempt=3)], exact)
    assert alone.released == [("a", 4.0, True)], "one that was alone most likely killed its process: it waits"


def test_suspects_run_alone_and_used_up_ones_are_buried() -> None:
    leased = [element("a"), element("s", alone=True, attempt=2), element("b"), element("x", attempt=6, alone=True)]
    found = [([e.id for e in group], bury) for group, bury in groups_of(leased, consumer())]
    assert found == [(["s"], False), (["x"], True), (["a", "b"], False)]


def test_no_group_is_larger_than_max_bytes_and_a_larger_element_goes_alone() -> None:
    leased = [element("a", b"12345"), element("b", b"12345"), element("c", b"1"), element("d", b"x" * 50)]
    found = [[e.id for e in group] for group, _ in groups_of(leased, consumer(max_bytes=10))]
    assert found == [["a", "b"], ["c"], ["d"]]
