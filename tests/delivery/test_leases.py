"""Leases of a running worker: renewed while a handler works or a group fills, kept over the loss of the broker."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.delivery import measured
from tests.harness import (
    PLATFORM,
    environment,
    kill_all,
    platform,
    processes_in,
    project,
    rows,
    running,
    status,
    wait_for,
)

pytestmark = pytest.mark.slow

YAML = """
project: leases
primitives:
  jobs: {type: queue, lease: 2s}
  results: {type: table, columns: app:Row}
consumers:
  work:
    source: jobs
    handler: app:work
    sink: results
    batch: {BATCH}
"""

APP = """
import os, time
from dataclasses import dataclass

@dataclass
class Row:
    name: str

def work(job: str) -> Row:
    with open("calls", "a") as calls:
        calls.write(job + "\\n")
    time.sleep(float(os.environ.get("SLOW", "0")))
    return Row(job)
"""


def make(tmp_path: Path, batch: str = "size: 100") -> Path:
    return project(tmp_path, YAML.replace("BATCH", batch), app=APP)


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().split() if (folder / "calls").exists() else []


def test_a_slow_handler_keeps_its_lease_though_another_worker_waits(tmp_path: Path) -> None:
    folder = make(tmp_path)
    with running(folder, SLOW="6") as app:
        app.ready()
        other = subprocess.Popen(
            [*PLATFORM, "worker"], cwd=folder, env=environment(SLOW="6"), stderr=subprocess.DEVNULL
        )
        try:
            wait_for(lambda: len([p for p in status(folder)["processes"] if p["kind"] == "worker"]) == 2)
            assert platform(folder, "send", "jobs", "one").returncode == 0
            wait_for(lambda: rows(folder, "results"))
            assert calls(folder) == ["one"], "a renewed lease is nobody else's"
        finally:
            other.send_signal(signal.SIGINT)
            other.wait(timeout=60)


def test_a_group_that_fills_longer_than_its_lease_is_leased_once(tmp_path: Path) -> None:
    folder = make(tmp_path, "size: 3, linger: 10m")
    with running(folder) as app:
        app.ready()
        assert platform(folder, "send", "jobs", "a", "b").returncode == 0
        wait_for(lambda: status(folder)["consumers"][0]["in_flight"] == 2)
        time.sleep(4)  # twice the lease: time is what it is about
        assert calls(folder) == []
        assert platform(folder, "send", "jobs", "c").returncode == 0
        wait_for(lambda: len(rows(folder, "results")) == 3)
        assert sorted(calls(folder)) == ["a", "b", "c"]
        assert platform(folder, "dlq", "ls", "--json").stdout.strip() == "[]"


HOLDS = """
project: holds
primitives:
  jobs: {type: queue, lease: 2s}
consumers:
  work: {source: jobs, handler: app:work}
"""

HELD = """
import time
from buildflow.types import Message

def work(job: Message[str]) -> None:
    with open("calls", "a") as calls:
        calls.write(f"{job.attempt} {time.time()}\\n")
    if job.attempt == 1:
        time.sleep(1000)
"""
LEASE = 2.0
LOOK = 1.0
"""Seconds for which a worker that has nothing to do waits for a message, before it looks for lapsed leases again."""
SLACK = 0.5
ELSEWHERE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
"""From process ids of its own nobody can tell that a process has died, as from another machine."""


@pytest.mark.parametrize(("place", "within"), [("here", LEASE), ("elsewhere", LEASE + LOOK + SLACK)])
def test_what_a_killed_worker_held_is_with_another_within_the_lease(tmp_path: Path, place: str, within: float) -> None:
    """On one machine it is seen that a process has died; of another machine's, the lease has to lapse."""
    enter = ELSEWHERE if place == "elsewhere" else []
    if enter and (not shutil.which("unshare") or subprocess.run([*enter, "true"], check=False).returncode):
        pytest.skip("process ids of its own need the right to `unshare`")
    folder = project(tmp_path, HOLDS, app=HELD)
    with running(folder) as app, (folder / "other.log").open("w") as log:
        app.ready()
        (survivor,) = app.processes("worker")
        other = subprocess.Popen([*enter, *PLATFORM, "worker"], cwd=folder, env=environment(), stderr=log)
        wait_for(lambda: "ready in" in (folder / "other.log").read_text())
        survivor.suspend()
        assert platform(folder, "send", "jobs", "one").returncode == 0
        wait_for(lambda: calls(folder))
        survivor.resume()
        victim = psutil.Process(other.pid)
        victims = [victim, *victim.children(recursive=True)]
        killed = time.time()
        kill_all(victims)
        other.wait()
        wait_for(lambda: len(calls(folder)) == 4)
        wait_for(lambda: not status(folder)["consumers"][0]["in_flight"])
    first, _, second, at = calls(folder)
    assert (first, second) == ("1", "2")
    assert float(at) - killed < within
    measured.tell(
        f"a worker killed {place}: another has its element after {float(at) - killed:.1f} s, lease {LEASE:g} s"
    )


def test_a_busy_pool_goes_on_after_it_lost_its_broker_again_and_again(tmp_path: Path) -> None:
    folder = make(tmp_path)
    with running(folder, SLOW="0.05") as app:
        app.ready()
        for round in range(3):
            names = [f"r{round}-{i}" for i in range(20)]
            assert platform(folder, "send", "jobs", *names).returncode == 0
            wait_for(lambda: len(rows(folder, "results")) > 20 * round)  # noqa: B023 - called here
            app.kill("redis")
            wait_for(lambda: len(rows(folder, "results")) >= 20 * (round + 1))  # noqa: B023 - called here
        wait_for(lambda: not status(folder)["consumers"][0]["in_flight"])
        found = [row["name"] for row in rows(folder, "results")]
        assert len(found) == len(set(found)) == 60


def test_a_run_whose_log_nobody_reads_still_restarts_its_parts_and_ends(tmp_path: Path) -> None:
    folder = make(tmp_path)
    command = [*PLATFORM, "run", "--apply", "--port", "0"]
    run = subprocess.Popen(command, cwd=folder, env=environment(), stderr=subprocess.PIPE, start_new_session=True)
    assert run.stderr is not None
    try:
        for line in run.stderr:
            if b"ready in" in line:
                break
        run.stderr.close()
        (worker,) = status(folder)["processes"]
        os.kill(worker["pid"], signal.SIGKILL)
        wait_for(lambda: (s := status(folder))["ready"] and s["processes"][0]["pid"] != worker["pid"])
        started = time.monotonic()
        run.send_signal(signal.SIGTERM)
        run.wait(timeout=30)
        assert time.monotonic() - started < 10
        assert processes_in(folder) == []
    finally:
        kill_all(processes_in(folder))
        run.wait()
