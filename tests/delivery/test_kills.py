"""Whatever is killed, every element ends in exactly one row, or in the dead letters with its reason."""

import json
import os
import signal
from pathlib import Path

import pytest

from tests.harness import Running, kill_all, platform, project, rows, running, status, wait_for

pytestmark = pytest.mark.slow

YAML = """
project: kills
primitives:
  drops: {type: bucket}
  arrivals: {type: file_change_stream, bucket: drops}
  results: {type: table, columns: app:Row}
  failures: {type: table, columns: "buildflow.types:DeadLetter"}
consumers:
  note:
    source: arrivals
    handler: app:note
    sink: results
    dead_letter: failures
    retry: {initial: 100ms, attempts: 3}
routes:
  POST /drops/{name}: app:drop
"""

APP = """
import os, signal, time
from dataclasses import dataclass
from pathlib import Path
from buildflow.types import Bucket, FileChangeEvent

@dataclass
class Row:
    name: str

def drop(name: str, drops: Bucket) -> dict:
    drops.write(name, name)
    return {"name": name}

def note(event: FileChangeEvent) -> Row:
    Path("begun").touch()
    if event.file_path.startswith("deadly"):
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(float(os.environ.get("SLOW", "0.05")))
    return Row(event.blob.decode())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return project(tmp_path, YAML, app=APP)


def drop(app: Running, *names: str) -> None:
    for name in names:
        app.post(f"/drops/{name}")


def expect_rows(folder: Path, names: list[str]) -> None:
    wait_for(lambda: len(rows(folder, "results")) >= len(names), words=f"{len(names)} rows")
    wait_for(lambda: all(not c["backlog"] and not c["in_flight"] for c in status(folder)["consumers"]))
    found = sorted(row["name"] for row in rows(folder, "results"))
    assert found == sorted(names), "each element has to have exactly one row"


NAMES = [f"file{i:02}" for i in range(30)]


@pytest.mark.parametrize("victim", ["child", "worker", "watcher", "redis", "guard", "gateway"])
def test_a_killed_part_comes_back_and_nothing_is_lost_or_doubled(folder: Path, victim: str) -> None:
    with running(folder) as app:
        app.ready()
        drop(app, *NAMES)
        wait_for((folder / "begun").exists)
        app.kill(victim)
        late = ["late1", "late2"]
        for name in late:
            (folder / f".buildflow/local/buckets/kills-local-drops/{name}").write_text(name)
        expect_rows(folder, [*NAMES, *late])
        wait_for(lambda: status(folder)["ready"], words="everything is ready again")
        assert rows(folder, "failures") == []


@pytest.mark.parametrize("everything", [False, True], ids=["supervisor", "all at once"])
def test_a_killed_run_starts_again_where_it_was(folder: Path, everything: bool) -> None:
    with running(folder) as app:
        app.ready()
        drop(app, *NAMES)
        wait_for((folder / "begun").exists)
        victims = app._all() if everything else [p for p in app._all() if p.pid == app.process.pid]
        kill_all(victims)
        app.process.wait(timeout=10)
        wait_for(lambda: not app._all(), 10, "all parts die with their supervisor")
    (folder / ".buildflow/local/buckets/kills-local-drops/meanwhile").write_text("meanwhile")
    with running(folder) as app:
        expect_rows(folder, [*NAMES, "meanwhile"])


def test_an_element_that_kills_its_process_ends_in_the_dead_letters_its_neighbours_in_the_table(folder: Path) -> None:
    with running(folder) as app:
        app.ready()
        drop(app, "good1", "deadly", "good2", "good3")
        expect_rows(folder, ["good1", "good2", "good3"])
        failures = wait_for(lambda: rows(folder, "failures"), words="the deadly one is given up")
        assert len(failures) == 1
        assert json.loads(failures[0]["payload"])["file_path"] == "deadly"
        assert "SIGKILL" in failures[0]["error"] or "signal 9" in failures[0]["error"]
        drop(app, "after")
        expect_rows(folder, ["good1", "good2", "good3", "after"])
        assert status(folder)["consumers"][0]["backlog"] == 0


def test_an_idle_run_ends_within_five_seconds_and_leaves_nothing_behind(folder: Path) -> None:
    with running(folder) as app:
        app.ready()
        assert app.stop(signal.SIGINT) < 5
        assert app.process.returncode == 0
        assert app._all() == []


def test_a_busy_run_ends_within_ten_seconds_and_loses_nothing(folder: Path) -> None:
    with running(folder, SLOW="0.4") as app:
        app.ready()
        drop(app, *NAMES)
        wait_for((folder / "begun").exists)
        assert app.stop(signal.SIGTERM) < 10
        assert app._all() == []
    with running(folder):
        expect_rows(folder, NAMES)


def test_ctrl_c_in_a_terminal_reaches_the_supervisor_alone(folder: Path) -> None:
    with running(folder) as app:
        app.ready()
        sessions = {os.getsid(p.pid) for kind in ("gateway", "worker", "watcher") for p in app.processes(kind)}
        assert len(sessions) == 3
        assert os.getsid(app.process.pid) not in sessions


def test_a_dead_letter_is_shown_and_replayed(folder: Path) -> None:
    patient = "def note(event: FileChangeEvent) -> Row:\n    if not Path('cured').exists(): raise ValueError('not yet')"
    (folder / "app.py").write_text(APP.replace("def note(event: FileChangeEvent) -> Row:", patient))
    with running(folder) as app:
        app.ready()
        drop(app, "patient")
        letters = wait_for(lambda: json.loads(platform(folder, "dlq", "ls", "--all", "--json").stdout))
        assert letters[0]["error"] == "ValueError: not yet"
        assert letters[0]["attempts"] == 3
        shown = platform(folder, "dlq", "show", "note", letters[0]["id"][:8])
        assert "not yet" in shown.stdout
        assert "in note" in shown.stdout
        (folder / "cured").touch()
        assert platform(folder, "dlq", "replay", "note").returncode == 0
        expect_rows(folder, ["patient"])
        assert json.loads(platform(folder, "dlq", "ls", "--all", "--json").stdout) == []
