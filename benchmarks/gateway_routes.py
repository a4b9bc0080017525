"""JSON routes of the gateway against the same routes written by hand in FastAPI: requests a second, as a ratio.

Both are one process under uvicorn, with uvloop and httptools. They take turns, a second each, in one session.
"""

import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from benchmarks.figures import Figure
from tests.harness import ROOT, environment, project, running, wait_for

ROUNDS, SECONDS, CONNECTIONS = 7, 1.0, 32
YAML = """\
project: bench
routes:
  GET /hello: benchmarks.route_handlers:hello
  GET /items/{item_id}: benchmarks.route_handlers:item
  POST /orders: benchmarks.route_handlers:order
  GET /in-a-thread: benchmarks.route_handlers:in_a_thread
"""
ORDER = {"id": 7, "customer": "Ada", "items": ["nut", "bolt"], "total": 12.5}
ROUTES = {
    "GET /hello": ("GET", "/hello", None),
    "GET /items/{item_id}": ("GET", "/items/42?q=nuts", None),
    "POST /orders": ("POST", "/orders", ORDER),
    "a handler in a thread": ("GET", "/in-a-thread", None),
}


def measure() -> list[Figure]:
    rates: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in ROUTES}
    with gateway() as ours, hand_written() as theirs:
        for name, route in ROUTES.items():
            assert answer(ours, route) == answer(theirs, route), f"{name} answers differently"
        for _ in range(ROUNDS):
            for name, route in ROUTES.items():
                for port, found in zip((ours, theirs), rates[name], strict=True):
                    found.append(requests_a_second(port, route))
    return [_figure(name, *found) for name, found in rates.items()]


def _figure(name: str, ours: list[float], theirs: list[float]) -> Figure:
    ratio = median(a / b for a, b in zip(ours, theirs, strict=True))
    note = f"{median(ours):,.0f} requests/s against {median(theirs):,.0f}"
    return Figure(f"gateway / FastAPI by hand: {name}", round(ratio, 2), "x", 1.0, "more", note)


@contextmanager
def gateway() -> Iterator[int]:
    with (
        tempfile.TemporaryDirectory(prefix="bf-") as folder,
        running(project(Path(folder), YAML), PYTHONPATH=f"{ROOT / 'platform'}:{ROOT}") as app,
    ):
        yield urlsplit(app.ready().url).port or 0


@contextmanager
def hand_written() -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    options = ["--port", str(port), "--no-access-log", "--log-level", "warning", "--no-server-header"]
    command = [sys.executable, "-m", "uvicorn", "benchmarks.hand_written:app", *options]
    process = subprocess.Popen(command, cwd=ROOT, env=environment())
    try:
        wait_for(lambda: _listens(port), words="uvicorn listens")
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def request(method: str, target: str, body: object) -> bytes:
    """A request as a browser's `fetch` sends it, shortened."""
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", "Accept: */*", "User-Agent: bench"]
    if content:
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, "", ""]).encode() + content


def answer(port: int, route: tuple[str, str, object]) -> bytes:
    """The answer without its date."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(request(*route).replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    return b"\r\n".join(line for line in received.split(b"\r\n") if not line.startswith(b"date:"))


def requests_a_second(port: int, route: tuple[str, str, object], connections: int = CONNECTIONS) -> float:
    command = [sys.executable, "-m", "benchmarks.load", "127.0.0.1", str(port), str(SECONDS), str(connections)]
    ended = subprocess.run(command, cwd=ROOT, input=request(*route), capture_output=True, check=False)
    if ended.returncode:
        raise RuntimeError(ended.stderr.decode().strip().splitlines()[-1])
    return float(ended.stdout)
