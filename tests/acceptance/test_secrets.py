"""Secrets in real processes: they arrive in gateway and worker from every place, and are seen nowhere else."""

import base64
import contextlib
import hashlib
import json
import logging
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
import redis
from moto.server import ThreadedMotoServer

from buildflow.providers.redis_service import find_server
from buildflow.testing import app as in_process
from tests.harness import Running, platform, processes_in, project, rows, running, status, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("secrets")]  # tests of one story share one run

YAML = """
project: vault
stacks:
  local: {provider: local, secrets: {file: secrets.env}}
primitives:
  jobs: {type: queue}
  others: {type: queue}
  files: {type: bucket}
  arrivals: {type: file_change_stream, bucket: files}
  seen: {type: table, columns: {place: string, digest: string}}
dependencies:
  keys:
    factory: app:Keys
    with:
      environment: ${secret.FROM_ENVIRONMENT}
      env_file: ${secret.FROM_ENV_FILE}
      file: ${secret.FROM_FILE}
      field: ${secret.DATABASE.password}
  fickle: {factory: app:fickle, with: {key: "Bearer ${secret.FROM_FILE}"}}
routes:
  GET /seen: app:look
  GET /fails: app:fail
consumers:
  work: {source: jobs, handler: app:work, sink: seen, retry: {attempts: 1}}
  other: {source: others, handler: app:other, pool: spare}
  note: {source: arrivals, handler: app:note}
"""

APP = """
import logging, os
from hashlib import sha256
from pathlib import Path

class Keys:
    def __init__(self, environment, env_file, file, field):
        self.of = {"environment": environment, "env_file": env_file, "file": file, "field": field}
        logging.getLogger("app").warning("canary-log: opened with %s", self.of)

    def digests(self):
        own = {"os.environ": os.environ["FROM_ENV_FILE"], "set already": os.environ["SET_ALREADY"]}
        return {name: sha256(value.encode()).hexdigest() for name, value in {**self.of, **own}.items()}

def fickle(key: str) -> str:
    if not Path("cured").exists():
        raise ConnectionError(f"canary-refused: {key}")
    return "open"

def look(keys) -> dict: return keys.digests()
def other(job: dict, fickle: str) -> None: ...
def note(event) -> None: ...

def fail(keys) -> dict:
    raise RuntimeError(f"canary-route: {keys.of['file']}")

def work(job: dict, keys) -> list:
    if "canary" in job:
        own = keys.of["file"]
        raise LookupError(f"no luck with {job['canary']}: {own}")
    return [{"place": place, "digest": digest} for place, digest in keys.digests().items()]
"""


def digest(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


def token() -> str:
    return f"sk_{uuid.uuid4().hex}"


# what the outside can see of a run


def files_of(folder: Path) -> Iterator[tuple[str, bytes]]:
    """What the stack keeps on disk. A file may go while it is looked at: a database's log does."""
    for path in folder.glob(".buildflow/**/*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                yield path.name, path.read_bytes()


def seen_from_outside(folder: Path, app: Running) -> Iterator[tuple[str, str]]:
    """Everything that somebody may read who is not the process itself: its place, and its text."""
    for name, content in files_of(folder):
        yield f"file {name}", content.decode("utf-8", "replace")
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            yield "command line", " ".join(process.cmdline())
    for name, value in redis_values(folder):
        yield f"redis {name}", value
    for command in COMMANDS:
        shown = platform(folder, *command)
        assert shown.returncode == 0, shown.stderr
        yield f"platform {' '.join(command)}", shown.stdout + shown.stderr
    yield "log", app.text


COMMANDS = (
    ("config",),
    ("config", "--json"),
    ("config", "--canonical"),
    ("check", "--json"),
    ("plan",),
    ("plan", "--json"),
    ("graph",),
    ("graph", "--json"),
    ("status",),
    ("status", "--json"),
    ("dlq", "ls", "work", "--all", "--json"),
    ("query", "seen"),
)


def redis_values(folder: Path) -> Iterator[tuple[str, str]]:
    """Every value of the stack's embedded Redis, Celery's database included."""
    endpoint = json.loads((folder / ".buildflow/local/services/redis/endpoint.json").read_text())
    for database in (0, 1):
        with redis.Redis(unix_socket_path=endpoint["socket"], password=endpoint["password"], db=database) as client:
            yield from values_in(client)


def values_in(client: Any) -> Iterator[tuple[str, str]]:
    for key in client.scan_iter():
        yield key.decode(), repr(_value(client, key))


def _value(client: Any, key: bytes) -> Any:
    kind = client.type(key).decode()
    if kind == "stream":
        return client.xrange(key), [client.xinfo_consumers(key, g["name"]) for g in client.xinfo_groups(key)]
    if kind in ("list", "zset"):
        return client.lrange(key, 0, -1) if kind == "list" else client.zrange(key, 0, -1)
    return {"string": client.get, "hash": client.hgetall, "set": client.smembers, "none": str}[kind](key)


class Story:
    """One run: every place holds a secret, a factory fails with one in its message, handlers fail."""

    def __init__(self, folder: Path) -> None:
        self.secrets = {name: token() for name in ("environment", "env_file", "file", "field")}
        (folder / ".env").write_text(f"FROM_ENV_FILE={self.secrets['env_file']}\nSET_ALREADY=by the file\n")
        database = json.dumps({"user": "shop", "password": self.secrets["field"]})
        (folder / "secrets.env").write_text(f"FROM_FILE={self.secrets['file']}\nDATABASE='{database}'\n")
        own = {"FROM_ENVIRONMENT": self.secrets["environment"], "SET_ALREADY": "by the shell"}
        with running(folder, **own) as app:
            app.wait_for_line("worker spare is not ready: .*canary-refused")
            self.failing = wait_for(lambda: failed_in(folder), words="status tells the failure")
            self.platform_status = platform(folder, "status").stdout
            (folder / "cured").touch()
            app.ready()
            self.answer = app.get_json("/seen")
            with contextlib.suppress(OSError):
                app.get("/fails")
            for job in ({}, {"canary": "canary-job"}):
                assert platform(folder, "send", "jobs", json.dumps(job)).returncode == 0
            wait_for(lambda: len(rows(folder, "seen")) == 6 and dead(folder), words="both jobs are settled")
            self.rows = {row["place"]: row["digest"] for row in rows(folder, "seen")}
            self.letter = platform(folder, "dlq", "show", "work", dead(folder)[0]["id"], "--json").stdout
            self.environments = {kind: environments(app, kind) for kind in ("gateway", "worker", "child", "watcher")}
            self.outside = list(seen_from_outside(folder, app))
        self.outside.append(("log to the end", app.text))
        self.outside.append(("status while it failed", self.failing + self.platform_status))
        self.outside.append(("dead letter", self.letter))

    def places_of(self, text: str) -> list[str]:
        forms = {text, base64.b64encode(text.encode()).decode().rstrip("=")}
        return sorted({place for place, found in self.outside for form in forms if form in found})


def failed_in(folder: Path) -> str:
    found = platform(folder, "status", "--json").stdout
    return found if "canary-refused" in found else ""


def dead(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(platform(folder, "dlq", "ls", "work", "--all", "--json").stdout)
    return found


def environments(app: Running, kind: str) -> list[dict[str, str]]:
    return [process.environ() for process in app.processes(kind)]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return Story(project(tmp_path_factory.mktemp("vault"), YAML, app=APP))


def test_every_place_s_secret_arrives_in_gateway_and_worker(story: Story) -> None:
    given = {name: digest(value) for name, value in story.secrets.items()}
    given |= {"os.environ": given["env_file"], "set already": digest("by the shell")}
    assert story.answer == given
    assert story.rows == given


def test_the_env_file_is_in_the_environment_of_every_process(story: Story) -> None:
    for kind, found in story.environments.items():
        assert found, kind
        for environment in found:
            assert environment["FROM_ENV_FILE"] == story.secrets["env_file"], kind
            assert environment["SET_ALREADY"] == "by the shell", kind
            assert "FROM_FILE" not in environment, kind


def test_a_secret_is_seen_nowhere_else(story: Story) -> None:
    assert {name: story.places_of(value) for name, value in story.secrets.items()} == {
        name: [] for name in story.secrets
    }


def test_what_is_no_secret_is_seen_there(story: Story) -> None:
    """That the search above finds what there is to find."""
    assert {"log", "log to the end"} <= set(story.places_of("canary-log: opened with"))
    assert {"log", "file appendonly.aof", "redis vault-local:dead:work"} <= set(story.places_of("canary-job"))
    assert {"dead letter", "platform dlq ls work --all --json"} <= set(story.places_of("canary-job"))
    assert {"status while it failed", "log"} <= set(story.places_of("canary-refused"))
    assert "log" in story.places_of("canary-route")
    assert "command line" in story.places_of("buildflow.runtime.gateway")
    assert {"file plan.json", "platform config"} <= set(story.places_of("${secret.FROM_FILE}"))


def test_a_secret_in_a_message_becomes_stars(story: Story) -> None:
    log = dict(story.outside)["log"]
    assert "opened with {'environment': '********', 'env_file': '********', 'file': '********'" in log
    assert "RuntimeError: canary-route: ********" in log
    words = 'dependency "fickle" (app:fickle) raised ConnectionError: canary-refused: Bearer ********'
    assert words in log
    failed = [p for p in json.loads(story.failing)["processes"] if p["state"] == "failed"]
    assert {p["error"] for p in failed} == {words}
    assert "canary-refused" in story.platform_status
    assert "LookupError: no luck with canary-job: ********" in log
    letter = json.loads(story.letter)
    assert letter["error"] == "LookupError: no luck with canary-job: ********"
    assert letter["traceback"].endswith("LookupError: no luck with canary-job: ********\n")


# a folder of secrets, and a Redis whose URL is one


@contextlib.contextmanager
def redis_with(password: str) -> Iterator[int]:
    """A Redis on loopback that wants a password; its port."""
    port = _free_port()
    command = [find_server(), "-", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert server.stdin is not None
    with server.stdin as configuration:
        configuration.write(f"requirepass {password}\n".encode())
    try:
        yield port
    finally:
        server.terminate()
        server.wait()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


MOUNTED = """
    secrets: {file: mounted}
    state_url: "${secret.state-url}"
    broker_url: "redis://:${secret.redis_password}@127.0.0.1:${secret.redis_port}/1"
"""


def one_key(stack: str, name: str) -> str:
    """A project with one secret, and what its stack says besides its provider."""
    return f"""
project: vault
stacks:
  local:
    provider: local
    {stack.strip()}
primitives:
  jobs: {{type: queue}}
  seen: {{type: table, columns: {{place: string, digest: string}}}}
dependencies:
  key: {{factory: app:Key, with: {{value: "${{secret.{name}}}"}}}}
routes: {{GET /seen: app:look}}
consumers:
  work: {{source: jobs, handler: app:work, sink: seen}}
"""


ONE_KEY_APP = """
from hashlib import sha256

class Key:
    def __init__(self, value):
        self.digest = sha256(value.encode()).hexdigest()

def look(key) -> dict: return {"digest": key.digest}
def work(job: dict, key) -> dict: return {"place": "worker", "digest": key.digest}
"""


def test_a_folder_of_secrets_holds_the_redis_s_url_too(tmp_path: Path) -> None:
    folder = project(tmp_path, one_key(MOUNTED, "api_key"), app=ONE_KEY_APP)
    password, key = token(), token()
    (folder / "mounted").mkdir()
    with redis_with(password) as port:
        url = f"redis://:{password}@127.0.0.1:{port}/0"
        held = {"state-url": url, "redis_password": password, "redis_port": str(port), "api_key": key}
        for name, value in held.items():
            (folder / "mounted" / name).write_text(value + "\n")
        with running(folder) as app:
            app.ready()
            assert app.get_json("/seen") == {"digest": digest(key)}
            assert platform(folder, "send", "jobs", "{}").returncode == 0
            wait_for(lambda: rows(folder, "seen") == [{"place": "worker", "digest": digest(key)}])
            assert status(folder)["ready"]
            assert not (folder / ".buildflow/local/services/redis").exists()
            lines = [" ".join(process.cmdline()) for process in processes_in(folder) if process.is_running()]
            files = [content for _, content in files_of(folder)]
            stored = []
            for database in (0, 1):
                with redis.Redis(port=port, password=password, db=database) as client:
                    stored += [text for _, text in values_in(client)]
        assert all([lines, files, stored])
        for secret in (password, key):
            assert secret not in "\n".join([app.text, *lines, *stored])
            assert not any(secret.encode() in content for content in files)


def test_a_secret_that_is_nowhere_is_told_and_found_once_it_is_there(tmp_path: Path) -> None:
    folder = project(tmp_path, one_key("secrets: {file: mounted}", "api_key"), app=ONE_KEY_APP)
    (folder / "mounted").mkdir()
    with running(folder) as app:
        places = "the environment, .env, mounted/api_key"
        words = f"the secret api_key is not set; looked for in {places}".replace(".", r"\.")
        app.wait_for_line(f"the gateway takes no requests: .*{words} .give api_key in one of them")
        app.wait_for_line(f"worker main is not ready: .*{words}")
        (folder / "mounted/api_key").write_text("found")
        app.ready()
        assert app.get_json("/seen") == {"digest": digest("found")}


# the provider's store


@pytest.fixture
def aws() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def test_the_store_is_asked_at_run_time_by_every_process(aws: str, tmp_path: Path) -> None:
    stack = "secrets: {store: aws_secrets_manager, prefix: vault/}"
    folder = project(tmp_path, one_key(stack, "service.api_key"), app=ONE_KEY_APP)
    key = token()
    session = boto3.Session("a", "b", region_name="eu-central-1")
    with contextlib.closing(session.client("secretsmanager", endpoint_url=aws)) as client:
        client.create_secret(Name="vault/service", SecretString=json.dumps({"api_key": key}))
    own = {"AWS_ENDPOINT_URL": aws, "AWS_DEFAULT_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "a"}
    nobody = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_DEFAULT_REGION": "eu-central-1"}
    for command in ("check", "plan", "config", "graph"):
        assert platform(folder, command, **nobody).returncode == 0, "none of them asks for a secret"
    with running(folder, AWS_SECRET_ACCESS_KEY="b", **own) as app:
        app.ready()
        assert app.get_json("/seen") == {"digest": digest(key)}
        assert platform(folder, "send", "jobs", "{}").returncode == 0
        wait_for(lambda: rows(folder, "seen") == [{"place": "worker", "digest": digest(key)}])
        found = list(files_of(folder))
    assert key not in app.text
    assert [name for name, content in found if key.encode() in content] == []


# in a project's own tests


def test_a_test_s_handlers_see_the_env_file_and_it_is_gone_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("API_KEY_OF_TEST", raising=False)
    monkeypatch.delitem(sys.modules, "app", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    yaml = one_key("secrets: {file: mounted}", "API_KEY_OF_TEST").replace("  local:", "  test:")
    look = "import os\n" + ONE_KEY_APP + "def own() -> dict: return {'is': os.environ['API_KEY_OF_TEST'][:3]}\n"
    folder = project(
        tmp_path, yaml.replace("{GET /seen: app:look}", "{GET /seen: app:look, GET /own: app:own}"), app=look
    )
    key = token()
    (folder / ".env").write_text(f"API_KEY_OF_TEST={key}\n")
    with in_process(folder / "buildflow.yaml") as a:
        assert a.http.get("/seen").json() == {"digest": digest(key)}
        assert a.http.get("/own").json() == {"is": "sk_"}
    assert "API_KEY_OF_TEST" not in os.environ
