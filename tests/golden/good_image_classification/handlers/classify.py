from buildflow.types import FileChangeEvent

from handlers.model import Classifier
from handlers.schemas import ImageClassificationRow


def classify_image(file_event: FileChangeEvent, model: Classifier) -> ImageClassificationRow: ...
