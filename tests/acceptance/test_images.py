"""The image classification app as a user meets it: uploads over HTTP, rows by every way to read them."""

import json

import duckdb
import httpx2
import pytest

from tests.harness import Running, platform, rows, wait_for
from tests.pictures import picture, ten_pictures

pytestmark = [pytest.mark.slow]


def upload(app: Running, name: str, content: bytes) -> httpx2.Response:
    return httpx2.post(f"{app.url}/image-upload", files={"image_file": (name, content)}, timeout=60)


def test_ten_images_become_ten_rows_on_the_page_in_query_and_in_duckdb(app: Running) -> None:
    pictures = ten_pictures()
    for name, content in pictures.items():
        assert upload(app, name, content).status_code == 200
    found = wait_for(lambda: (r := rows(app.folder, "classifications")) and len(r) >= 10 and r, words="ten rows")
    assert sorted(row["image_name"] for row in found) == sorted(pictures)
    page = app.get("/image-upload-results").decode()
    live = app.get_json("/results")["results"]
    for row in found:
        assert row["image_name"] in page
        assert row["model"] == "pixels (built in)"
        labels = [c["label"] for c in row["classifications"]]
        colour = row["image_name"].partition(".")[0]
        assert colour in labels, f"{row['image_name']} is labelled {labels}"
    assert sorted(r["image_name"] for r in live) == sorted(pictures)

    def directly() -> list[tuple[object, ...]]:
        try:
            with duckdb.connect(str(app.folder / ".buildflow/local/tables.duckdb"), read_only=True) as database:
                return database.execute("SELECT image_name FROM classifications").fetchall()
        except duckdb.IOException:
            return []  # a writer holds the file for a moment

    assert len(wait_for(directly)) == 10


def test_what_is_no_image_is_answered_clearly_and_breaks_nothing(app: Running) -> None:
    before = len(rows(app.folder, "classifications"))
    empty = upload(app, "empty.png", b"")
    assert empty.status_code == 400
    assert "empty" in empty.json()["detail"]
    large = upload(app, "large.png", b"x" * 10_500_000)
    assert large.status_code == 413
    assert "larger" in large.json()["detail"]
    assert upload(app, "text.png", b"this is no image").status_code == 200
    assert upload(app, "cut.png", picture("red")[:200]).status_code == 200
    assert upload(app, "fine.png", picture("green")).status_code == 200
    failures = wait_for(lambda: len(f := rows(app.folder, "failures")) == 2 and f, words="two dead letters")
    assert all("cannot read" in f["error"] and "UnreadableImage" in f["error"] for f in failures)
    assert all(f["attempts"] == 1 for f in failures), "trying again would not help"
    shown = json.dumps(app.get_json("/results")["failures"])
    assert "text.png" in shown
    assert "cut.png" in shown
    wait_for(lambda: len(rows(app.folder, "classifications")) == before + 1)


def test_a_file_that_somebody_puts_into_the_folder_is_classified(app: Running) -> None:
    bucket = app.folder / ".buildflow/local/buckets/image-classification-local-images"
    (bucket / "by-hand.png").write_bytes(picture("blue"))
    wait_for(lambda: any(r["image_path"] == "by-hand.png" for r in rows(app.folder, "classifications")))


def test_a_second_apply_finds_nothing_to_do_while_it_runs(app: Running) -> None:
    result = platform(app.folder, "apply")
    assert result.returncode == 0
    assert "nothing to do" in result.stderr


def test_the_api_is_documented(app: Running) -> None:
    paths = app.get_json("/openapi.json")["paths"]
    assert paths["/image-upload-results"]["get"]["summary"] == "What the model saw"
    assert "images" not in json.dumps(paths["/image-upload"]), "an injected parameter is not the client's"
