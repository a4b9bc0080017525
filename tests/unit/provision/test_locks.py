"""Whose lock a state bears: one is broken only where it is proven to be that of a process that has ended."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import psutil
import pytest

from buildflow.provision.cloud import locks

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

COMMAND = """
import subprocess, sys
from pathlib import Path
from buildflow.provision.cloud import locks
cli = subprocess.Popen(["pulumi", "600"], executable="sleep", stdout=subprocess.DEVNULL)
try:
    locks.note(Path(sys.argv[1]))
    print(cli.pid, flush=True)
    sys.stdin.read()
finally:
    if sys.argv[2] == "kills":
        cli.kill()
        cli.wait()
"""


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[[str], "Lock"]]:
    """A command that ran a CLI, and has ended; the CLI's lock."""
    left: list[Lock] = []

    def run(ending: str) -> Lock:
        started = subprocess.Popen(
            [sys.executable, "-c", COMMAND, str(tmp_path), ending],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert started.stdin is not None
        assert started.stdout is not None
        pid = int(started.stdout.readline())
        left.append(Lock(pid, datetime.fromtimestamp(psutil.Process(pid).create_time())))
        assert not locks.is_stale(left[-1].said, tmp_path), "both live"
        started.communicate()
        return left[-1]

    yield run
    for lock in left:
        if psutil.pid_exists(lock.pid) and psutil.Process(lock.pid).cmdline() == ["pulumi", "600"]:
            psutil.Process(lock.pid).kill()


@dataclass(frozen=True)
class Lock:
    pid: int
    at: datetime

    @property
    def said(self) -> str:
        """What the CLI says of it."""
        when = self.at.astimezone().isoformat(timespec="seconds")
        return f"currently locked by 1 lock(s).\n  file:///x.json: created by me@here (pid {self.pid}) at {when}"


def test_a_lock_whose_holders_have_ended_is_stale(command: Callable[[str], Lock], tmp_path: Path) -> None:
    lock = command("kills")
    assert locks.is_stale(lock.said, tmp_path)
    assert not locks.is_stale(f"{lock.said}\n{lock.said}", tmp_path), "another one holds it, too"


def test_a_cli_that_outlives_its_command_holds_its_lock(command: Callable[[str], Lock], tmp_path: Path) -> None:
    assert not locks.is_stale(command("leaves").said, tmp_path)


def test_the_lock_of_another_container_is_never_stale(command: Callable[[str], Lock], tmp_path: Path) -> None:
    """It may name the same host and the number of a process that is not here."""
    lock = command("kills")
    assert not locks.is_stale(replace(lock, pid=lock.pid + 1).said, tmp_path)
    assert not locks.is_stale(replace(lock, at=lock.at + timedelta(minutes=1)).said, tmp_path), "ours was killed before"
    assert not locks.is_stale(replace(lock, at=lock.at - timedelta(minutes=1)).said, tmp_path)
    assert not locks.is_stale(lock.said.partition(" at ")[0], tmp_path)


def test_what_another_machine_noted_proves_nothing(command: Callable[[str], Lock], tmp_path: Path) -> None:
    lock, note = command("kills"), tmp_path / locks.NOTE
    noted = json.loads(note.read_text())
    note.write_text(json.dumps({**noted, "command": "another-boot:1/" + noted["command"].partition("/")[2]}))
    assert not locks.is_stale(lock.said, tmp_path)


@pytest.mark.parametrize("text", [None, "", "{}"])
def test_without_a_note_nothing_is_proven(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / locks.NOTE).write_text(text)
    assert not locks.is_stale(Lock(4_000_000, datetime.now()).said, tmp_path)


def test_who_holds_it_in_words() -> None:
    assert locks.holder(Lock(12, datetime.now()).said) == "process 12 on here holds it"
    assert locks.holder("locked") == "another command holds it"
