"""The dependency `model`. This one only knows colours; put yours in its place."""

import math
from collections import Counter
from io import BytesIO
from typing import Protocol

from PIL import Image

from app.rows import Label

COLOURS = {
    "black": (0, 0, 0),
    "grey": (128, 128, 128),
    "white": (255, 255, 255),
    "red": (220, 40, 40),
    "orange": (240, 150, 40),
    "yellow": (240, 220, 60),
    "green": (60, 160, 60),
    "blue": (50, 80, 210),
    "purple": (130, 60, 170),
}


class UnreadableImage(ValueError):
    """The bytes are no picture. buildflow.yaml says that this is not tried again."""


class Model(Protocol):
    """What the consumer needs: a test's stand-in has to offer no more."""

    name: str

    def classify(self, picture: bytes) -> list[Label]: ...


class ColourModel:
    """Labels a picture by the colours that cover most of it."""

    name = "colours"

    def classify(self, picture: bytes) -> list[Label]:
        """At most three labels, the largest share first."""
        try:
            small = Image.open(BytesIO(picture)).convert("RGB").resize((32, 32))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as exc:
            raise UnreadableImage(str(exc)) from exc
        raw = small.tobytes()  # red, green, blue, red, green, blue, ...
        seen = Counter(map(nearest, raw[::3], raw[1::3], raw[2::3]))
        return [Label(name, round(count / seen.total(), 3)) for name, count in seen.most_common(3)]


def nearest(*pixel: int) -> str:
    """The name of the colour that differs least."""
    return min(COLOURS, key=lambda name: math.dist(COLOURS[name], pixel))
