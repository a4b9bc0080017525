"""The dependency `model`: ImageAI where it can be had, the small built-in classifier where it cannot."""

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from handlers_example.colours import PixelClassifier
from handlers_example.schemas import BUILT_IN, Classification
from handlers_example.weights import WeightsUnavailable, obtain

logger = logging.getLogger(__name__)

VISION = ("imageai", "torch", "torchvision")


class Classifier(Protocol):
    """Something that labels pictures. `name` goes into the row's `model` column."""

    name: str

    def classify(self, path: Path) -> list[Classification]:
        """At most five labels, the most telling first. Raises `UnreadableImage`."""
        ...


def load_model(weights: str, model: str = "MobileNetV2") -> Classifier:
    """The classifier that `buildflow.yaml` asks for, ready to work.

    `model` names the network, `weights` the file of its weights; a missing one is downloaded once. Where
    that cannot be done, the built-in classifier answers instead, and says so. Weights that are there but do
    not fit raise: quietly using something else would hide a mistake.
    """
    missing = [package for package in VISION if find_spec(package) is None]
    if missing:
        return _built_in(f"The vision extra is not installed (missing: {', '.join(missing)}).")
    try:
        file = obtain(Path(weights), model)
    except WeightsUnavailable as exc:
        return _built_in(str(exc))
    from handlers_example.network import ImageAIClassifier

    return ImageAIClassifier(model, file)


def _built_in(reason: str) -> Classifier:
    logger.warning(WARNING.format(line="=" * 78, reason=reason, name=BUILT_IN))
    return PixelClassifier()


WARNING = """
{line}
  ImageAI IS NOT IN USE.
  {reason}

  Pictures are labelled by the small built-in classifier instead: dominant
  colours, brightness, orientation and sharpness. It does not recognise things.
  The column `model` says "{name}" for every row it labels.

  To get ImageAI:  make vision
             or:  pip install 'buildflow-platform[vision]'
  and let this machine reach https://download.pytorch.org once, or put the
  weights where `dependencies.model.with.weights` of buildflow.yaml says.
{line}"""
