"""run, and its parts alone: when they start, when they refuse to, and what they leave."""

import json
import re
import socket
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.harness import PATIENCE, PLATFORM, Running, environment, platform, project, running, status, wait_for

YAML = """
project: shop
primitives:
  files: {type: bucket}
  arrivals: {type: file_change_stream, bucket: files}
routes:
  GET /: app:index
consumers:
  note: {source: arrivals, handler: app:note}
"""

APP = """
def index() -> dict: return {"up": True}
def note(event) -> None: ...
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return project(tmp_path, YAML, app=APP)


def run(folder: Path, *arguments: str, expect: int = 0) -> Any:
    result = platform(folder, *arguments)
    assert result.returncode == expect, f"{result.returncode}: {result.stdout}{result.stderr}"
    assert "Traceback" not in result.stderr
    return result


def parts(folder: Path) -> list[str]:
    """What still runs of this project, the Redis that ends a moment after its last user left out."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(folder) and "buildflow.runtime." in (words := " ".join(process.cmdline())):
                found.append(words)
        except psutil.Error:
            continue
    return found


def test_run_applies_nothing_silently(folder: Path) -> None:
    for command in (["run"], ["gateway"], ["worker"], ["watcher"]):
        refused = run(folder, *command, expect=1)
        assert 'stack "local" has changes that were not applied: files, arrivals' in refused.stderr
        assert "platform apply" in refused.stderr
    assert not (folder / ".buildflow/local/buckets").exists()
    assert parts(folder) == []


@pytest.mark.slow
def test_a_redis_that_does_not_answer_is_told_in_words(folder: Path) -> None:
    nobody = "stacks: {local: {provider: local, state_url: 'redis://127.0.0.1:1'}}\n"
    project(folder, YAML + nobody, app=APP)
    for command in (["status"], ["dlq", "ls"]):
        assert "does not answer" in run(folder, *command, expect=1).stderr


@pytest.mark.parametrize(
    ("host", "words"),
    [("127.0.0.1", "is in use"), ("203.0.113.1", "cannot listen on port"), ("no.such.host.invalid", "cannot listen")],
)
def test_an_address_that_cannot_be_had_is_told_in_words_and_nothing_stays(folder: Path, host: str, words: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        failed = run(folder, "run", "--apply", "--host", host, "--port", str(port), expect=1)
    assert words in failed.stderr
    assert str(port) in failed.stderr
    wait_for(lambda: parts(folder) == [], 10)


@pytest.mark.slow
def test_a_handler_that_fails_at_import_keeps_its_process_from_work_and_says_why(folder: Path) -> None:
    project(folder, YAML, app="import no_such_package\n" + APP)
    run(folder, "apply", "--yes")
    with running(folder) as app:
        words = "app.py:1: No module named 'no_such_package'"
        app.wait_for_line(f"worker main is not ready: .*{words}")
        run(folder, "status")
        (folder / ".buildflow/local/buckets/shop-local-files/early").write_text("early")
        app.wait_for_line(f"the gateway takes no requests: .*{words}")
        wait_for(lambda: status(folder)["consumers"][0]["backlog"] == 1, words="it waits")
        found = wait_for(lambda: (s := status(folder)) and failed_in(s) == {"worker", "gateway"} and s)
        assert found["ready"] is False
        by_kind = {p["kind"]: p for p in found["processes"]}
        assert words in by_kind["worker"]["error"]
        assert "pip install no_such_package" in by_kind["worker"]["error"]
        assert found["consumers"][0]["in_flight"] == 0
        shown = run(folder, "status").stdout
        assert "no_such_package" in shown
        (folder / "no_such_package.py").touch()
        app.ready()
        wait_for(lambda: status(folder)["consumers"][0]["backlog"] == 0, words="it is handled after all")


def failed_in(found: dict[str, Any]) -> set[str]:
    return {p["kind"] for p in found["processes"] if p["state"] == "failed"}


@pytest.mark.slow
def test_the_parts_alone_are_the_same_program(folder: Path) -> None:
    run(folder, "apply", "--yes")
    alone = [["gateway", "--port", "0"], ["worker"], ["worker", "--pool", "main"], ["watcher"], ["watcher"]]
    started = [
        subprocess.Popen([*PLATFORM, *a], cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True)
        for a in alone
    ]
    try:
        wait_for(lambda: status(folder)["ready"] and len(status(folder)["processes"]) == 5)
        wait_for(lambda: any(p.get("leading") for p in status(folder)["processes"]), words="a watcher leads")
        found = status(folder)["processes"]
        assert sorted(p["kind"] for p in found) == ["gateway", "watcher", "watcher", "worker", "worker"]
        assert [p["leading"] for p in found if p["kind"] == "watcher"].count(True) == 1
        (folder / ".buildflow/local/buckets/shop-local-files/a").write_text("a")
        wait_for(lambda: sum(c["done"] for c in status(folder)["consumers"]) == 1)
    finally:
        for process in started:
            process.terminate()
        said = [process.communicate(timeout=PATIENCE)[1] for process in started]
    assert [process.returncode for process in started] == [0] * 5
    assert re.search(r"open http://127\.0\.0\.1:\d+", said[0])
    assert not any("Traceback" in text for text in said)


def newest(app: Running) -> Any:
    """What the last version that said where it is answers; None between two versions."""
    url = next(m[1] for line in reversed(app.log) if (m := re.search(r"open (http://[\d.:]+)", line)))
    try:
        with urllib.request.urlopen(f"{url}/", timeout=30) as answer:
            return json.load(answer)
    except OSError:
        return None


@pytest.mark.slow
def test_reload_shows_a_mistake_and_waits_for_its_cure(folder: Path) -> None:
    with running(folder, "--reload") as app:
        app.ready()
        assert json.loads(app.get("/")) == {"up": True}
        (folder / "buildflow.yaml").write_text("project: [")
        app.wait_for_line(r"BF101")
        assert app.process.poll() is None
        project(folder, YAML, app=APP.replace("True", "'again'"))
        wait_for(lambda: newest(app) == {"up": "again"}, words=app.text)  # each file may start a version of its own
        app.stop()
        assert app.process.returncode == 0
    assert parts(folder) == []
