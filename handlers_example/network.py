"""ImageAI's classification networks, behind the interface that the consumer knows.

This module imports ImageAI, and torch with it, only when a network is built: they take seconds and 500 MB.
"""

import io
import re
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from PIL import Image

from handlers_example.pictures import on_white, open_image
from handlers_example.schemas import Classification

LABELS = 5
LAST_ERROR = re.compile(r"^[\w.]+Error: .*?(?=\. |[.:]?$)", re.MULTILINE)
"""The first sentence of the exception that a printed traceback ends with."""


class WeightsUnusable(RuntimeError):
    """The file of weights is there, but the network cannot be loaded from it."""


class ImageAIClassifier:
    """One of ImageAI's networks with its weights. `name` is, for instance, "ImageAI MobileNetV2"."""

    def __init__(self, network: str, weights: Path) -> None:
        self.name = f"ImageAI {network}"
        self._prediction = _load(network, weights)

    def classify(self, path: Path) -> list[Classification]:
        """The five likeliest of ImageNet's thousand classes. Raises `UnreadableImage`."""
        image = on_white(open_image(path))
        labels, percentages = self._prediction.classifyImage(image, result_count=LABELS)
        pairs = zip(labels, percentages, strict=True)
        return [Classification(label, round(percentage / 100, 6)) for label, percentage in pairs]


def _load(network: str, weights: Path) -> Any:
    """The network, proven by a first picture: ImageAI prints what is wrong with weights, and carries on."""
    printed = io.StringIO()
    with warnings.catch_warnings(), redirect_stdout(printed), redirect_stderr(printed):
        warnings.simplefilter("ignore")  # ImageAI calls torchvision in a way that warns once a network
        from imageai.Classification import ImageClassification

        prediction = ImageClassification()
        getattr(prediction, f"setModelTypeAs{network}")()
        prediction.setModelPath(str(weights))
        prediction.loadModel()
    try:
        prediction.classifyImage(Image.new("RGB", (224, 224)), result_count=LABELS)
    except RuntimeError as exc:
        reason = (LAST_ERROR.findall(printed.getvalue()) or [str(exc)])[-1]
        raise WeightsUnusable(
            f"cannot load {weights} as {network} ({reason}). Is it the file of another network, or was it "
            "copied only in part? Delete it to have it downloaded again."
        ) from exc
    return prediction
