"""The whole service in process, on a real table in a folder that is gone afterwards."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from buildflow.testing import App, app


class Noon:
    """A clock that stands still."""

    def now(self) -> datetime:
        return datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def service() -> Iterator[App]:
    with app("buildflow.yaml", replace={"clock": Noon()}) as running:
        yield running


def test_a_note_that_was_added_can_be_read(service: App) -> None:
    added = service.http.post("/notes", json={"text": "buy tea", "tags": ["shop"]})
    assert added.status_code == 201
    note = service.http.get(f"/notes/{added.json()['id']}").json()
    assert (note["text"], note["tags"]) == ("buy tea", ["shop"])
    assert note["written_at"].startswith("2026-01-01T12:00:00")


def test_notes_are_searched(service: App) -> None:
    for text in ("buy tea", "drink tea", "sleep"):
        service.http.post("/notes", json={"text": text})
    found = service.http.get("/notes", params={"search": "tea", "limit": 5}).json()
    assert {note["text"] for note in found} == {"buy tea", "drink tea"}


def test_what_is_no_note_is_refused(service: App) -> None:
    assert service.http.post("/notes", json={"text": ""}).status_code == 422
    assert service.http.get("/notes/unknown").status_code == 404
