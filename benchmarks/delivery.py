"""Messages a second, from a full queue to committed rows: against Celery and FastStream as one writes them by hand.

Everybody finds the messages in the same Redis, with two processes to work them off, and runs in turns.
"""

import contextlib
import functools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from redis import Redis

from benchmarks.figures import Figure
from buildflow.primitives.redis_stream import RedisStream
from buildflow.providers.redis_service import attach
from tests.harness import PLATFORM, ROOT, environment, platform, project

ROUNDS = 3
MESSAGES, TASKS, SINGLES = 60_000, 4_000, 4_000
POLL = 0.004

YAML = """
project: bench
primitives:
  jobs: {type: queue}
  SINK
consumers:
  work:
    source: jobs
    handler: app:HANDLER
    replicas: 2
    OPTIONS
"""

APP = """
from dataclasses import dataclass

@dataclass
class Row:
    id: int
    name: str

def batch(jobs: list[Row]) -> list[Row]:
    return jobs

def one(job: dict) -> None:
    return None
"""

TABLE = "rows: {type: table, columns: app:Row}"
DATABASE = "rows: {type: database, table: rows, columns: app:Row}"


@dataclass(frozen=True)
class Form:
    """One way to work messages off, and how many times Celery's rate is promised of it."""

    name: str
    handler: str
    options: str
    target: float
    sink: str = TABLE
    messages: int = MESSAGES


BATCHES = Form("queue -> handler -> DuckDB, batches", "batch", "batch: {size: 1000}\n    sink: rows", 15)
FORMS = [
    BATCHES,
    Form("queue -> handler -> PostgreSQL, batches", "batch", "batch: {size: 1000}\n    sink: rows", 10, DATABASE),
    Form("a handler an element, no sink", "one", "batch: {size: 1000}", 15),
    Form("a handler an element, batch of 1", "one", "batch: {size: 1}", 1, messages=SINGLES),
]


def measure() -> list[Figure]:
    runs: dict[str, Callable[[], float]] = {
        "celery": _celery,
        "faststream": _faststream,
        **{form.name: functools.partial(_own, form) for form in FORMS},
    }
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            found[name].append(run())
    rates = {name: median(values) for name, values in found.items()}
    peer = f"Celery by hand {rates['celery']:,.0f}/s"
    return [
        *(
            Figure(
                f"{form.name} / Celery by hand",
                round(rates[form.name] / rates["celery"], 1),
                "x",
                form.target,
                "more",
                f"{rates[form.name]:,.0f}/s; {peer}",
            )
            for form in FORMS
        ),
        Figure(
            "queue -> DuckDB / FastStream's batches with DuckDB by hand",
            round(rates[BATCHES.name] / rates["faststream"], 2),
            "x",
            0.4,
            "more",
            f"{rates[BATCHES.name]:,.0f}/s; FastStream {rates['faststream']:,.0f}/s",
        ),
        *_latency(),
    ]


def _own(form: Form) -> float:
    count = form.messages
    with _stack(form.handler, form.options, form.sink) as (folder, redis):
        stream = RedisStream(redis, "bench-local-jobs")
        stream.send_many((b'{"id": %d, "name": "name %d"}' % (i, i), {}, None) for i in range(count))
        with _process([*PLATFORM, "worker"], folder):
            return _rate(lambda: redis.xlen(stream.key), count)


def _celery() -> float:
    with _stack("one", "") as (folder, redis):
        url = attach(folder / ".buildflow/local").kombu_url
        given = {"BROKER": url}
        script = f"import hand_written_celery as h\nfor i in range({TASKS}): h.work.delay(i)"
        here = environment(PYTHONPATH=str(ROOT / "benchmarks"), **given)
        subprocess.run([sys.executable, "-c", script], env=here, check=True)
        command = [sys.executable, "-m", "celery", "-A", "hand_written_celery", "worker", "-c", "2", "-l", "ERROR"]
        place = redis.connection_pool.connection_kwargs
        broker = Redis(unix_socket_path=place["path"], password=place["password"], db=1)
        with _process(command, folder, PYTHONPATH=str(ROOT / "benchmarks"), **given):
            return _rate(lambda: broker.llen("celery"), TASKS)


def _faststream() -> float:
    with _stack("one", "") as (folder, redis):
        stream = RedisStream(redis, "faststream")
        stream.ensure()
        redis.xgroup_create("peer", "peer", id="0", mkstream=True)
        with redis.pipeline(transaction=False) as pipe:
            for i in range(MESSAGES):
                pipe.xadd("peer", {"__data__": b'{"id": %d, "name": "name %d"}' % (i, i)})
            pipe.execute()
        last = redis.xrevrange("peer", count=1)[0][0]

        def left() -> int:
            (group,) = redis.xinfo_groups("peer")
            if group["last-delivered-id"] == b"0-0":
                return MESSAGES
            return 0 if group["last-delivered-id"] == last and not group["pending"] else 1

        url = redis.connection_pool.connection_kwargs
        given = {"REDIS": f"unix://:{url.get('password') or ''}@{url['path']}"}
        command = [sys.executable, "-m", "faststream", "run", "hand_written_faststream:app", "--workers", "1"]
        with _process(command, folder, PYTHONPATH=str(ROOT / "benchmarks"), ROWS=str(folder / "peer.duckdb"), **given):
            return _rate(left, MESSAGES)


def _latency() -> list[Figure]:
    """From `send` to the committed row, in a system with nothing else to do."""
    seconds = []
    with _stack("batch", "sink: rows") as (folder, redis), _process([*PLATFORM, "worker"], folder):
        stream = RedisStream(redis, "bench-local-jobs")
        for number in range(43):
            started = time.perf_counter()
            stream.send(b'{"id": %d, "name": "x"}' % number, {})
            while redis.xlen(stream.key):
                time.sleep(0.001)
            if number >= 3:
                seconds.append(time.perf_counter() - started)
            time.sleep(0.05)
    return [
        Figure(
            "one message, idle: sent to acknowledged row in DuckDB",
            round(median(seconds) * 1000),
            "ms",
            60,
            note=f"{len(seconds)} messages, slowest {max(seconds) * 1000:.0f} ms",
        )
    ]


def _rate(left: Callable[[], int], count: int, timeout: float = 120) -> float:
    """Messages a second, from the first that is gone to the last."""
    deadline = time.monotonic() + timeout
    started, there = 0.0, count
    while there:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{there} of {count} are left after {timeout:g} s")
        there = left()
        if not started and there < count:
            started, count = time.perf_counter(), there if there > 1 else count
        time.sleep(POLL)
    return count / (time.perf_counter() - started)


@contextlib.contextmanager
def _stack(handler: str, options: str, sink: str = TABLE) -> Iterator[tuple[Path, Any]]:
    with tempfile.TemporaryDirectory(prefix="bf-") as name:
        text = YAML.replace("HANDLER", handler).replace("OPTIONS", options).replace("SINK", sink)
        folder = project(Path(name), text, app=APP)
        applied = platform(folder, "apply", "--yes")
        assert applied.returncode == 0, applied.stderr
        service = attach(folder / ".buildflow/local")
        try:
            yield folder, service.client()
        finally:
            service.close(5.0)


@contextlib.contextmanager
def _process(command: list[str], folder: Path, **more: str) -> Iterator[None]:
    path = os.pathsep.join(filter(None, (more.pop("PYTHONPATH", ""), str(ROOT / "platform"))))
    with (folder / "log").open("w") as log:
        started = subprocess.Popen(
            command, cwd=folder, env={**environment(**more), "PYTHONPATH": path}, stdout=log, stderr=log
        )
        try:
            yield
        except Exception as exc:
            raise RuntimeError(f"{exc}; its log: {(folder / 'log').read_text()[-2000:]}") from exc
        finally:
            everything = [*psutil.Process(started.pid).children(recursive=True)] if started.poll() is None else []
            started.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.wait(15)
            for process in everything:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            started.kill()
            started.wait()
