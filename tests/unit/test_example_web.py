"""The routes, called as the plain functions that they are, with a bucket and tables of the test's own."""

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from PIL import Image

from buildflow.exceptions import HTTPException, InvalidObjectName, ObjectNotFound
from buildflow.requests import UploadFile
from buildflow.types import ObjectInfo
from handlers_example import web
from handlers_example.schemas import BUILT_IN

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


class MemoryBucket:
    """As much of a bucket as the routes use."""

    name = "images"

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def write(self, path: str, data: bytes | str | BinaryIO) -> ObjectInfo:
        assert not isinstance(data, bytes | str)
        self.objects[path] = data.read()
        return ObjectInfo(path, len(self.objects[path]), NOON)

    def read(self, path: str) -> bytes:
        if ".." in path:
            raise InvalidObjectName
        if path not in self.objects:
            raise ObjectNotFound
        return self.objects[path]


class MemoryTable:
    """As much of a table as the routes use: rows, the newest first."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        self.name, self.held = "table", rows

    def rows(self, *, order_by: str, limit: int) -> list[dict[str, Any]]:
        column, direction = order_by.split()
        assert direction == "DESC"
        return sorted(self.held, key=lambda row: row[column], reverse=True)[:limit]


def row(path: str, minutes: int = 0, model: str = "ImageAI MobileNetV2", label: str = "dog") -> dict[str, Any]:
    return {
        "image_name": path,
        "image_path": path,
        "upload_time": NOON + timedelta(minutes=minutes),
        "model": model,
        "classifications": [{"label": label, "confidence": 0.931}],
    }


def dead(payload: bytes, error: str = "UnreadableImage: cannot read it", minutes: int = 0) -> dict[str, Any]:
    moment = NOON + timedelta(minutes=minutes)
    return {"payload": payload, "error": error, "attempts": 1, "sent_at": moment, "dead_at": moment}


def event(path: str) -> bytes:
    return json.dumps({"file_path": path}).encode()


def upload(bucket: MemoryBucket, name: str | None, data: bytes) -> dict[str, Any]:
    return web.image_upload(UploadFile(io.BytesIO(data), filename=name, size=len(data)), bucket)


def found(classifications: MemoryTable, failures: MemoryTable) -> dict[str, Any]:
    return json.loads(web.results(classifications, failures).body)


def png() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(data, "PNG")
    return data.getvalue()


# Uploads


def test_an_upload_is_stored_under_the_path_that_it_answers() -> None:
    bucket = MemoryBucket()
    answer = upload(bucket, "dog.png", b"bytes")
    assert bucket.objects == {answer["image_path"]: b"bytes"}
    assert (answer["image_name"], answer["size"]) == ("dog.png", 5)


def test_one_name_twice_is_two_objects() -> None:
    bucket = MemoryBucket()
    paths = [upload(bucket, "dog.png", data)["image_path"] for data in (b"first", b"second")]
    assert [bucket.objects[path] for path in paths] == [b"first", b"second"]


@pytest.mark.parametrize("name", ["../../up.png", "/etc/passwd", "..\\up.png", "東" * 400, "\x00.png", ""])
def test_no_name_leaves_the_bucket(name: str) -> None:
    bucket = MemoryBucket()
    path = upload(bucket, name, b"bytes")["image_path"]
    assert "/" not in path
    assert "\\" not in path
    assert "\0" not in path
    assert not path.startswith(".")
    assert len(path.encode()) < 200


def test_an_empty_file_is_refused_in_words() -> None:
    bucket = MemoryBucket()
    with pytest.raises(HTTPException) as caught:
        upload(bucket, "dog.png", b"")
    assert (caught.value.status_code, caught.value.detail) == (400, "dog.png is empty: it has 0 bytes.")
    assert not bucket.objects


def test_a_file_that_is_no_picture_is_the_consumers_business() -> None:
    bucket = MemoryBucket()
    upload(bucket, "notes.txt", b"words")
    assert list(bucket.objects.values()) == [b"words"]


# Pictures


def test_a_picture_is_served_as_what_its_bytes_are() -> None:
    bucket = MemoryBucket()
    bucket.objects["dog.txt"] = png()
    answer = web.image("dog.txt", bucket)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "content-disposition" not in answer.headers
    assert answer.body == bucket.objects["dog.txt"]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
def test_every_format_is_known_by_its_first_bytes(kind: str) -> None:
    bucket, data = MemoryBucket(), io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(data, kind)
    bucket.objects["a"] = data.getvalue()
    assert web.image("a", bucket).headers["content-type"] == f"image/{kind.lower()}"


@pytest.mark.parametrize("data", [b"<script>alert(1)</script>", b"<svg onload='alert(1)'/>", b"", b"RIFF1234WAVE"])
def test_anything_else_is_only_offered_to_be_saved(data: bytes) -> None:
    bucket = MemoryBucket()
    bucket.objects["dog.png"] = data
    answer = web.image("dog.png", bucket)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == "attachment"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["nothing.png", "../secret"])
def test_no_such_picture(path: str) -> None:
    with pytest.raises(HTTPException) as caught:
        web.image(path, MemoryBucket())
    assert caught.value.status_code == 404


# Results


def test_results_come_newest_first_with_their_model() -> None:
    listing = found(MemoryTable(row("old.png"), row("new.png", minutes=5)), MemoryTable())
    assert [entry["image_path"] for entry in listing["results"]] == ["new.png", "old.png"]
    assert listing["results"][0] == {
        "image_path": "new.png",
        "image_name": "new.png",
        "upload_time": "2026-11-21T12:05:00+00:00",
        "model": "ImageAI MobileNetV2",
        "classifications": [{"label": "dog", "confidence": 0.931}],
    }


def test_a_time_without_a_zone_is_utc() -> None:
    naive = {**row("a.png"), "upload_time": NOON.replace(tzinfo=None)}
    assert found(MemoryTable(naive), MemoryTable())["results"][0]["upload_time"].endswith("12:00:00+00:00")


def test_an_overwritten_picture_is_listed_once_with_its_newest_result() -> None:
    listing = found(MemoryTable(row("a.png", label="cat"), row("a.png", minutes=1)), MemoryTable())
    assert [entry["classifications"][0]["label"] for entry in listing["results"]] == ["dog"]


def test_a_failure_comes_with_its_reason() -> None:
    path = "20261121T090500Z-0a1b2c3d-half.png"
    letter = dead(event(path), "handlers_example.pictures.UnreadableImage: cannot read half.png: no")
    (failure,) = found(MemoryTable(), MemoryTable(letter))["failures"]
    assert (failure["image_path"], failure["image_name"]) == (path, "half.png")
    assert (failure["reason"], failure["attempts"]) == ("cannot read half.png: no", 1)


def test_a_failure_that_was_replayed_well_is_none() -> None:
    assert found(MemoryTable(row("a.png")), MemoryTable(dead(event("a.png"))))["failures"] == []


@pytest.mark.parametrize("payload", [b"", b"\xff\xfe", b"[]", b"{}", b"null"])
def test_a_dead_letter_of_something_else_does_not_break_the_page(payload: bytes) -> None:
    (failure,) = found(MemoryTable(), MemoryTable(dead(payload, "MemoryError")))["failures"]
    assert (failure["image_path"], failure["reason"]) == ("(unknown)", "MemoryError")


@pytest.mark.parametrize(("newest", "built_in"), [(BUILT_IN, True), ("ImageAI ResNet50", False)])
def test_the_page_learns_whether_the_built_in_classifier_is_in_use(newest: str, built_in: bool) -> None:
    table = MemoryTable(row("old.png", model="something"), row("new.png", minutes=1, model=newest))
    assert found(table, MemoryTable())["built_in"] is built_in


def test_nothing_new_is_304() -> None:
    table, failures = MemoryTable(row("a.png")), MemoryTable()
    first = web.results(table, failures)
    again = web.results(table, failures, if_none_match=first.headers["etag"])
    assert (again.status_code, again.body) == (304, b"")
    more = web.results(MemoryTable(row("a.png"), row("b.png")), failures, if_none_match=first.headers["etag"])
    assert more.status_code == 200


# Pages


def test_the_page_is_found_from_any_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    answer = web.index()
    assert 'id="file-input"' in Path(answer.path).read_text(encoding="utf-8")
    assert answer.headers["content-type"].startswith("text/html")


def test_the_table_shows_results_and_failures() -> None:
    page = web.image_upload_results(
        MemoryTable(row("in a folder/dog 1.png")),
        MemoryTable(dead(event("bad.png"), "ValueError: it is torn")),
    ).body.decode()
    assert "<th scope='row'>in a folder/dog 1.png</th>" in page
    assert "/images/in%20a%20folder/dog%201.png" in page
    assert "93.1%" in page
    assert "ImageAI MobileNetV2" in page
    assert "it is torn" in page


def test_no_word_from_outside_becomes_markup() -> None:
    evil = "<script>alert('x')"
    table = MemoryTable({**row(evil, label=evil), "model": evil})
    failures = MemoryTable(dead(event("b" + evil), f"ValueError: {evil}"))
    page = web.image_upload_results(table, failures).body.decode()
    assert "<script>" not in page
    assert "alert('x')" not in page
    assert page.count("&lt;script&gt;") == 5


def test_an_empty_table_is_a_page_too() -> None:
    assert "No picture has been labelled yet" in web.image_upload_results(MemoryTable(), MemoryTable()).body.decode()
