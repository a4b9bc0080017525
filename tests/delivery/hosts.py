"""Hosts of their own on one machine: a network namespace, a host name and process ids each, and a switch between.

The switch is a host too, and carries the servers that all share. What runs on a host ends with it.
"""

import contextlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from buildflow.providers.redis_service import find_server
from tests.harness import PATIENCE, PLATFORM, environment, kill_all, wait_for

NETWORK = "10.77.0"
SWITCH = f"{NETWORK}.1"
RABBITMQ = Path("/usr/lib/rabbitmq/bin")


class Part:
    """One program on a host, and its log."""

    def __init__(self, host: "Host", name: str, command: Sequence[str], env: dict[str, str]) -> None:
        self.host = host
        self.name = name
        self.path = host.folder / f"{len(host.parts)}-{name}.log"
        with self.path.open("wb") as log:
            self.entered = subprocess.Popen(
                [*host.enter, *command], cwd=host.folder, env=env, stdin=subprocess.PIPE, stdout=log, stderr=log
            )

    @property
    def log(self) -> str:
        return self.path.read_text(errors="replace")  # its last character may be half written

    @property
    def process(self) -> psutil.Process:
        """The program itself; `nsenter` only waits for it."""
        return psutil.Process(self.entered.pid).children()[0]

    def wait_for_line(self, pattern: str, timeout: float = PATIENCE) -> "re.Match[str]":
        def found() -> "re.Match[str] | None":
            match = re.search(pattern, self.log, re.MULTILINE)
            assert match or self.entered.poll() is None, f"{self.name} ended without {pattern!r}:\n{self.log}"
            return match

        match: re.Match[str] = wait_for(found, timeout, f"{pattern!r} in {self.path}")
        return match

    def ready(self) -> "Part":
        self.wait_for_line(r"ready in")
        return self

    def stop(self, sign: int = signal.SIGTERM) -> int:
        """End it in order; its exit code."""
        assert self.entered.poll() is None, f"{self.name} has ended:\n{self.log}"
        self.process.send_signal(sign)
        return self.entered.wait(timeout=PATIENCE)

    def expect_end(self) -> str:
        """Wait until it has ended well; what it printed."""
        code = self.entered.wait(timeout=PATIENCE)
        assert code == 0, f"{self.name} ended with {code}:\n{self.log}"
        return self.log

    def kill(self) -> None:
        """End it at once, and all that it started."""
        waiting = psutil.Process(self.entered.pid)  # nsenter: it stops itself when what it waits for is stopped
        kill_all([*waiting.children(recursive=True), waiting])
        self.entered.wait(timeout=10)


class Host:
    """One host and its folder. On its disk nothing is hidden from others: that is up to those who use it."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.parts: list[Part] = []
        folder.mkdir(exist_ok=True)
        first = "hostname $0 && ip link set lo up && echo up && read forever"
        self.first = subprocess.Popen(
            ["unshare", "--net", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", first, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.first.stdout is not None
        assert self.first.stderr is not None
        if self.first.stdout.readline() != "up\n":
            self.end()
            raise OSError(self.first.stderr.read().strip())
        self.pid = psutil.Process(self.first.pid).children()[0].pid
        """Of its first process, as seen from outside."""

    @property
    def enter(self) -> list[str]:
        return ["nsenter", "--target", str(self.pid), "--net", "--uts", "--pid", "--mount", f"--wd={self.folder}"]

    def start(self, *command: str, name: str = "", **more: str) -> Part:
        """Start a command of the platform, or any other program given by its path."""
        words = command if command[0].startswith("/") else [*PLATFORM, *command]
        part = Part(self, name or command[0], words, environment(**more))
        self.parts.append(part)
        return part

    def run(self, *command: str, input: str = "", timeout: float = 180) -> str:
        """Run a command of the platform, or any other program given by its path, to its end."""
        words = command if command[0].startswith("/") else [*PLATFORM, *command]
        done = subprocess.run(
            [*self.enter, *words], cwd=self.folder, env=environment(), input=input, capture_output=True, text=True,
            timeout=timeout, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{self.name}: {' '.join(command)}\n{done.stdout}{done.stderr}"
        return done.stdout

    def python(self, script: str, *arguments: str) -> str:
        """Run a script of a few lines."""
        return self.run(sys.executable, "-", *arguments, input=script)

    def end(self) -> None:
        """The end of the first process of a namespace is the end of all."""
        self.first.kill()
        for ended in [self.first, *(part.entered for part in self.parts)]:
            ended.communicate()


class Network:
    """A switch and the hosts that hang on it, by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.switch = Host("switch", folder / "switch")
        self.hosts: dict[str, Host] = {}
        self._ip(self.switch, "link add bridge type bridge")
        self._ip(self.switch, f"addr add {SWITCH}/24 dev bridge")
        self._ip(self.switch, "link set bridge up")

    def add(self, name: str) -> Host:
        host = self.hosts[name] = Host(name, self.folder / name)
        peer = f"type veth peer name port netns {host.pid}"
        self._ip(self.switch, f"link add name {name} {peer}")
        self._ip(self.switch, f"link set dev {name} master bridge up")
        self._ip(host, f"addr add {self.address(name)}/24 dev port")
        self._ip(host, "link set port up")
        return host

    def address(self, name: str) -> str:
        return f"{NETWORK}.{10 + list(self.hosts).index(name)}"

    def cut_off(self, name: str) -> None:
        self._ip(self.switch, f"link set dev {name} down")

    def rejoin(self, name: str) -> None:
        self._ip(self.switch, f"link set dev {name} up")

    def end(self) -> None:
        for host in [*self.hosts.values(), self.switch]:
            host.end()

    def _ip(self, host: Host, command: str) -> None:
        """From outside, where the hosts' process ids are known."""
        enter = ["nsenter", "--target", str(host.pid), "--net"]
        subprocess.run([*enter, "ip", *command.split()], check=True)


@contextlib.contextmanager
def network(folder: Path) -> Iterator[Network]:
    """A network, or a skip with the reason why this machine makes none."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("hosts of their own are network namespaces, which take Linux and root")
    for program in ("ip", "unshare", "nsenter"):
        if shutil.which(program) is None:
            pytest.skip(f"hosts of their own are made with `{program}`, which is not installed")
    try:
        made = Network(folder)
    except OSError as exc:
        pytest.skip(f"this machine makes no namespaces: {exc}")
    try:
        yield made
    finally:
        made.end()


class Redis:
    """A Redis on the switch, for all hosts; its socket is for the test."""

    def __init__(self, switch: Host) -> None:
        self.password = secrets.token_hex(8)
        self.socket = switch.folder / "redis.sock"
        configuration = switch.folder / "redis.conf"
        configuration.write_text(
            f"bind {SWITCH}\nport 6379\nunixsocket {self.socket}\nrequirepass {self.password}\n"
            f"dir {switch.folder}\nappendonly yes\nappendfsync always\nsave ''\n"
        )
        self.switch = switch
        self.start()

    def start(self) -> None:
        self.part = self.switch.start(find_server(), str(self.switch.folder / "redis.conf"), name="redis")
        self.part.wait_for_line(r"Ready to accept connections")

    def kill(self) -> None:
        self.part.kill()

    def url(self, db: int) -> str:
        return f"redis://:{self.password}@{SWITCH}:6379/{db}"

    def client(self, db: int = 0) -> Any:
        import redis

        return redis.Redis(unix_socket_path=str(self.socket), password=self.password, db=db)


class RabbitMQ:
    """Debian's RabbitMQ on the switch."""

    def __init__(self, switch: Host) -> None:
        if not (RABBITMQ / "rabbitmq-server").exists():
            pytest.skip("RabbitMQ is not installed: apt-get install rabbitmq-server")
        self.switch = switch
        self.home = switch.folder / "rabbitmq"
        self.home.mkdir()
        (self.home / "rabbitmq.conf").write_text(f"listeners.tcp.1 = {SWITCH}:5672\nloopback_users = none\n")
        (self.home / "plugins").write_text("[].\n")
        self.url = f"amqp://guest:guest@{SWITCH}:5672//"
        self.part: Part | None = None

    def start(self) -> None:
        self.part = self.switch.start(str(RABBITMQ / "rabbitmq-server"), name="rabbitmq", **self._settings())
        self.part.wait_for_line(r"Server startup complete")

    def control(self, *words: str) -> None:
        self.switch.start(str(RABBITMQ / "rabbitmqctl"), *words, name="rabbitmqctl", **self._settings()).expect_end()

    def _settings(self) -> dict[str, str]:
        settings = {
            "HOME": self.home,
            "RABBITMQ_NODENAME": "rabbit@localhost",
            "RABBITMQ_CONFIG_FILE": self.home / "rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": self.home / "plugins",
            "RABBITMQ_MNESIA_BASE": self.home / "mnesia",
            "RABBITMQ_LOG_BASE": self.home / "log",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": self.home / "pid",
        }
        return {name: str(value) for name, value in settings.items()}

    def kill(self) -> None:
        assert self.part is not None
        self.part.kill()
