"""The app itself, killed while it classifies: after a restart every image has exactly one row."""

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.harness import Running, example, processes_in, rows, running, status, wait_for
from tests.pictures import COLOURS, picture

pytestmark = pytest.mark.slow

IMAGES = {f"{colour}-{number}.png": colour for colour in COLOURS for number in range(3)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The example, its classifier slowed down so that a kill comes while it works."""
    folder = example(tmp_path)
    classify = folder / "handlers_example/classify.py"
    slow = "        import time; time.sleep(0.15)\n        classifications = model.classify"
    assert "        classifications = model.classify" in classify.read_text()
    classify.write_text(classify.read_text().replace("        classifications = model.classify", slow))
    return folder


def upload_all(app: Running) -> None:
    def upload(name: str) -> int:
        return httpx2.post(f"{app.url}/image-upload", files={"image_file": (name, picture(IMAGES[name]))}).status_code

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(upload, IMAGES)) == {200}


def expect_one_row_each(folder: Path) -> None:
    wait_for(lambda: len(rows(folder, "classifications")) >= len(IMAGES), 60, "a row for every image")
    wait_for(lambda: not any(c["backlog"] or c["in_flight"] for c in status(folder)["consumers"]), 40)
    assert sorted(row["image_name"] for row in rows(folder, "classifications")) == sorted(IMAGES)


@pytest.mark.parametrize("victim", ["child", "worker", "watcher", "gateway", "redis"])
def test_a_part_killed_during_classification(folder: Path, victim: str) -> None:
    with running(folder) as app:
        app.ready()
        upload_all(app)
        assert len(rows(folder, "classifications")) < len(IMAGES), "it still classifies"
        app.kill(victim)
        expect_one_row_each(folder)


@pytest.mark.parametrize("everything", [False, True], ids=["supervisor", "all at once"])
def test_a_run_killed_during_classification(folder: Path, everything: bool) -> None:
    with running(folder) as app:
        app.ready()
        upload_all(app)
        victims = processes_in(folder) if everything else [psutil.Process(app.process.pid)]
        for process in victims:
            process.send_signal(signal.SIGKILL)
        app.process.wait(timeout=10)
        wait_for(lambda: not processes_in(folder), 10, "all parts die with their supervisor")
    with running(folder):
        expect_one_row_each(folder)
