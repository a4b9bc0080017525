"""Dependencies of real processes: waited for, tried again, shared by scope, closed in reverse."""

import json
import urllib.error
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Running, platform, project, rows, running, status, wait_for

pytestmark = pytest.mark.slow


def send(folder: Path, source: str, *messages: Any) -> None:
    result = platform(folder, "send", source, *(json.dumps(m) for m in messages))
    assert result.returncode == 0, result.stderr


def worker(folder: Path) -> dict[str, Any]:
    found = [p for p in status(folder)["processes"] if p["kind"] == "worker"]
    return found[0] if found else {"state": "none", "error": ""}


def answer(app: Running, path: str) -> tuple[int, dict[str, Any]]:
    try:
        return 200, app.get_json(path)
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, json.loads(exc.read())


# waited for, and tried again

PATIENT = """
project: patient
primitives:
  jobs: {type: queue}
  results: {type: table, columns: {n: integer, model: string}}
dependencies:
  model: {factory: app:load_model}
consumers:
  work: {source: jobs, handler: app:work, sink: results}
"""

SLOW = """
import time
from pathlib import Path

def load_model() -> str:
    time.sleep(8)
    while not Path("arrived").exists():
        time.sleep(0.05)
    return "slow"

def work(job: dict, model: str) -> dict:
    return {"n": job["n"], "model": model}
"""


def test_a_dependency_that_takes_its_time_is_waited_for(tmp_path: Path) -> None:
    project(tmp_path, PATIENT, app=SLOW)
    with running(tmp_path) as app:
        wait_for(lambda: worker(tmp_path)["state"] == "building")
        send(tmp_path, "jobs", *({"n": n} for n in range(20)))
        found = status(tmp_path)
        assert (found["ready"], found["consumers"][0]["backlog"], found["consumers"][0]["in_flight"]) == (False, 20, 0)
        (tmp_path / "arrived").touch()
        app.ready()
        wait_for(lambda: len(rows(tmp_path, "results")) >= 20)
        assert sorted(row["n"] for row in rows(tmp_path, "results")) == list(range(20))
        assert worker(tmp_path)["state"] == "ready"


def test_ctrl_c_does_not_wait_for_a_dependency_that_takes_its_time(tmp_path: Path) -> None:
    project(tmp_path, PATIENT, app=SLOW.replace("sleep(8)", "sleep(60)"))
    with running(tmp_path) as app:
        wait_for(lambda: worker(tmp_path)["state"] == "building" and app.processes("child"))
        assert app.stop() < 5
        assert app._all() == []


FICKLE = """
from pathlib import Path

def load_model() -> str:
    with open(f"{where}-tries", "a+") as tries:
        tries.write("x")
        tries.seek(0)
        count = len(tries.read())
    if count < 3 or not Path("opening-hours").exists():
        raise ConnectionError(f"the shop is closed, try {count}")
    return "open"

def work(job: dict, model: str) -> dict:
    return {"n": job["n"], "model": model}

def index(model: str) -> dict:
    return {"model": model}
"""


@pytest.mark.parametrize("scope", ["replica", "global"])
def test_a_dependency_that_fails_keeps_its_pool_from_work_says_why_and_is_tried_again(
    tmp_path: Path, scope: str
) -> None:
    yaml = PATIENT.replace("load_model}", f"load_model, scope: {scope}}}")
    project(tmp_path, yaml, app=FICKLE.replace("{where}", "worker"))
    words = 'dependency "model" (app:load_model) raised ConnectionError: the shop is closed, try'
    with running(tmp_path) as app:
        app.wait_for_line("on stack local")  # it is applied by then
        send(tmp_path, "jobs", {"n": 1})
        failing = wait_for(lambda: (w := worker(tmp_path))["state"] == "failed" and w)
        assert words in failing["error"]
        app.wait_for_line("worker main is not ready: .*the shop is closed")
        assert status(tmp_path)["consumers"][0]["backlog"] == 1
        (tmp_path / "opening-hours").touch()
        app.ready()
        wait_for(lambda: rows(tmp_path, "results") == [{"n": 1, "model": "open"}])
        wait_for(lambda: worker(tmp_path)["error"] == "", words="status tells what the next heartbeat says")
        assert len((tmp_path / "worker-tries").read_text()) >= 3


def test_a_gateway_whose_dependency_fails_answers_503_says_why_in_status_and_recovers(tmp_path: Path) -> None:
    yaml = "project: patient\ndependencies: {model: {factory: app:load_model}}\nroutes: {GET /: app:index}\n"
    project(tmp_path, yaml, app=FICKLE.replace("{where}", "gateway"))
    with running(tmp_path) as app:
        failing = app.wait_for_line(r"gateway takes no requests: .*the shop is closed")
        assert failing
        # until it is ready nobody is told where to click: the port is the supervisor's socket
        port = wait_for(lambda: _port(app))
        assert wait_for(lambda: _ask(port, "/"))[0] == 503
        assert _ask(port, "/_platform/readyz") == (503, {"status": "failed"})
        shown = wait_for(lambda: [p for p in status(tmp_path)["processes"] if p["state"] == "failed"])
        assert "the shop is closed" in shown[0]["error"]
        assert _ask(port, "/_platform/healthz")[0] == 200
        (tmp_path / "opening-hours").touch()
        app.ready()
        assert answer(app, "/") == (200, {"model": "open"})
        assert answer(app, "/_platform/readyz") == (200, {"status": "ready"})


def _port(app: Running) -> int | None:
    for process in app.processes("gateway"):
        for connection in process.net_connections("tcp"):
            if connection.status == "LISTEN":
                return int(connection.laddr.port)
    return None


def _ask(port: int, path: str) -> tuple[int, dict[str, Any]]:
    import urllib.request

    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as good:
            return 200, json.loads(good.read())
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, json.loads(exc.read())


# scopes, forms, clean-up

SCOPES = """
project: scopes
primitives:
  jobs: {type: queue}
  files: {type: bucket}
  seen: {type: table, columns: app:Seen}
dependencies:
  once: {factory: app:once, scope: global}
  own: {factory: app:own, scope: replica}
  engine: {factory: app:engine, scope: replica, with: {dsn: "db://${stack}"}}
  store: {factory: app:Store, scope: replica}
  session: {factory: app:session, scope: process}
  unit: {factory: app:unit, scope: request}
  token: {factory: app:token, scope: none}
routes:
  GET /seen: app:look
  GET /fails: app:fails
consumers:
  work: {source: jobs, handler: app:work, sink: seen, replicas: 2}
"""

SCOPES_APP = """
import asyncio, contextlib, itertools, os, time
from dataclasses import dataclass
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from buildflow.types import Bucket

def note(text):
    with open("events", "a") as file:
        file.write(f"{os.getpid()} {text}\\n")

counter = itertools.count()

def once() -> Iterator[str]:
    note("once opened")
    yield f"once-{os.getpid()}"
    note("once closed")

def own() -> str:
    note("own built")
    return f"own-{os.getpid()}"

async def engine(dsn: str, once: str) -> AsyncIterator[str]:
    await asyncio.sleep(0)
    note("engine opened")
    yield f"engine of {dsn} on {once}"
    note("engine closed")

class Store:
    def __init__(self, files: Bucket, engine: str) -> None:
        self.files = files
    def __enter__(self):
        note("store opened")
        return self
    def __exit__(self, *failure):
        note("store closed")

@contextlib.contextmanager
def session(store) -> Iterator[int]:
    number = next(counter)
    note(f"session {number} opened")
    yield number
    note(f"session {number} closed")

async def unit(session: int) -> str:
    return f"unit-{session}"

def token() -> int:
    return next(counter)

@dataclass
class Seen:
    n: int
    pid: int
    once: str
    own: str
    engine: str
    session: int
    unit: str
    token: int
    listed: int

def look(once: str, own: str, engine: str, store, session: int, unit: str, token: int) -> dict:
    note(f"handled with {session}")
    store.files.write(f"routes/{session}", "x")
    return {"once": once, "own": own, "engine": engine, "session": session, "unit": unit, "token": token}

def fails(session: int) -> dict:
    raise RuntimeError("a handler that fails")

def work(job: dict, once, own, engine, store, session, unit, token) -> Seen:
    note(f"handled with {session}")
    time.sleep(0.05)
    store.files.write(f"jobs/{job['n']}", "x")
    listed = len(list(store.files.list("jobs/")))
    return Seen(job["n"], os.getpid(), once, own, engine, session, unit, token, listed)
"""


class Story:
    """What one run of the app did: the rows, the answers, and the events that it wrote while it ran and ended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with running(folder) as app:
            app.ready()
            send(folder, "jobs", *({"n": n} for n in range(40)))
            self.answers = [app.get_json("/seen") for _ in range(3)]
            self.failed = answer_code(app, "/fails")
            wait_for(lambda: len(rows(folder, "seen")) == 40)
            self.rows = rows(folder, "seen")
            self.during = self.events()
            self.seconds = app.stop()
            self.code = app.process.returncode
            self.log = app.text
        self.after = self.events()[len(self.during) :]

    def events(self) -> list[tuple[int, str]]:
        lines = (self.folder / "events").read_text().splitlines()
        return [(int(pid), text) for pid, _, text in (line.partition(" ") for line in lines)]


def answer_code(app: Running, path: str) -> int:
    try:
        app.get(path)
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code
    return 200


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return Story(project(tmp_path_factory.mktemp("scopes"), SCOPES, app=SCOPES_APP))


def test_global_is_built_once_before_the_pool_forks(story: Story) -> None:
    assert len({row["pid"] for row in story.rows}) == 2, "both replicas took work"
    [value] = {row["once"] for row in story.rows}
    assert value not in {f"once-{row['pid']}" for row in story.rows}, "it was built before the fork"
    assert sum(text == "once opened" for _, text in story.during) == 2, "the pool's one and the gateway's"
    assert {a["once"] for a in story.answers} != {value}, "another process group has its own"


def test_replica_is_built_once_a_process(story: Story) -> None:
    assert all(row["own"] == f"own-{row['pid']}" for row in story.rows)
    built = Counter(pid for pid, text in story.during if text == "own built")
    assert len(built) == 3
    assert set(built.values()) == {1}


def test_request_is_built_once_an_element_or_request_and_closed_after_it(story: Story) -> None:
    for row in [*story.rows, *story.answers]:
        assert row["unit"] == f"unit-{row['session']}", "everything within one element shares it"
    for pid in {pid for pid, _ in story.during}:
        texts = [text for p, text in story.during if p == pid and ("session" in text or "handled" in text)]
        numbers = [text.split()[1] for text in texts if text.endswith("opened")]
        assert len(set(numbers)) == len(numbers)
    for row in story.rows:
        texts = [text for p, text in story.during if p == row["pid"]]
        life = [f"session {row['session']} opened", f"handled with {row['session']}",
                f"session {row['session']} closed"]  # fmt: skip
        assert [text for text in texts if text in life] == life
    for given in story.answers:
        assert any(text == f"session {given['session']} closed" for _, text in story.during)


def test_none_is_built_anew_at_each_injection(story: Story) -> None:
    by_process: dict[int, list[int]] = {}
    for row in story.rows:
        by_process.setdefault(row["pid"], []).append(row["token"])
        assert row["token"] != row["session"]
    for tokens in by_process.values():
        assert len(set(tokens)) == len(tokens)


def test_dependencies_get_dependencies_values_and_handles(story: Story) -> None:
    assert all(row["engine"] == f"engine of db://local on {row['once']}" for row in [*story.rows, *story.answers])
    assert max(row["listed"] for row in story.rows) >= 39
    files = story.folder / ".buildflow/local/buckets/scopes-local-files"
    assert len(list((files / "jobs").iterdir())) == 40
    assert len(list((files / "routes").iterdir())) == len({a["session"] for a in story.answers})


def test_a_route_that_fails_is_500_and_the_gateway_goes_on(story: Story) -> None:
    assert story.failed == 500


def test_clean_up_runs_in_reverse_at_the_end_in_every_process(story: Story) -> None:
    assert story.code == 0
    assert story.seconds < 8
    closed: dict[int, list[str]] = {}
    for pid, text in story.after:
        if text.endswith("closed") and "session" not in text:
            closed.setdefault(pid, []).append(text)
    replicas = {row["pid"] for row in story.rows}
    assert all(closed[pid] == ["store closed", "engine closed"] for pid in replicas)
    others = sorted(texts for pid, texts in closed.items() if pid not in replicas)
    assert others == [
        ["once closed"],  # the pool's main process
        ["store closed", "engine closed", "once closed"],  # the gateway
    ]
    ending = story.log.partition("stopping")[2]
    assert "Traceback" not in ending
    assert "ERROR" not in ending
