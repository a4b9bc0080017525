"""The row that the consumer writes and the routes read. `buildflow.yaml` names it as a table's columns."""

from dataclasses import dataclass
from datetime import datetime

BUILT_IN = "pixels (built in)"
"""The `model` of a row that no neural network has labelled."""


@dataclass(frozen=True)
class Classification:
    """One label, and how sure the model is of it, from 0 to 1."""

    label: str
    confidence: float


@dataclass(frozen=True)
class ImageClassificationRow:
    """What one model saw in one picture: at most five labels, the most telling first."""

    image_name: str
    image_path: str
    upload_time: datetime
    """UTC."""
    model: str
    classifications: list[Classification]
