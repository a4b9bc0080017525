"""status, once and again, of a stack that runs, fails and stops."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import PATIENCE, PLATFORM, Running, environment, platform, project, running, status, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("cli-status")]  # they share one running app

YAML = """
project: port
primitives:
  crates: {type: queue}
  confirmations_to_customers: {type: queue}
  graves: {type: table, columns: buildflow.types:DeadLetter}
consumers:
  unload: {source: crates, handler: port:unload}
  send_confirmation:
    source: confirmations_to_customers
    handler: port:confirm
    dead_letter: graves
    retry: {attempts: 1}
"""
MODULE = """
import time

def unload(crate: dict) -> None:
    time.sleep(0.02)

def confirm(text: str) -> None:
    raise OSError("the mail server refused the message: 550 mailbox unavailable")
"""


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(project(tmp_path_factory.mktemp("port"), YAML, port=MODULE)) as app:
        yield app.ready()


@pytest.fixture
def folder(port: Running) -> Path:
    return port.folder


def consumer(folder: Path, key: str) -> dict[str, Any]:
    return next(c for c in status(folder)["consumers"] if c["consumer"] == key)


def test_a_consumer_s_figures(folder: Path) -> None:
    sent = platform(folder, "send", "crates", input='{"id": 1}\n' * 600)
    assert sent.returncode == 0, sent.stderr
    busy = wait_for(lambda: (c := consumer(folder, "unload"))["rate"] and c["in_flight"] and c["done"] and c)
    assert 0 < busy["rate"] <= 60
    assert busy["backlog"] + busy["in_flight"] + busy["done"] >= 500
    wait_for(lambda: consumer(folder, "unload")["done"] == 600)
    done = consumer(folder, "unload")
    assert (done["backlog"], done["in_flight"], done["failed"], done["dead_letters"]) == (0, 0, 0, 0)


def test_dead_letters_of_a_table_are_those_that_wait(folder: Path) -> None:
    platform(folder, "send", "confirmations_to_customers", "one", "two", "three")
    failed = wait_for(
        lambda: (c := consumer(folder, "send_confirmation"))["dead_letters"] == 3 and c["last_error"] and c
    )
    assert failed["failed"] == 3
    assert "OSError: the mail server refused the message" in failed["last_error"]
    dropped = json.loads(platform(folder, "dlq", "ls", "--all", "--json").stdout)[0]["id"]
    assert platform(folder, "dlq", "drop", "send_confirmation", dropped, "--yes").returncode == 0
    assert consumer(folder, "send_confirmation")["dead_letters"] == 2


def test_it_fits_into_80_columns(folder: Path) -> None:
    platform(folder, "send", "confirmations_to_customers", "four")
    wait_for(lambda: consumer(folder, "send_confirmation")["last_error"])
    for width in (80, 120):
        lines = screen(folder, width, "status").splitlines()
        assert max(map(len, lines)) <= width
        words = " ".join(" ".join(lines).split())
        assert "unload ← crates 0 0" in words
        assert "send_confirmation ← " in words, "a name is not broken within"
        assert "confirmations_to_customers" in words
        assert "550 mailbox unavailable" in words
        assert "1 of 1 children ready" in words


def screen(folder: Path, width: int, *arguments: str, seconds: float = PATIENCE, stop_at: str = "") -> str:
    """What a command writes to a terminal of so many columns, without colours; with `stop_at`, Ctrl-C comes when that
    was seen."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*PLATFORM, *arguments], cwd=folder, env=environment(COLUMNS=str(width), LINES="40", TERM="xterm"),
        stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(theirs)
    seen, deadline = b"", time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            if select.select([ours], [], [], 0.1)[0]:
                try:
                    seen += os.read(ours, 65536)
                except OSError:  # the other end was closed
                    break
                if stop_at and plain(seen).count(stop_at) >= 2:
                    process.send_signal(signal.SIGINT)
                    stop_at = ""
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        os.close(ours)
    return plain(seen)


def plain(seen: bytes) -> str:
    return re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", seen.decode(errors="replace")).replace("\r", "")


def test_watching_draws_again_until_ctrl_c_and_ends_with_0(folder: Path) -> None:
    drawn = screen(folder, 100, "status", "--watch", stop_at="port on stack local: ready")
    assert drawn.count("unload ← crates") >= 2


def test_watching_gives_a_line_of_json_a_second(folder: Path) -> None:
    process = subprocess.Popen(
        [*PLATFORM, "status", "--watch", "--json"], cwd=folder, env=environment(), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    times, found = [], []
    for line in process.stdout:
        found.append(json.loads(line))
        times.append(time.monotonic())
        if len(found) == 3:
            break
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert all([p["kind"] for p in x["processes"]] == ["worker"] and x["ready"] for x in found)
    assert 0.5 < (times[2] - times[0]) / 2 < 2.5
    assert found[-1].keys() == status(folder).keys()


def test_what_stops_is_seen_and_watching_goes_on(tmp_path: Path) -> None:
    project(tmp_path, YAML.replace("port:", "dock:").replace("project: dock:", "project: port"), dock=MODULE)
    with running(tmp_path) as app:
        app.ready()
        process = subprocess.Popen(
            [*PLATFORM, "status", "--watch", "--json"],
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            states = (json.loads(line)["running"] for line in process.stdout)
            assert next(states)
            app.stop()
            assert any(not state for _, state in zip(range(20), states, strict=False))
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()
            process.stdout.close()
            process.wait()
