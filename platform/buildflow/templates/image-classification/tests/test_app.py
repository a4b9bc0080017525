"""The whole project in process: a real bucket, real events, a real table."""

from collections.abc import Iterator
from io import BytesIO

import pytest
from PIL import Image

from buildflow.testing import App, app


def picture(colour: str) -> bytes:
    """A PNG of one colour."""
    file = BytesIO()
    Image.new("RGB", (64, 64), colour).save(file, "PNG")
    return file.getvalue()


class Cat:
    """A model that always sees a cat."""

    name = "cat"

    def classify(self, picture: bytes) -> list[dict[str, object]]:
        assert picture, "the bytes of the picture"
        return [{"name": "cat", "confidence": 0.9}]


@pytest.fixture
def running() -> Iterator[App]:
    with app("buildflow.yaml") as started:
        yield started


def test_an_uploaded_picture_becomes_a_classified_row(running: App) -> None:
    answer = running.http.post("/image-upload", files={"image_file": ("a rose.png", picture("red"))})
    (row,) = running.rows("classifications", at_least=1)
    assert (row["image"], row["model"]) == (answer.json()["image"], "colours")
    assert row["labels"] == [{"name": "red", "confidence": 1.0}]
    assert running.http.get("/image-upload-results").json()[0]["image"] == row["image"]


def test_what_is_no_picture_is_given_up_with_its_reason(running: App) -> None:
    running.http.post("/image-upload", files={"image_file": ("a.png", b"no picture")})
    (letter,) = running.rows("failures", at_least=1)
    assert "UnreadableImage" in letter["error"]


def test_another_model_takes_its_place() -> None:
    with app("buildflow.yaml", replace={"model": Cat()}) as running:
        running.handle("images").write("tom.png", picture("grey"))
        assert running.rows("classifications", at_least=1)[0]["labels"][0]["name"] == "cat"


def test_the_page_offers_an_upload(running: App) -> None:
    assert 'action="/image-upload"' in running.http.get("/").text
