"""The consumer: a file becomes a row, or an error that says which file and why."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image

from buildflow.types import FileChangeEvent
from handlers_example.classify import UnreadableImage, classify_image
from handlers_example.colours import PixelClassifier
from handlers_example.schemas import Classification

SEEN = datetime(2026, 11, 21, 9, 5, tzinfo=UTC)


class Everything:
    """A model that sees a dog in all things."""

    name = "test"

    def classify(self, path: Path) -> list[Classification]:
        return [Classification("dog", path.stat().st_size / 100)]


def event(path: Path, time: datetime | None = SEEN) -> FileChangeEvent:
    return FileChangeEvent(f"20261121T090500Z-0a1b2c3d-{path.name}", time=time, local_path=lambda: path)


def test_a_picture_becomes_a_row(tmp_path: Path) -> None:
    (tmp_path / "dog.jpg").write_bytes(b"x" * 93)
    row = classify_image(event(tmp_path / "dog.jpg"), Everything())
    assert (row.image_name, row.image_path) == ("dog.jpg", "20261121T090500Z-0a1b2c3d-dog.jpg")
    assert (row.upload_time, row.model) == (SEEN, "test")
    assert row.classifications == [Classification("dog", 0.93)]


def test_an_event_without_a_time_happens_now(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9), "red").save(tmp_path / "a.png")
    row = classify_image(event(tmp_path / "a.png", time=None), PixelClassifier())
    assert abs(datetime.now(UTC) - row.upload_time).total_seconds() < 60


def test_what_cannot_be_read_is_named_by_what_people_called_it(tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("words")
    with pytest.raises(UnreadableImage, match=r"^cannot read notes\.png as an image: it is in no format known"):
        classify_image(event(tmp_path / "notes.png"), PixelClassifier())
