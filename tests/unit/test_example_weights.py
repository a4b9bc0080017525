"""Weights: downloaded once, checked against the hash in their name, and never silently wrong.

A server on loopback stands for torchvision's; nothing here leaves the machine.
"""

import hashlib
import logging
import multiprocessing
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from handlers_example import model, weights
from handlers_example.colours import PixelClassifier
from handlers_example.weights import WeightsRefused, WeightsUnavailable, obtain

CONTENT = b"weights " * 100_000
NAME = f"mobilenet_v2-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"


@dataclass
class Published:
    """What the server sends, and what it was asked for."""

    url: str = ""
    content: bytes = CONTENT
    status: int = 200
    promised: int | None = None
    delay: float = 0.0
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Iterator[Published]:
    state = Published()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            time.sleep(state.delay)
            self.send_response(state.status)
            self.send_header("Content-Length", str(state.promised or len(state.content)))
            self.end_headers()
            self.wfile.write(state.content)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/models/"
    monkeypatch.setattr(weights, "PUBLISHED_AT", state.url)
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> str:
    """A loopback port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setattr(weights, "PUBLISHED_AT", f"http://127.0.0.1:{port}/")
    return str(port)


@pytest.fixture
def vision(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if ImageAI and torch were installed; a test that imported them would fail."""
    monkeypatch.setattr(model, "find_spec", lambda _: object())
    for package in model.VISION:
        monkeypatch.setitem(sys.modules, package, None)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Downloading


def test_missing_weights_are_downloaded_once(tmp_path: Path, published: Published) -> None:
    path = tmp_path / "models" / NAME
    assert obtain(path, "MobileNetV2") == path
    obtain(path, "MobileNetV2")
    assert path.read_bytes() == CONTENT
    assert published.asked == [f"/models/{NAME}"]
    assert left_in(path.parent) == [NAME]


def test_a_bar_shows_the_progress(tmp_path: Path, published: Published, capsys: pytest.CaptureFixture[str]) -> None:
    obtain(tmp_path / NAME, "MobileNetV2")
    said = capsys.readouterr()
    assert NAME in said.err
    assert "800.0/800.0 kB" in said.err
    assert said.out == ""


def test_what_is_not_as_its_name_promises_is_refused_and_not_kept(tmp_path: Path, published: Published) -> None:
    published.content = CONTENT[:-1] + b"!"
    with pytest.raises(WeightsRefused, match=r"its sha256 begins with \w{8}, not \w{8}. Nothing was kept"):
        obtain(tmp_path / NAME, "MobileNetV2")
    assert left_in(tmp_path) == []


def test_a_download_that_ends_early_is_not_kept(tmp_path: Path, published: Published) -> None:
    published.promised = len(CONTENT) + 1
    with pytest.raises(WeightsUnavailable, match="1 bytes early"):
        obtain(tmp_path / NAME, "MobileNetV2")
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("status", [403, 404, 503])
def test_an_answer_that_is_no_file(tmp_path: Path, published: Published, status: int) -> None:
    published.status = status
    with pytest.raises(WeightsUnavailable, match=f"could not be downloaded from http://.*{status}"):
        obtain(tmp_path / NAME, "MobileNetV2")
    assert left_in(tmp_path) == []


def test_what_a_killed_process_left_is_overwritten(tmp_path: Path, published: Published) -> None:
    (tmp_path / f".{NAME}.part").write_bytes(b"x" * 2 * len(CONTENT))
    obtain(tmp_path / NAME, "MobileNetV2")
    assert left_in(tmp_path) == [NAME]


def test_a_silent_server_does_not_hold_the_start_up(
    tmp_path: Path, published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "CONNECT_SECONDS", 0.05)
    published.delay = 0.5
    with pytest.raises(WeightsUnavailable, match="no answer within"):
        obtain(tmp_path / NAME, "MobileNetV2")


def test_processes_that_start_together_share_one_download(tmp_path: Path, published: Published) -> None:
    published.delay = 0.2
    context = multiprocessing.get_context("spawn")
    with context.Pool(3) as pool:
        found = pool.starmap(_obtain_elsewhere, [(str(tmp_path / NAME), published.url)] * 3)
        pool.close()
        pool.join()
    assert found == [hashlib.sha256(CONTENT).hexdigest()] * 3
    assert len(published.asked) == 1
    assert left_in(tmp_path) == [NAME]


def _obtain_elsewhere(path: str, url: str) -> str:
    weights.PUBLISHED_AT = url
    return hashlib.sha256(obtain(Path(path), "MobileNetV2").read_bytes()).hexdigest()


# Names


def test_a_file_that_is_there_is_the_users_own(tmp_path: Path, nowhere: str) -> None:
    (tmp_path / NAME).write_bytes(b"my own training")
    assert obtain(tmp_path / NAME, "MobileNetV2").read_bytes() == b"my own training"


@pytest.mark.parametrize("name", ["my-weights.pth", "resnet50-0676ba61.pth", "mobilenet_v2.pth"])
def test_a_name_that_nobody_publishes_for_the_network(tmp_path: Path, nowhere: str, name: str) -> None:
    with pytest.raises(WeightsRefused, match=r"call it mobilenet_v2-b0353104\.pth"):
        obtain(tmp_path / name, "MobileNetV2")


def test_an_unknown_network(tmp_path: Path, nowhere: str) -> None:
    with pytest.raises(WeightsRefused, match="ImageAI knows MobileNetV2, ResNet50, InceptionV3, DenseNet121"):
        obtain(tmp_path / NAME, "AlexNet")


# The dependency


def test_without_a_network_the_built_in_classifier_answers_loudly(
    tmp_path: Path, nowhere: str, vision: None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        classifier = model.load_model(str(tmp_path / "mobilenet_v2-b0353104.pth"), "MobileNetV2")
    assert isinstance(classifier, PixelClassifier)
    assert f"could not be downloaded from http://127.0.0.1:{nowhere}/mobilenet_v2-b0353104.pth" in caplog.text
    assert "ImageAI IS NOT IN USE" in caplog.text
    assert left_in(tmp_path) == []


def test_without_the_extra_it_says_how_to_get_it(
    tmp_path: Path, published: Published, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(model, "find_spec", lambda package: None if package == "imageai" else object())
    with caplog.at_level(logging.WARNING):
        classifier = model.load_model(str(tmp_path / NAME), "MobileNetV2")
    assert isinstance(classifier, PixelClassifier)
    assert "missing: imageai)" in caplog.text
    assert "make vision" in caplog.text
    assert "pip install 'buildflow-platform[vision]'" in caplog.text
    assert published.asked == []  # 14 MB that nobody could use


def test_a_wrong_download_is_an_error_not_another_classifier(
    tmp_path: Path, published: Published, vision: None
) -> None:
    published.content = b"something else"
    with pytest.raises(WeightsRefused):
        model.load_model(str(tmp_path / NAME), "MobileNetV2")


def test_importing_the_handlers_does_not_import_torch() -> None:
    import handlers_example.classify
    import handlers_example.network
    import handlers_example.web  # noqa: F401

    assert not {"torch", "imageai", "torchvision"} & {name for name in sys.modules if sys.modules[name]}
