"""`platform run` of the image classification app: how long it takes to start, what it weighs, and how long an
uploaded picture takes to become a row."""

import http.client
import io
import json
import random
import tempfile
import time
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import psutil
from PIL import Image

from benchmarks.figures import Figure
from tests.harness import Running, example, running

STARTS = 3
UPLOADS, WARM_UP = 30, 3
SETTLE = 3.0
"""Seconds from ready to idle."""
POLL = 0.01
KINDS = ("supervisor", "gateway", "worker", "child", "watcher", "redis", "guard", "other")


def measure() -> list[Figure]:
    starts = []
    with tempfile.TemporaryDirectory(prefix="bf-") as folder:
        project = example(Path(folder))
        for _ in range(STARTS - 1):
            with running(project) as app:
                starts.append(_ready(app))
        with running(project) as app:
            starts.append(_ready(app))
            time.sleep(SETTLE)
            weights = _weights(app)
            seconds, model = _uploads(app)
    parts = ", ".join(f"{kind} {size:.0f}" for kind, size in weights.items())
    return [
        Figure("platform run: start to ready", round(median(starts), 2), "s", 4, note=f"{STARTS} starts"),
        Figure("platform run: all processes, idle", round(sum(weights.values())), "MB", 400, note=f"PSS: {parts}"),
        Figure(
            "upload to visible row",
            round(median(seconds) * 1000),
            "ms",
            300,
            note=f"{UPLOADS} uploads, slowest {max(seconds) * 1000:.0f} ms; {model}",
        ),
    ]


def _ready(app: Running) -> float:
    app.ready()
    return time.time() - psutil.Process(app.process.pid).create_time()


def _weights(app: Running) -> dict[str, float]:
    """Megabytes by kind of process: the proportional set size, which counts a shared page once."""
    sizes: dict[str, float] = {}
    for kind in KINDS:
        processes = app.processes(kind)
        if processes:
            sizes[kind] = sum(p.memory_full_info().pss for p in processes) / 1e6
    return sizes


def _uploads(app: Running) -> tuple[list[float], str]:
    place = urlsplit(app.url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
    seconds, model = [], ""
    for number in range(WARM_UP + UPLOADS):
        name, picture = f"picture-{number}.jpg", _picture()
        started = time.perf_counter()
        path = _upload(connection, name, picture)
        while not (found := _result(connection, path)):
            time.sleep(POLL)
        if number >= WARM_UP:
            seconds.append(time.perf_counter() - started)
        model = str(found["model"])
    connection.close()
    return seconds, f"model: {model}"


def _picture() -> bytes:
    colour = (random.randrange(256), random.randrange(256), random.randrange(256))
    file = io.BytesIO()
    Image.new("RGB", (800, 600), colour).save(file, "JPEG")
    return file.getvalue()


def _upload(connection: http.client.HTTPConnection, name: str, picture: bytes) -> str:
    head = f'--limit\r\nContent-Disposition: form-data; name="image_file"; filename="{name}"\r\n'
    body = f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + picture + b"\r\n--limit--\r\n"
    connection.request("POST", "/image-upload", body, {"Content-Type": "multipart/form-data; boundary=limit"})
    answer = connection.getresponse()
    stored = json.loads(answer.read())
    assert answer.status == 200, stored
    return str(stored["image_path"])


def _result(connection: http.client.HTTPConnection, path: str) -> dict[str, object] | None:
    connection.request("GET", "/results")
    found = json.loads(connection.getresponse().read())
    return next((r for r in found["results"] if r["image_path"] == path), None)
