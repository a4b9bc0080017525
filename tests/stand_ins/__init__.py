"""Stand-ins for what no test machine has: the Pulumi CLI (`bin/pulumi`), and AWS by moto's server.

    with moto() as endpoint:
        environment = pulumi_environment(tmp_path, endpoint)   # for `os.environ`, or for a process

Then `pulumi.automation`, or `platform apply --stack aws`, runs as on a machine that has both. `REAL_PULUMI` is where
this machine has the real CLI, for tests that run on either: it brings its own plugins, in the user's own home.
"""

import asyncio
import gc
import os
import shutil
import socket
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BIN = Path(__file__).parent / "bin"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "eu-central-1"}
PATIENCE = 180
REAL_PULUMI = shutil.which("pulumi")


def pulumi_environment(tmp_path: Path, endpoint: str | None = None, *, passphrase: str = "test") -> dict[str, str]:
    """The variables with which `pulumi` is the stand-in, with a home and a file backend of its own below `tmp_path`.

    With `endpoint`, AWS is there, and the credentials are anybody's."""
    home, backend = tmp_path / "pulumi-home", tmp_path / "pulumi-state"
    for folder in (home, backend):
        folder.mkdir(parents=True, exist_ok=True)
    environment = {
        "PATH": os.pathsep.join((str(BIN), str(Path(sys.executable).parent), os.environ.get("PATH", ""))),
        "PULUMI_HOME": str(home),
        "PULUMI_BACKEND_URL": f"file://{backend}",
        "PULUMI_CONFIG_PASSPHRASE": passphrase,
        "PULUMI_SKIP_UPDATE_CHECK": "true",
    }
    return environment | ({"AWS_ENDPOINT_URL": endpoint, **KEYS} if endpoint else {})


def real_pulumi_environment(tmp_path: Path, *, passphrase: str = "test") -> dict[str, str]:
    """The same with the real CLI, whose home is the user's own: it has the plugins of pulumi-aws and pulumi-random."""
    environment = pulumi_environment(tmp_path, passphrase=passphrase)
    del environment["PULUMI_HOME"]
    return environment | {"PATH": environment["PATH"].replace(f"{BIN}{os.pathsep}", "")}


@contextmanager
def moto() -> Iterator[str]:
    """AWS on a free port of loopback, empty; its URL."""
    from tests.moto import moto as serve

    with serve() as made:
        forget(made.url)
        yield made.url


def forget(endpoint: str) -> None:
    """Empty the AWS at `endpoint`: quicker than another server."""
    with urllib.request.urlopen(urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST")) as answer:
        answer.read()


def close_loops() -> None:
    """Close what the SDK leaves open when a program ends early: else it is told of in some later test."""
    for found in gc.get_objects():
        if not issubclass(type(found), asyncio.AbstractEventLoop):  # isinstance() would ask a proxy of what is gone
            continue
        if not found.is_running() and not found.is_closed():
            found.close()


class Hold:
    """A place in a deployment where the stand-in waits: to be killed there, or to hold the lock meanwhile.

    `Hold("after", "aws:sqs/queue:Queue")` is where SQS has the queue and the checkpoint does not know. Give
    `environment` to the process, call `reached`, then kill the process or `release` it."""

    def __init__(self, moment: str, type_or_urn: str) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(PATIENCE)
        self._connections: list[socket.socket] = []
        self.environment = {"PULUMI_STAND_IN_HOLD": f"{moment} {type_or_urn}@127.0.0.1:{self._server.getsockname()[1]}"}

    def reached(self) -> str:
        """Wait until a deployment is there; the URN that it is at."""
        connection, _ = self._server.accept()
        self._connections.append(connection)
        return connection.recv(4096).decode()

    def release(self) -> None:
        """Let it go on, past this and every later place of the kind."""
        self._server.close()
        for connection in self._connections:
            connection.close()
