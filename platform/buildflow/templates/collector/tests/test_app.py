"""The whole project in process, on a real table in a folder that is gone afterwards."""

from collections.abc import Iterator

import pytest

from buildflow.testing import App, app


@pytest.fixture
def collector() -> Iterator[App]:
    with app("buildflow.yaml") as running:
        yield running


def test_reports_become_rows_and_are_summed_up(collector: App) -> None:
    reports = [{"page": page, "visitor": visitor} for page, visitor in (("/", "a"), ("/", "b"), ("/tea", "a"))]
    assert collector.http.post("/visits", json=reports).status_code == 201
    assert len(collector.rows("visits")) == 3
    assert collector.http.get("/visits").json() == [
        {"page": "/", "visits": 2, "visitors": 2},
        {"page": "/tea", "visits": 1, "visitors": 1},
    ]
    assert collector.http.get("/visits", params={"since": "2100-01-01T00:00:00Z"}).json() == []


def test_of_a_broken_report_nothing_is_stored(collector: App) -> None:
    broken = [{"page": "/", "visitor": "a"}, {"page": "/"}]
    assert collector.http.post("/visits", json=broken).status_code == 422
    assert collector.rows("visits") == []
