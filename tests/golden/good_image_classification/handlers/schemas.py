from dataclasses import dataclass
from datetime import datetime


@dataclass
class Classification:
    label: str
    confidence: float


@dataclass
class ImageClassificationRow:
    image_name: str
    image_classification_timestamp: datetime
    classifications: list[Classification]
