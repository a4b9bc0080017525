"""Real projects in real processes: what acceptance and delivery tests start, watch and kill."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parent.parent
PLATFORM = [sys.executable, "-m", "buildflow.cli.main"]


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("IMAGEAI_", "BUILDFLOW_"))}
    return {**kept, "PYTHONPATH": str(ROOT / "platform"), "NO_COLOR": "1", **more}


def platform(folder: Path, *arguments: str, input: str = "", timeout: float = 180, **more: str) -> Any:
    """Run one command to its end."""
    return subprocess.run(
        [*PLATFORM, *arguments], cwd=folder, env=environment(**more), input=input, capture_output=True, text=True,
        timeout=timeout, check=False,
    )  # fmt: skip


def example(folder: Path) -> Path:
    """The image classification app, in a folder of its own."""
    shutil.copy(ROOT / "buildflow.yaml", folder)
    shutil.copytree(
        ROOT / "handlers_example", folder / "handlers_example", ignore=shutil.ignore_patterns("__pycache__")
    )
    return folder


def project(folder: Path, yaml: str, **modules: str) -> Path:
    """A project of its own: its YAML, and its modules by name."""
    (folder / "buildflow.yaml").write_text(textwrap.dedent(yaml))
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text))
    return folder


PATIENCE = 90.0
"""Seconds until what has to come is given up, on a busy machine. A wait ends as soon as it came."""


def wait_for(what: Callable[[], Any], timeout: float = PATIENCE, words: str = "") -> Any:
    """The first true answer of `what`; an AssertionError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        found = what()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {words or what}; last answer: {found!r}")
        time.sleep(0.05)


class Running:
    """`platform run` in a folder, or another command that stays."""

    def __init__(
        self, folder: Path, *arguments: str, command: Sequence[str] = ("run", "--apply", "--port", "0"), **more: str
    ) -> None:
        self.folder = folder
        self.log: list[str] = []
        self.process = subprocess.Popen(
            [*PLATFORM, *command, *arguments],
            cwd=folder,
            env=environment(**more),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self.log.append(line.rstrip())
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    @property
    def text(self) -> str:
        return "\n".join(self.log)

    def wait_for_line(self, pattern: str, timeout: float = PATIENCE) -> re.Match[str]:
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                for line in self.log:
                    if match := re.search(pattern, line):
                        return match
                left = deadline - time.monotonic()
                if left <= 0 or (self.process.poll() is not None and not self._reader.is_alive()):
                    raise AssertionError(f"no line matches {pattern!r}:\n{self.text}")
                self._changed.wait(min(left, 0.5))

    def ready(self, timeout: float = PATIENCE) -> "Running":
        self.wait_for_line(r"ready in", timeout)
        return self

    @property
    def url(self) -> str:
        return self.wait_for_line(r"open (http://[\d.:]+)")[1]

    def get(self, path: str, timeout: float = 30) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=timeout) as answer:
            return bytes(answer.read())

    def post(self, path: str) -> None:
        request = urllib.request.Request(self.url + path, method="POST")
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200

    def get_json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def processes(self, kind: str) -> list[psutil.Process]:
        """Processes of this run: gateway, worker (main), child (of a pool), watcher, redis, guard."""
        return [p for p in self._all() if _kind(p) == kind]

    def _all(self) -> list[psutil.Process]:
        return processes_in(self.folder)

    def kill(self, kind: str) -> None:
        killed = self.processes(kind)
        assert killed, f"no {kind} to kill"
        kill_all(killed)

    def stop(self, sign: int = signal.SIGINT) -> float:
        """End it; the seconds that took."""
        started = time.monotonic()
        self.process.send_signal(sign)
        self.process.wait(timeout=30)
        return time.monotonic() - started

    def end(self) -> None:
        """Leave nothing behind, however the test ended."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=15)
        kill_all(self._all())
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(timeout=5)
        if self.process.stderr is not None:
            self.process.stderr.close()


def processes_in(folder: Path) -> list[psutil.Process]:
    """All processes of a project's run, by their folder or what their command line names."""
    here = str(folder)
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = " ".join(process.cmdline())
            place = process.cwd()
            at_home = place == here or place.startswith(f"{here}/") or here in words
            if at_home and ("buildflow" in words or "redis-server" in words) and process.pid != os.getpid():
                found.append(process)
    return found


def kill_all(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL to all of them at one moment: stopped first, so that none takes over what another held. Some may be gone
    by then: a part dies with its parent."""
    victims = list(processes)
    for end in (psutil.Process.suspend, psutil.Process.kill):
        for process in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                end(process)


def _kind(process: psutil.Process) -> str:
    try:
        words = " ".join(process.cmdline())
        if "redis-server" in words and "service_guard" not in words:
            return "redis"
        for part in ("gateway", "watcher", "supervisor"):
            if f"buildflow.runtime.{part}" in words:
                return part
        if "service_guard" in words:
            return "guard"
        if "buildflow.runtime.worker" in words:
            parent = process.parent()
            return "child" if parent and "buildflow.runtime.worker" in " ".join(parent.cmdline()) else "worker"
    except psutil.Error:
        return "gone"
    return "other"


@contextlib.contextmanager
def running(folder: Path, *arguments: str, **more: str) -> Iterator[Running]:
    started = Running(folder, *arguments, **more)
    try:
        yield started
    finally:
        started.end()


def rows(folder: Path, table: str) -> list[dict[str, Any]]:
    """A table through `platform query`."""
    result = platform(folder, "query", table, "--json")
    assert result.returncode == 0, result.stderr
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def status(folder: Path) -> dict[str, Any]:
    result = platform(folder, "status", "--json")
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found
