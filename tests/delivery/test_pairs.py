"""Every local source with a sink and every local sink with a source, in one stack with leases of 2 s.

Elements are numbers; their thousands say what becomes of them, see APP. What happens to all pairs at once happens in
a fixture, what it did to each of them is a test.
"""

import json
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psutil
import pytest

from tests.delivery import measured, steps
from tests.delivery.stack import Stack
from tests.harness import PATIENCE, PLATFORM, environment, kill_all, project, status, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pairs")]  # they share one stack

LEASE = 2.0
REPLICAS = 5
BATCH = 4
PAIRS = [
    "queue_table",
    "queue_database",
    "queue_file",
    "queue_bucket",
    "queue_queue",
    "queue_topic",
    "subscription_table",
    "files_table",
    "schedule_table",
]
"""The keys of consumers; their sources are `<key>_in`, their sinks `<key>_out`."""
SOURCES = ["queue_table", "subscription_table", "files_table", "schedule_table"]
"""A pair for each source."""
ONCE = [pair for pair in PAIRS if pair.endswith(("_table", "_database"))]
"""Pairs whose sinks promise effectively once."""

_SOURCE = {
    "queue": "{key}: {{type: queue, lease: 2s}}",
    "subscription": "{key}_topic: {{type: topic}}\n  {key}: {{type: subscription, topic: {key}_topic, lease: 2s}}",
    "files": "{key}_bucket: {{type: bucket}}\n  {key}: {{type: file_change_stream, bucket: {key}_bucket, lease: 2s}}",
    "schedule": "{key}: {{type: schedule, every: 7d, lease: 2s}}",
}
_SINK = {
    "table": "{key}: {{type: table, columns: app:Row}}",
    "database": "{key}: {{type: database, table: numbers, columns: app:Row}}",
    "file": "{key}: {{type: file, path: 'files/{{id}}.jsonl', rotate: {{every: 300ms}}}}",
    "bucket": "{key}: {{type: bucket}}",
    "queue": "{key}: {{type: queue}}",
    "topic": "{key}: {{type: topic}}\n  {key}_seen: {{type: subscription, topic: {key}}}",
}
_CONSUMER = """{pair}:
    source: {pair}_in
    handler: app:{pair}
    sink: {pair}_out
    replicas: {replicas}
    batch: {{size: {batch}}}
    retry: {{backoff: fixed, initial: 1s, jitter: 0, attempts: 50, never: ["app:Poison"]}}"""


def yaml() -> str:
    primitives, consumers = [], []
    for pair in PAIRS:
        source, sink = pair.split("_")
        primitives += [_SOURCE[source].format(key=f"{pair}_in"), _SINK[sink].format(key=f"{pair}_out")]
        consumers.append(_CONSUMER.format(pair=pair, replicas=REPLICAS, batch=BATCH))
    return "\n".join(
        [
            "project: pairs",
            "dependencies:",
            '  installed: {factory: "steps:install", scope: global}',
            "primitives:",
            *(f"  {text}" for text in primitives),
            "consumers:",
            *(f"  {text}" for text in consumers),
        ]
    )


_HANDLER = """
def {pair}(message: Message[{element}], installed) -> Row:
    return work("{pair}", {number}, message.attempt)
"""
_ELEMENT = {
    "queue": ("Job", "message.data.number"),
    "subscription": ("Job", "message.data.number"),
    "files": ("FileChangeEvent", "int(message.data.file_path)"),
    "schedule": ("Tick", "int(message.data.time.timestamp())"),
}
APP = """
import os, time
from dataclasses import dataclass
from pathlib import Path
from buildflow.types import FileChangeEvent, Message, Tick
from steps import at

@dataclass
class Job:
    number: int

@dataclass
class Row:
    number: int

class Poison(Exception):
    "For a test."

def work(pair, number, attempt):
    line = f"{pair} {number} {attempt} {os.getpid()} {os.getppid()} {time.time()}\\n"
    with open("calls", "a") as calls:
        calls.write(line)
    if number in (1001, 1003) and not Path("cured").exists():
        raise ValueError("not yet")
    if number // 1000 == 3:
        wait_for(Path(f"gate-{pair}"))
    if number == 4002:
        raise Poison("it is bad")
    if number == 5000:
        time.sleep(5)
    if number // 100 in (51, 52) and attempt == 1:
        wait_for(Path(f"gate-{number}"))
    for step in ("received", "handled"):
        at(step, pair, number)
    return Row(number)

def wait_for(file):
    while not file.exists():
        time.sleep(0.01)
"""


def app() -> str:
    handlers = []
    for pair in PAIRS:
        element, number = _ELEMENT[pair.split("_")[0]]
        handlers.append(_HANDLER.format(pair=pair, element=element, number=number))
    return APP + "".join(handlers)


@dataclass(frozen=True)
class Call:
    """One call of a handler."""

    number: int
    attempt: int
    pid: int
    parent: int
    at: float


class Pairs(Stack):
    def send(self, pairs: Sequence[str], *numbers: int) -> None:
        """The same elements to each of the pairs, in the way of its source."""
        with self.opened() as connections:
            for pair in pairs:
                key = f"{pair}_in"
                if pair.startswith("subscription"):
                    connections.handle(f"{key}_topic").send_many([{"number": n} for n in numbers])
                elif pair.startswith("files"):
                    folder = self.folder / ".buildflow/local/buckets" / connections.handle(f"{key}_bucket").name
                    for number in numbers:
                        (folder / str(number)).write_text("")
                else:
                    source = connections.source(key)
                    for number in numbers:
                        tick = {"time": datetime.fromtimestamp(number, UTC).isoformat(), "schedule": key}
                        body = tick if pair.startswith("schedule") else {"number": number}
                        source.send(json.dumps(body).encode(), {})

    def status(self) -> Any:
        return status(self.folder)

    def done(self) -> dict[str, int]:
        """How many elements of each pair were settled since the worker started."""
        return {consumer["consumer"]: consumer["done"] for consumer in self.status()["consumers"]}

    def calls(self, pair: str, thousands: int | None = None) -> list[Call]:
        """Of a pair's handler, with elements of these thousands."""
        if not (self.folder / "calls").exists():
            return []
        found = []
        whole, _, _ = (self.folder / "calls").read_text().rpartition("\n")  # another may be half written
        for line in whole.splitlines():
            of, number, attempt, pid, parent, at = line.split()
            if of == pair and thousands in (None, int(number) // 1000):
                found.append(Call(int(number), int(attempt), int(pid), int(parent), float(at)))
        return found

    def numbers(self, pair: str, first: int, last: int) -> list[int]:
        """What has arrived at a pair's sink of the numbers from `first` to `last`, sorted, duplicates included."""
        return sorted(n for n in self._arrived(pair) if first <= n <= last)

    def _arrived(self, pair: str) -> list[int]:
        sink = pair.split("_")[1]
        key = f"{pair}_out"
        if sink in ("table", "database"):
            rows = self.rows(key)
        elif sink == "file":
            rows = [json.loads(line) for f in self.folder.glob("files/*.jsonl") for line in f.read_text().splitlines()]
        elif sink == "bucket":
            with self.opened() as connections:
                bucket = connections.handle(key)
                rows = [json.loads(bucket.read(found.path)) for found in bucket.list()]
        else:
            rows = self.messages(key if sink == "queue" else f"{key}_seen")
        return [row["number"] for row in rows]

    def wait_until_empty(self, pairs: Sequence[str] = PAIRS, stalled: float = PATIENCE) -> None:
        """Nothing waits, and nothing is under way."""
        self.wait_until_drained(*(f"{pair}_in" for pair in pairs), stalled=stalled)

    def wait_for_numbers(self, pairs: Sequence[str], numbers: Sequence[int], timeout: float = PATIENCE) -> None:
        """All of them have arrived at the sinks of all pairs, and nothing is under way."""
        self.wait_until_empty(pairs, timeout)
        for pair in pairs:
            wait_for(
                lambda: set(numbers) <= set(self.numbers(pair, numbers[0], numbers[-1])),  # noqa: B023 - called here
                timeout,
                f"{pair}: all of {numbers}",
            )


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pairs]:
    folder = tmp_path_factory.mktemp("pairs")
    shutil.copy(steps.__file__, folder)
    project(folder, yaml(), app=app())
    stack = Pairs(folder)
    try:
        yield stack.ready()
    finally:
        stack.end()


# nacks


@pytest.fixture(scope="module")
def restarted_after_nacks(stack: Pairs) -> dict[str, int]:
    """Two of five failed when everything was stopped; how many calls there were until then."""
    done = stack.done()
    stack.send(PAIRS, *range(1000, 1005))
    wait_for(lambda: all({c.number for c in stack.calls(pair, 1)} == {*range(1000, 1005)} for pair in PAIRS))
    wait_for(lambda: all(stack.done()[pair] == done[pair] + 3 for pair in PAIRS), words="the other three are settled")
    stack.stop()
    before = {pair: len(stack.calls(pair, 1)) for pair in PAIRS}
    (stack.folder / "cured").touch()
    stack.start()
    stack.wait_for_numbers(PAIRS, range(1000, 1005))
    return before


@pytest.mark.parametrize("pair", PAIRS)
def test_of_five_elements_the_two_that_failed_come_again_after_a_restart(
    stack: Pairs, restarted_after_nacks: dict[str, int], pair: str
) -> None:
    calls = stack.calls(pair, 1)
    before, after = calls[: restarted_after_nacks[pair]], calls[restarted_after_nacks[pair] :]
    assert sorted({call.number for call in before}) == [1000, 1001, 1002, 1003, 1004]
    assert sorted(call.number for call in after) == [1001, 1003]
    assert all(call.attempt > 1 for call in after)
    assert stack.numbers(pair, 1000, 1999) == [1000, 1001, 1002, 1003, 1004]


# acknowledgements out of order


@pytest.fixture(scope="module")
def disordered(stack: Pairs) -> None:
    """The worker acknowledged every second element before it was killed."""
    (stack.folder / "disordered").write_text(str(len(PAIRS)))
    stack.send(PAIRS, *range(2000, 2000 + steps.COUNT))
    wait_for((stack.folder / "disordered-everybody").exists, words=f"the worker is killed: {stack.app.text}")
    stack.wait_for_numbers(PAIRS, range(2000, 2000 + steps.COUNT))


@pytest.mark.parametrize("pair", PAIRS)
def test_what_was_acknowledged_never_comes_again_and_nothing_else_is_missing(
    stack: Pairs, disordered: None, pair: str
) -> None:
    times = Counter(call.number for call in stack.calls(pair, 2))
    assert {number: count for number, count in times.items() if number % 2} == {2001: 1, 2003: 1, 2005: 1}
    assert all(times[number] >= 2 for number in (2000, 2002, 2004)), "these were never acknowledged"
    arrived = stack.numbers(pair, 2000, 2999)
    assert sorted(set(arrived)) == [2000, 2001, 2002, 2003, 2004, 2005]
    if pair in ONCE:
        assert len(arrived) == 6


# saturation


@pytest.mark.parametrize("pair", PAIRS)
def test_no_more_is_taken_than_there_are_processes_and_groups_ahead(stack: Pairs, pair: str) -> None:
    """Against a free process, up to 16 groups are leased where handlers were quick; they wait for one each."""
    count = 200
    bound = BATCH * (REPLICAS + 16)
    stack.send([pair], *range(3000, 3000 + count))

    def at_work() -> set[int]:
        return {call.pid for call in stack.calls(pair, 3)}

    with stack.opened() as connections:
        source = connections.source(f"{pair}_in")
        wait_for(lambda: len(at_work()) == REPLICAS, words="every process is at work")
        wait_for(lambda: sum(source.counts()) == count, words="all were sent")
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            assert REPLICAS <= source.counts().in_flight <= bound < count
        assert len(stack.calls(pair, 3)) == REPLICAS, "each process has begun with one"
        (stack.folder / f"gate-{pair}").touch()
    stack.wait_for_numbers([pair], range(3000, 3000 + count))
    assert sorted(call.number for call in stack.calls(pair, 3)) == [*range(3000, 3000 + count)]
    assert len(stack.numbers(pair, 3000, 3999)) == count


# poison


UNREADABLE = b'{"number": \xff\x00 this is nothing'


@pytest.fixture(scope="module")
def poisoned(stack: Pairs) -> None:
    """Among good elements, one that its handler cannot bear and one that cannot be read at all."""
    stack.send(PAIRS, 4000, 4001)
    with stack.opened() as connections:
        for pair in PAIRS:
            connections.source(f"{pair}_in").send(UNREADABLE, {"from": "a test"})
    stack.send(PAIRS, 4002, 4003, 4004)
    stack.wait_for_numbers(PAIRS, [4000, 4001, 4003, 4004])


@pytest.mark.parametrize("pair", PAIRS)
def test_poison_ends_in_the_dead_letters_and_the_good_beside_it_at_the_sink(
    stack: Pairs, poisoned: None, pair: str
) -> None:
    assert stack.numbers(pair, 4000, 4999) == [4000, 4001, 4003, 4004]
    letters = {letter.error.partition(":")[0]: letter for letter in stack.dead(pair)}
    assert sorted(letters) == ["Poison", "Undecodable"]
    unreadable, bad = letters["Undecodable"], letters["Poison"]
    assert unreadable.payload == UNREADABLE
    assert json.loads(unreadable.headers) == {"from": "a test"}
    assert unreadable.attempts == bad.attempts == 1
    assert steps.number_of(bad.payload) == 4002
    assert bad.error == "Poison: it is bad"
    assert 'raise Poison("it is bad")' in bad.traceback
    assert bad.source == f"{pair}_in"


# leases


@pytest.fixture(scope="module")
def slow(stack: Pairs) -> None:
    """A handler has worked longer than the lease, while other processes had nothing to do."""
    stack.send(SOURCES, 5000)
    stack.wait_for_numbers(SOURCES, [5000])


@pytest.mark.parametrize("pair", SOURCES)
def test_the_lease_of_a_living_worker_is_renewed(stack: Pairs, slow: None, pair: str) -> None:
    assert [call.attempt for call in stack.calls(pair, 5) if call.number == 5000] == [1]
    assert stack.numbers(pair, 5000, 5000) == [5000]


@dataclass(frozen=True)
class Taken:
    """When a worker was killed, when another was stopped: wall clock."""

    killed: float
    paused: float


@pytest.fixture(scope="module")
def taken_over(stack: Pairs) -> Taken:
    """While elements are in its hands, a worker is paused, so that it cannot renew, and goes on later as if nothing
    had been; and another time killed. A second worker takes what they held."""

    def begun(number: int) -> bool:
        return all([c for c in stack.calls(pair) if c.number == number] for pair in SOURCES)

    def again(number: int) -> bool:
        return all([c for c in stack.calls(pair) if c.number == number and c.attempt > 1] for pair in SOURCES)

    stack.send(SOURCES, 5100)
    wait_for(lambda: begun(5100), words="a worker has them")
    (first,) = stack.app.processes("worker")
    log = (stack.folder / "second-worker.log").open("w")
    second = subprocess.Popen([*PLATFORM, "worker"], cwd=stack.folder, env=environment(), stderr=log)
    try:
        wait_for(lambda: len([p for p in stack.status()["processes"] if p["kind"] == "worker"]) == 2)
        wait_for(lambda: all(p["state"] == "ready" for p in stack.status()["processes"]))
        frozen = [first, *first.children()]
        paused = time.time()
        for process in frozen:
            process.suspend()
        wait_for(lambda: again(5100), words="the second worker has them")
        stack.wait_for_numbers(SOURCES, [5100])
        (stack.folder / "gate-5100").touch()
        for process in frozen:
            process.resume()
        wait_for(lambda: all(p["state"] == "ready" for p in stack.status()["processes"]))

        stack.send(SOURCES, 5200)
        wait_for(lambda: begun(5200), words="a worker has them")
        holders = {c.parent for pair in SOURCES for c in stack.calls(pair) if c.number == 5200}
        killed = time.time()
        kill_all(process for process in psutil.process_iter() if process.pid in holders)
        wait_for(lambda: again(5200), words=f"they come again\n{stack.app.text}")
        stack.wait_for_numbers(SOURCES, [5200])
        return Taken(killed, paused)
    finally:
        if second.poll() is None:
            second.send_signal(signal.SIGINT)
        second.wait(timeout=60)
        log.close()


@pytest.mark.parametrize("pair", SOURCES)
def test_the_lease_of_a_worker_that_is_gone_lapses_and_its_element_comes_again(
    stack: Pairs, taken_over: Taken, pair: str
) -> None:
    calls = {number: [c for c in stack.calls(pair) if c.number == number] for number in (5100, 5200)}
    assert [c.attempt for c in calls[5100]] == [1, 2]
    assert calls[5100][1].at - taken_over.paused < LEASE + 1.5
    assert stack.numbers(pair, 5100, 5100) == [5100], "the late commit of the worker that was paused writes nothing"
    assert [c.attempt for c in calls[5200]] == [1, 2]
    assert stack.numbers(pair, 5200, 5200) == [5200]


# killed at every step


@pytest.fixture(scope="module", params=steps.STEPS)
def killed_at(stack: Pairs, request: pytest.FixtureRequest) -> str:
    """The name of the step at which each pair's process was killed once."""
    step: str = request.param
    first = steps.FIRST[step]
    (stack.folder / step).write_text(str(len(PAIRS)))
    stack.send(PAIRS, *range(first, first + steps.COUNT))
    marks = ["everybody"] if step == "acknowledging" else PAIRS
    for mark in marks:
        wait_for((stack.folder / f"{step}-{mark}").exists, words=f"{step}-{mark}: {stack.app.text}")
    stack.wait_for_numbers(PAIRS, range(first, first + steps.COUNT))
    counts = {pair: len(stack.numbers(pair, first, first + 9)) - steps.COUNT for pair in PAIRS}
    told = ", ".join(f"{pair} {count}" for pair, count in counts.items() if pair not in ONCE)
    measured.tell(f"killed when {step}: duplicates of {steps.COUNT} elements: {told}")
    return step


@pytest.mark.parametrize("pair", PAIRS)
def test_killed_at_a_step_nothing_is_lost_and_transactional_sinks_have_it_once(
    stack: Pairs, killed_at: str, pair: str
) -> None:
    first = steps.FIRST[killed_at]
    expected = [*range(first, first + steps.COUNT)]
    arrived = stack.numbers(pair, first, first + 9)
    assert sorted(set(arrived)) == expected
    if pair in ONCE:
        assert arrived == expected
    calls = [call for call in stack.calls(pair, 6) if first <= call.number < first + 10]
    assert len(calls) > steps.COUNT, "the kill had an effect"
    letters = [letter for letter in stack.dead(pair) if letter.payload != UNREADABLE]
    assert [steps.number_of(letter.payload) for letter in letters] in ([], [4002])
