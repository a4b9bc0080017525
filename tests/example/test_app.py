"""The example's own tests, to be copied: the whole app in process, on real local parts, its model replaced."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from buildflow.testing import App, app
from handlers_example.schemas import Classification
from tests.harness import ROOT
from tests.pictures import picture


class Fake:
    """A model that always sees a cat."""

    name = "fake"

    def classify(self, path: Path) -> list[Classification]:
        assert path.read_bytes(), "the picture is a file on this machine"
        return [Classification("cat", 0.9)]


@pytest.fixture
def running() -> Iterator[App]:
    with app(ROOT / "buildflow.yaml", replace={"model": Fake()}) as started:
        yield started


def test_an_uploaded_image_becomes_a_classified_row(running: App) -> None:
    answer = running.http.post("/image-upload", files={"image_file": ("tom.png", picture("grey"))})
    assert answer.status_code == 200
    (row,) = running.rows("classifications", at_least=1)
    assert (row["image_name"], row["model"]) == ("tom.png", "fake")
    assert row["classifications"] == [{"label": "cat", "confidence": 0.9}]
    assert "tom.png" in running.http.get("/image-upload-results").text


def test_a_file_put_into_the_bucket_by_hand_is_classified_too(running: App) -> None:
    running.handle("images").write("by-hand.png", picture("red"))
    assert running.rows("classifications", at_least=1)[0]["image_path"] == "by-hand.png"


def test_an_event_of_a_missing_object_is_given_up(running: App) -> None:
    running.send("uploads", {"file_path": "nowhere.png"})
    (letter,) = running.dead_letters("classify_image", at_least=1, timeout=30)
    assert "nowhere.png" in letter.error
    assert running.rows("classifications") == []


def test_nothing_is_left_to_do_after_all_are_done(running: App) -> None:
    for colour in ("red", "green", "blue"):
        running.http.post("/image-upload", files={"image_file": (f"{colour}.png", picture(colour))})
    running.drain()
    assert len(running.rows("classifications")) == 3
