"""What the table holds."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Label:
    """What a model sees, and how sure it is of it, from 0 to 1."""

    name: str
    confidence: float


@dataclass(frozen=True)
class Classification:
    """A row of the table `classifications`: what one model saw in one picture, the surest first."""

    image: str
    model: str
    labels: list[Label]
    classified_at: datetime
