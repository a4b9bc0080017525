"""The consumer: a picture that became complete in the bucket becomes a row of the table."""

from datetime import UTC, datetime

from app.model import Model
from app.rows import Classification
from buildflow.types import FileChangeEvent


def classify_image(event: FileChangeEvent, model: Model) -> Classification:
    """What it returns is stored. What it raises ends in the table `failures`."""
    return Classification(event.file_path, model.name, model.classify(event.blob), datetime.now(UTC))
