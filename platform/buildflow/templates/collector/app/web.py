"""The routes: one whose result is stored, one that sums up what was."""

from datetime import UTC, datetime
from typing import Any

from app.visits import Report, Visit
from buildflow.types import Table


def collect(reports: list[Report]) -> list[Visit]:
    """One row each, all stored in one transaction, then answered."""
    now = datetime.now(UTC)
    return [Visit(report.page, report.visitor, report.seconds, seen_at=now) for report in reports]


def count(visits: Table, since: datetime = datetime.min) -> list[dict[str, Any]]:
    """How often each page was seen, by how many people."""
    return visits.query(
        "SELECT page, count(*) AS visits, count(DISTINCT visitor) AS visitors "
        f"FROM {visits.name} WHERE seen_at >= ? GROUP BY page ORDER BY visits DESC, page",
        [since],
    )
