"""The app itself, killed while it classifies: after a restart every image has exactly one row."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.harness import Running, example, kill_all, processes_in, rows, running, status, wait_for
from tests.pictures import COLOURS, picture

pytestmark = pytest.mark.slow

IMAGES = {f"{colour}-{number}.png": colour for colour in COLOURS for number in range(3)}

WAIT = """

def _wait(name: str) -> None:
    import pathlib, time

    time.sleep(0.05)
    while "-2" in name and not pathlib.Path("killed").exists():
        pathlib.Path("waits").touch()
        time.sleep(0.02)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The example, whose classifier waits with the last pictures until the kill came."""
    folder = example(tmp_path)
    classify = folder / "handlers_example/classify.py"
    line = "        classifications = model.classify"
    assert line in classify.read_text()
    classify.write_text(classify.read_text().replace(line, f"        _wait(name)\n{line}") + WAIT)
    return folder


def upload_all(app: Running) -> None:
    def upload(name: str) -> int:
        files = {"image_file": (name, picture(IMAGES[name]))}
        return httpx2.post(f"{app.url}/image-upload", files=files, timeout=60).status_code

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(upload, IMAGES)) == {200}


def expect_one_row_each(folder: Path) -> None:
    wait_for(lambda: len(rows(folder, "classifications")) >= len(IMAGES), words="a row for every image")
    wait_for(lambda: not any(c["backlog"] or c["in_flight"] for c in status(folder)["consumers"]))
    assert sorted(row["image_name"] for row in rows(folder, "classifications")) == sorted(IMAGES)


@pytest.mark.parametrize("victim", ["child", "worker", "watcher", "gateway", "redis"])
def test_a_part_killed_during_classification(folder: Path, victim: str) -> None:
    with running(folder) as app:
        app.ready()
        upload_all(app)
        wait_for((folder / "waits").exists, words="it classifies")
        app.kill(victim)
        (folder / "killed").touch()
        expect_one_row_each(folder)


@pytest.mark.parametrize("everything", [False, True], ids=["supervisor", "all at once"])
def test_a_run_killed_during_classification(folder: Path, everything: bool) -> None:
    with running(folder) as app:
        app.ready()
        upload_all(app)
        wait_for((folder / "waits").exists, words="it classifies")
        victims = processes_in(folder) if everything else [psutil.Process(app.process.pid)]
        kill_all(victims)
        app.process.wait(timeout=10)
        wait_for(lambda: not processes_in(folder), 10, "all parts die with their supervisor")
    (folder / "killed").touch()
    with running(folder):
        expect_one_row_each(folder)
