"""A dependency: anything that handlers share."""

from datetime import UTC, datetime


class Clock:
    """Tells the time. One is made per process, before it serves."""

    def now(self) -> datetime:
        return datetime.now(UTC)
