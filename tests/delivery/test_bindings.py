"""What a binding's options promise, kept by real processes: order, rates, several sinks, concurrency, growth."""

import json
import signal
from pathlib import Path

import pytest

from tests.harness import platform, project, rows, running, status, wait_for

pytestmark = pytest.mark.slow

YAML = """
project: bindings
primitives:
  jobs: {type: queue, lease: 2s}
  results: {type: table, columns: app:Row}
  failures: {type: table, columns: "buildflow.types:DeadLetter"}
consumers:
  work:
    source: jobs
    handler: app:work
    sink: results
    dead_letter: failures
    OPTIONS
"""


def make(folder: Path, options: str, app: str) -> Path:
    return project(folder, YAML.replace("OPTIONS", options), app=app)


def send(folder: Path, *messages: object) -> None:
    sent = platform(folder, "send", "jobs", input="\n".join(json.dumps(m) for m in messages) + "\n")
    assert sent.returncode == 0, sent.stderr


def drained(folder: Path) -> bool:
    consumer = status(folder)["consumers"][0]
    return not consumer["backlog"] and not consumer["in_flight"]


ORDERED = """
import os, random, signal, time
from dataclasses import dataclass
from pathlib import Path

@dataclass
class Row:
    customer: int
    number: int
    at: float

def work(job: dict) -> Row:
    name = f"{job['customer']}-{job['number']}"
    first = not Path(name).exists()
    Path(name).touch()
    if job["number"] % 10 == 3 and first:
        raise ValueError("not the first time")
    if job["number"] == 15 and first:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(random.random() / 100)
    return Row(job["customer"], job["number"], time.monotonic())
"""


@pytest.mark.parametrize("killed", [False, True], ids=["failures", "killed leaders"])
def test_elements_of_one_key_are_handled_in_their_order_over_retries_and_deaths(tmp_path: Path, killed: bool) -> None:
    options = "ordering: {key: customer}\n    replicas: 2\n    retry: {initial: 50ms}"
    folder = make(tmp_path, options, ORDERED)
    customers, each = 5, 20
    with running(folder) as app:
        app.ready()
        send(folder, *({"customer": c, "number": n} for n in range(each) for c in range(customers)))
        if killed:
            for _ in range(3):
                before = len(rows(folder, "results"))
                wait_for(lambda: len(rows(folder, "results")) >= min(before + 5, customers * each))  # noqa: B023
                app.kill("worker")
        wait_for(lambda: len(rows(folder, "results")) >= customers * each, words="every row")
        wait_for(lambda: drained(folder))
    found = sorted(rows(folder, "results"), key=lambda row: row["at"])
    for customer in range(customers):
        assert [row["number"] for row in found if row["customer"] == customer] == list(range(each))
    assert rows(folder, "failures") == []


RATED = """
import time
from dataclasses import dataclass

@dataclass
class Row:
    number: int
    at: float

def work(job: dict) -> Row:
    return Row(job["number"], time.time())
"""


def test_a_rate_is_kept_over_all_processes(tmp_path: Path) -> None:
    folder = make(tmp_path, "rate_limit: 20/s\n    replicas: 2", RATED)
    with running(folder) as app:
        app.ready()
        send(folder, *({"number": n} for n in range(80)))
        wait_for(lambda: len(rows(folder, "results")) == 80)
    times = sorted(row["at"] for row in rows(folder, "results"))
    for first, last in zip(times, times[60:], strict=False):
        assert last - first > 2.5, "61 elements in 2.5 s would be more than 20 a second, a burst and a few under way"
    assert times[-1] - times[0] < 8, "80 elements at 20 a second"


SINKS = """
from dataclasses import dataclass

@dataclass
class Good:
    number: int

@dataclass
class Bad:
    number: int
    reason: str

@dataclass
class Odd:
    number: int

def work(job: dict):
    n = job["number"]
    if n % 5 == 0:
        return Odd(n)
    return [Good(n), Bad(n, "even")] if n % 2 == 0 else Good(n)
"""

SEVERAL = """
project: bindings
primitives:
  jobs: {type: queue, lease: 2s}
  good: {type: table, columns: app:Good}
  bad: {type: table, columns: app:Bad}
  even: {type: table, columns: app:Bad}
  failures: {type: table, columns: "buildflow.types:DeadLetter"}
consumers:
  work:
    source: jobs
    handler: app:work
    sink:
      - {to: good, when: app:Good}
      - {to: bad, when: app:Bad}
      - {to: even, when: {reason: even}}
    dead_letter: failures
    retry: {attempts: 2, initial: 50ms}
"""


def test_rows_go_to_the_sinks_whose_condition_they_meet_and_one_that_meets_none_is_a_failure(tmp_path: Path) -> None:
    folder = project(tmp_path, SEVERAL, app=SINKS)
    with running(folder) as app:
        app.ready()
        send(folder, *({"number": n} for n in range(20)))
        wait_for(lambda: len(rows(folder, "failures")) == 4)
        wait_for(lambda: drained(folder))
    expected = [n for n in range(20) if n % 5]
    assert sorted(row["number"] for row in rows(folder, "good")) == expected
    evens = [n for n in expected if n % 2 == 0]
    assert sorted(row["number"] for row in rows(folder, "bad")) == evens
    assert sorted(row["number"] for row in rows(folder, "even")) == evens
    assert "meets no `when`" in rows(folder, "failures")[0]["error"]


AT_ONCE = """
import asyncio, time
from dataclasses import dataclass

@dataclass
class Row:
    number: int

ASYNC def work(job: dict) -> Row:
    SLEEP
    return Row(job["number"])
"""


@pytest.mark.parametrize("form", ["async", "sync"])
def test_one_process_handles_as_many_elements_at_once_as_its_concurrency(tmp_path: Path, form: str) -> None:
    sleep = "await asyncio.sleep(0.5)" if form == "async" else "time.sleep(0.5)"
    app_text = AT_ONCE.replace("ASYNC", "async" if form == "async" else "").replace("SLEEP", sleep)
    folder = make(tmp_path, "concurrency: 20", app_text.replace("\n def", "\ndef"))
    with running(folder) as app:
        app.ready()
        send(folder, *({"number": n} for n in range(100)))
        wait_for(lambda: len(rows(folder, "results")) == 100, 25, "one by one it would take 50 s")


STUCK = """
import ctypes, os, time
from dataclasses import dataclass

@dataclass
class Row:
    number: int

def work(job: dict) -> Row:
    if job["number"] == 3:
        if os.environ["HOW"] == "gil":
            ctypes.PyDLL(None).sleep(1000)  # PyDLL keeps the interpreter's lock
        time.sleep(1000)
    return Row(job["number"])
"""


@pytest.mark.parametrize(("how", "concurrency"), [("gil", 1), ("thread", 4)])
def test_a_handler_that_cannot_be_stopped_costs_its_own_element_only(
    tmp_path: Path, how: str, concurrency: int
) -> None:
    options = f"timeout: 1s\n    concurrency: {concurrency}\n    retry: {{attempts: 2, initial: 50ms}}"
    folder = make(tmp_path, options, STUCK)
    with running(folder, HOW=how) as app:
        app.ready()
        send(folder, *({"number": n} for n in range(10)))
        failures = wait_for(lambda: rows(folder, "failures"), words="the stuck one is given up")
        wait_for(lambda: drained(folder))
    assert [json.loads(f["payload"]) for f in failures] == [{"number": 3}]
    assert sorted(row["number"] for row in rows(folder, "results")) == [n for n in range(10) if n != 3]


DEADLY = """
import ctypes, os, resource, signal
from dataclasses import dataclass

@dataclass
class Row:
    number: int

def eat(megabytes):
    return [bytearray(10_000_000) for _ in range(0, megabytes, 10)]

def reach_the_limit():
    pages = int(open("/proc/self/statm").read().split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 300_000_000, hard))
    eat(1_000)

def be_chosen_by_the_kernel():
    eaten = eat(300)
    os.kill(os.getpid(), signal.SIGKILL)

def crash():
    ctypes.string_at(0)

def work(job: dict) -> Row:
    if job["number"] == 3:
        globals()[os.environ["HOW"]]()
    return Row(job["number"])
"""


@pytest.mark.parametrize(
    ("how", "reason"),
    [("reach_the_limit", "MemoryError"), ("be_chosen_by_the_kernel", "SIGKILL"), ("crash", "SIGSEGV")],
)
def test_a_handler_that_eats_all_memory_or_crashes_costs_its_own_element_only(
    tmp_path: Path, how: str, reason: str
) -> None:
    folder = make(tmp_path, "retry: {attempts: 2, initial: 50ms}", DEADLY)
    with running(folder, HOW=how) as app:
        app.ready()
        send(folder, *({"number": n} for n in range(10)))
        failures = wait_for(lambda: rows(folder, "failures"), words="the deadly one is given up")
        wait_for(lambda: drained(folder))
        send(folder, *({"number": n} for n in range(10, 20)))
        wait_for(lambda: len(rows(folder, "results")) == 19, words="it goes on, below the limit again")
    assert [json.loads(f["payload"]) for f in failures] == [{"number": 3}]
    assert reason in failures[0]["error"]
    assert sorted(row["number"] for row in rows(folder, "results")) == [n for n in range(20) if n != 3]


ONCE = """
from dataclasses import dataclass
from pathlib import Path

@dataclass
class Row:
    order: str

def work(job: dict) -> Row:
    with Path("calls").open("a") as calls:
        calls.write(job["order"] + "\\n")
    return Row(job["order"])
"""


def test_an_element_whose_key_was_handled_is_not_handled_again(tmp_path: Path) -> None:
    folder = make(tmp_path, "idempotency_key: order", ONCE)
    with running(folder) as app:
        app.ready()
        send(folder, *({"order": name} for name in ("a", "b", "a", "c", "b")))
        wait_for(lambda: drained(folder) and len(rows(folder, "results")) == 3)
        send(folder, {"order": "c"}, {"order": "d"}, {"other": 1})
        wait_for(lambda: drained(folder) and len(rows(folder, "failures")) == 1)
    assert sorted(row["order"] for row in rows(folder, "results")) == ["a", "b", "c", "d"]
    assert sorted((folder / "calls").read_text().split()) == ["a", "b", "c", "d"]
    assert "idempotency_key" in rows(folder, "failures")[0]["error"]


GROWING = """
import time
from dataclasses import dataclass

@dataclass
class Row:
    number: int

def work(job: dict) -> Row:
    time.sleep(0.05)
    return Row(job["number"])
"""


def test_a_pool_grows_with_its_backlog_and_shrinks_when_there_is_little_to_do(tmp_path: Path) -> None:
    folder = make(tmp_path, "replicas: {min: 1, max: 4, target_backlog: 50}", GROWING)

    def children() -> int:
        workers = [p for p in status(folder)["processes"] if p["kind"] == "worker"]
        return len([c for worker in workers for c in worker["children"] if c["state"] == "ready"])

    with running(folder) as app:
        app.ready()
        wait_for(lambda: children() == 1, words="it begins with one")
        send(folder, *({"number": n} for n in range(1200)))
        wait_for(lambda: children() == 4, 20, "it grows")
        wait_for(lambda: len(rows(folder, "results")) == 1200)
        wait_for(lambda: 0 < children() < 4, 60, "it shrinks")
        send(folder, *({"number": n} for n in range(1200, 1210)))
        wait_for(lambda: len(rows(folder, "results")) == 1210)
        assert app.stop(signal.SIGTERM) < 10
    assert rows(folder, "failures") == []
