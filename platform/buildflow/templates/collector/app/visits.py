"""What a page reports, and what the table holds."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Report:
    """The body of `POST /visits`."""

    page: str
    visitor: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Visit:
    """A row of the table `visits`."""

    page: str
    visitor: str
    seconds: float
    seen_at: datetime
