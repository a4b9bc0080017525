"""The consumer: a picture that became complete in the bucket becomes a row of the table."""

from datetime import UTC, datetime

from buildflow.types import FileChangeEvent
from handlers_example.model import Classifier
from handlers_example.names import display_name
from handlers_example.pictures import UnreadableImage
from handlers_example.schemas import ImageClassificationRow

__all__ = ["UnreadableImage", "classify_image"]


def classify_image(file_event: FileChangeEvent, model: Classifier) -> ImageClassificationRow:
    """Label one picture. One that nobody can read raises, and goes to the dead letters with the reason."""
    name = display_name(file_event.file_path)
    try:
        classifications = model.classify(file_event.path)
    except UnreadableImage as exc:
        raise UnreadableImage(f"cannot read {name} as an image: {exc}") from exc
    return ImageClassificationRow(
        image_name=name,
        image_path=file_event.file_path,
        upload_time=file_event.time or datetime.now(UTC),
        model=model.name,
        classifications=classifications,
    )
