"""Collectors of the gateway against the gateway's own route without a sink: requests a second, as a ratio.

All are one process's routes with the same handler. They take turns, a second each, in one session.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from benchmarks.figures import Figure
from benchmarks.gateway_routes import ORDER, requests_a_second
from tests.harness import ROOT, project, running

ROUNDS = 7
CONNECTIONS = (256, 64)
YAML = """\
project: bench
options: {max_concurrent_requests: 1024}
primitives:
  sales: {type: table, columns: "benchmarks.route_handlers:Order"}
  jobs: {type: queue}
routes:
  POST /plain: benchmarks.route_handlers:order
  POST /sales: {handler: "benchmarks.route_handlers:order", sink: sales}
  POST /jobs: {handler: "benchmarks.route_handlers:order", sink: jobs, status: 200}
"""
PLAIN = ("POST", "/plain", ORDER)
TARGETS = {"DuckDB": ("/sales", 0.4), "a queue": ("/jobs", 0.5)}


def measure() -> list[Figure]:
    with gateway() as port:
        return [figure for connections in CONNECTIONS for figure in _compared(port, connections)]


def _compared(port: int, connections: int) -> Iterator[Figure]:
    plain: list[float] = []
    rates: dict[str, list[float]] = {name: [] for name in TARGETS}
    for _ in range(ROUNDS):
        plain.append(requests_a_second(port, PLAIN, connections))
        for name, (path, _) in TARGETS.items():
            rates[name].append(requests_a_second(port, ("POST", path, ORDER), connections))
    for name, (_, target) in TARGETS.items():
        ratio = median(a / b for a, b in zip(rates[name], plain, strict=True))
        note = f"{median(rates[name]):,.0f} requests/s against {median(plain):,.0f}"
        wanted = target if connections == CONNECTIONS[0] else None
        yield Figure(
            f"collector into {name} / route without: {connections} connections",
            round(ratio, 2),
            "x",
            wanted,
            "more",
            note,
        )


@contextmanager
def gateway() -> Iterator[int]:
    with (
        tempfile.TemporaryDirectory(prefix="bf-") as folder,
        running(project(Path(folder), YAML), PYTHONPATH=f"{ROOT / 'platform'}:{ROOT}") as app,
    ):
        yield urlsplit(app.ready().url).port or 0
