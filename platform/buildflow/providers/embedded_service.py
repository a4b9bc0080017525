"""The embedded servers of one stack's folder: each started by whoever needs it first, gone when nobody needs it.

    <dir>/services/<server>/
      start.lock     held by whoever looks for a server or starts one
      users.lock     held shared by every user as long as it lives; alone by a guard that is ending
      guard.lock     held by the guard
      server.lock    held by the server and its children
      endpoint.json  socket and password (mode 0600), the same for every start, so that clients just reconnect
      guard.log      what guard and server said since the last start

There is no daemon and no process id to trust: locks, which the kernel releases however a process ends, say
who is there. `service_guard.py` is the process between.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from buildflow.errors import ServiceUnavailable
from buildflow.providers import service_guard

_SOCKET_PATH_LIMIT = 100  # 107 bytes on Linux, 103 on macOS
_START_SECONDS = 30.0

Answer = Literal["ready", "loading", "refused", "away"]


@dataclass(frozen=True)
class Endpoint:
    """Where a stack's server listens. `dir` is the folder it was made for: a copied folder must not meet the
    original's server. `password` is empty where the server asks for none."""

    dir: str
    socket: str
    password: str


@dataclass(frozen=True)
class Server:
    """One kind of embedded server: its names, and what is done with it."""

    key: str
    """Its folder below `services`."""
    title: str
    socket: str
    """The name of its socket's file."""
    log: str
    """Its log, in its folder."""
    ask: Callable[[Endpoint], Answer]
    """What the server at an endpoint says."""
    end: Callable[[Endpoint], object]
    """Tell a server to end that has outlived its guard (macOS)."""
    command: Callable[[Path, Endpoint], list[str]]
    """The command that starts it, given its folder. Raises `ServiceUnavailable` where there is no such program."""
    configuration: Callable[[Path, Endpoint], bytes] = lambda *_: b""
    """What it reads on its stdin: what must not be on a command line, which everybody can read."""
    stop: signal.Signals = signal.SIGTERM
    has_password: bool = True


class EmbeddedService:
    """One use of a stack's embedded server: until `close`, or until this process and every child it forked are
    gone. Made by attaching to the server that runs, or by starting one.

    Raises `ServiceUnavailable` where there is none to start or where it does not start.
    """

    def __init__(self, server: Server, dir: Path) -> None:
        self._server = server
        self._home = dir.resolve() / "services" / server.key
        self._home.mkdir(parents=True, exist_ok=True)
        self._home.chmod(0o700)
        self._users, self._endpoint = _attach(server, self._home)

    @property
    def title(self) -> str:
        return self._server.title

    def ensure(self) -> None:
        """Start the server again, on the same socket with the same password, if it died."""
        _reap()
        if self._server.ask(self._endpoint) == "ready":
            return
        with _lock(self._home / "start.lock"):
            _serve(self._server, self._home, self._endpoint)

    def has_died(self) -> bool:
        """Whether nothing keeps the server up any more. Costs the server nothing, so it may be asked often."""
        return _is_free(self._home / "guard.lock", fcntl.LOCK_SH)

    def close(self, wait: float = 0.0) -> None:
        """Detach. The last one out stops the server; `wait` seconds at most are spent on seeing it gone."""
        if self._users < 0:
            return
        os.close(self._users)  # no LOCK_UN: that would take it from forked children too
        self._users = -1
        if wait > 0:
            _see_gone(self._home, wait)


def _attach(server: Server, home: Path) -> tuple[int, Endpoint]:
    with _lock(home / "start.lock"):
        users = _open_lock(home / "users.lock")
        try:
            fcntl.flock(users, fcntl.LOCK_SH)  # waits for a guard that is ending
            endpoint = _recorded_endpoint(server, home)
            try:
                _serve(server, home, endpoint)
            except BaseException:
                with contextlib.suppress(OSError):  # not empty: somebody else's server is in it
                    os.rmdir(os.path.dirname(endpoint.socket))
                raise
        except BaseException:
            os.close(users)
            raise
    return users, endpoint


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
        if not _is_free(users, fcntl.LOCK_EX) and _is_free(users, fcntl.LOCK_SH):
            return  # other users; asked in the other order, the guard could take its lock in between
        time.sleep(0.005)


def _recorded_endpoint(server: Server, home: Path) -> Endpoint:
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
    password = os.urandom(24).hex() if server.has_password else ""
    endpoint = Endpoint(str(home), os.path.join(_socket_dir(server, home), server.socket), password)
    _write_private(path, json.dumps(asdict(endpoint)))
    return endpoint


def _write_private(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)
    os.replace(new, path)


def _socket_dir(server: Server, home: Path) -> str:
    """A private folder with a short path, because the path of a socket is limited to about 100 bytes."""
    name = f"buildflow-{os.getuid()}-{hashlib.sha256(bytes(home)).hexdigest()[:12]}"
    for suffix in ("", "-" + os.urandom(4).hex()):  # the plain name may be taken by somebody else's folder
        for parent in (tempfile.gettempdir(), "/tmp"):
            path = os.path.join(parent, name + suffix)
            if len(os.fsencode(path)) + len(f"/{server.socket}") <= _SOCKET_PATH_LIMIT and _prepare(path):
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


def _serve(server: Server, home: Path, endpoint: Endpoint) -> None:
    """See to it that a guarded server answers at the endpoint. `start.lock` is held."""
    end = time.monotonic() + _START_SECONDS
    guard: _Guard | None = None
    while time.monotonic() < end:
        answer = server.ask(endpoint)
        if answer == "loading":
            end = time.monotonic() + _START_SECONDS  # however much there is to load
        elif answer == "refused":
            raise ServiceUnavailable(f"Another {server.title} listens at {endpoint.socket}")
        elif answer == "ready":
            if not _is_free(home / "guard.lock", fcntl.LOCK_SH):
                return
            server.end(endpoint)  # it outlived its guard (macOS), so nobody would ever stop it
        elif guard is None or guard.poll() is not None:
            if guard is not None and guard.returncode != service_guard.SERVER_RUNS:
                raise ServiceUnavailable(f"{server.title} ended as soon as it started{_last_words(server, home)}")
            guard = _start_guard(server, home, endpoint)
        time.sleep(0.02 if answer == "loading" else 0.003)  # a server that loads has better things to do
    words = f"{server.title} did not answer within {_START_SECONDS:.0f} s; its log is {home / server.log}"
    raise ServiceUnavailable(words)


def _start_guard(server: Server, home: Path, endpoint: Endpoint) -> "_Guard":
    _reap()
    command = server.command(home, endpoint)
    socket_dir = os.path.dirname(endpoint.socket)
    if not _prepare(socket_dir):
        raise ServiceUnavailable(f"{socket_dir} is not a private folder of ours; remove it and try again")
    guard_program = [sys.executable, "-I", "-S", service_guard.__file__]
    with open(home / "guard.log", "wb") as log:
        guard = _Guard(
            [*guard_program, str(home), socket_dir, str(int(server.stop)), *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd="/",
            env={k: v for k, v in os.environ.items() if k in ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")},
            start_new_session=True,
        )
    assert guard.stdin
    with contextlib.suppress(BrokenPipeError), guard.stdin:
        guard.stdin.write(server.configuration(home, endpoint))
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


def _last_words(server: Server, home: Path) -> str:
    """The end of what was said last: a server may write to a log of its own once it has read where that is."""
    logs = [log for name in ("guard.log", server.log) if (log := home / name).exists()]
    newest = max(logs, key=lambda log: log.stat().st_mtime)
    lines = newest.read_text(errors="replace").strip().splitlines()
    return f": {lines[-1]}" if lines else ""
