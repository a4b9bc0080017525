"""The built-in classifier: what can be said of a picture from its pixels alone, without a neural network.

It names the dominant colours, how bright the picture is, how it is held and whether it is sharp. It knows
nothing of dogs or cars, and its name, which the `model` column shows, says so.
"""

from collections import Counter
from pathlib import Path

from PIL import Image, ImageChops, ImageFilter, ImageStat

from handlers_example.pictures import on_white, open_image, with_alpha
from handlers_example.schemas import BUILT_IN, Classification

DETAIL = 512
"""The longest side, in pixels, at which sharpness and brightness are measured."""
SWATCH = 48
"""The longest side at which colours are counted."""
HUES = (
    (15, "red"),
    (40, "orange"),
    (68, "yellow"),
    (160, "green"),
    (195, "turquoise"),
    (255, "blue"),
    (305, "purple"),
    (340, "pink"),
    (360, "red"),
)
"""Up to which degree of the colour circle each name reaches."""
SECOND_COLOUR = 0.05
"""The share from which a second colour is worth naming."""
PLAIN = 4.0
"""The variance of brightness below which there is no detail that could be sharp."""
SMEAR = 4
"""How far, in pixels, a picture is smeared to see whether that changes anything."""
HALF_SHARP = 0.45
"""The share of its edges that a picture keeps when smeared, from which it counts as blurred."""


class PixelClassifier:
    """Labels a picture by its colours, brightness, orientation and sharpness."""

    name = BUILT_IN

    def classify(self, path: Path) -> list[Classification]:
        """At most five labels, the dominant colours first. Raises `UnreadableImage`."""
        image = open_image(path, about=DETAIL)
        small = with_alpha(_shrunk(image, DETAIL))
        grey = on_white(small).convert("L")
        return [*colours(small), brightness(grey), orientation(image.size), sharpness(grey)]


def colours(image: Image.Image) -> list[Classification]:
    """The one or two colours with the largest share of what is visible."""
    swatch = image.copy()
    swatch.thumbnail((SWATCH, SWATCH), Image.Resampling.BOX)
    visible = (pixel for pixel in _pixels(swatch) if pixel[3] >= 128)
    seen = Counter(colour_name(red, green, blue) for red, green, blue, _ in visible)
    if not seen:
        return [Classification("transparent", 1.0)]
    shares = [Classification(name, round(count / seen.total(), 4)) for name, count in seen.most_common(2)]
    return shares[:1] + [share for share in shares[1:] if share.confidence >= SECOND_COLOUR]


def colour_name(red: int, green: int, blue: int) -> str:
    """What people would call a colour."""
    high, low = max(red, green, blue), min(red, green, blue)
    if high < 45:
        return "black"
    if (high - low) / high < 0.16:
        return "white" if low > 200 else "grey"
    hue = _hue(red, green, blue)
    if 15 <= hue < 50 and high < 170:
        return "brown"
    if hue >= 340 and low > 150:
        return "pink"
    return next(name for limit, name in HUES if hue <= limit)


def orientation(size: tuple[int, int]) -> Classification:
    """How the picture is held; a twentieth more on one side still counts as square."""
    width, height = size
    if max(size) <= min(size) * 1.05:
        return Classification("square", 1.0)
    return Classification("landscape" if width > height else "portrait", 1.0)


def brightness(grey: Image.Image) -> Classification:
    """Dark, bright or between, by the mean; the three shares of a mean sum to 1."""
    mean = ImageStat.Stat(grey).mean[0] / 255
    shares = {"dark": 1 - 2 * mean, "bright": 2 * mean - 1, "medium brightness": 1 - abs(2 * mean - 1)}
    label = max(shares, key=lambda name: shares[name])
    return Classification(label, round(shares[label], 4))


def sharpness(grey: Image.Image) -> Classification:
    """Sharp or blurred: smearing takes most of its edges from a sharp picture, and few from a blurred one.

    After Crete and others, "The blur effect: perception and estimation with a new no-reference perceptual
    blur metric", 2007.
    """
    if ImageStat.Stat(grey).var[0] < PLAIN or min(grey.size) <= 2 * SMEAR:
        return Classification("plain", 1.0)
    kept = (_edges_kept(grey, (1, 0)) + _edges_kept(grey, (0, 1))) / 2
    if kept <= HALF_SHARP:
        return Classification("sharp", round(1 - kept / HALF_SHARP / 2, 4))
    return Classification("blurred", round((1 + (kept - HALF_SHARP) / (1 - HALF_SHARP)) / 2, 4))


def _edges_kept(grey: Image.Image, step: tuple[int, int]) -> float:
    """The share of the differences between neighbours in one direction that smearing leaves, 0 to 1."""
    smeared = grey.filter(ImageFilter.BoxBlur((step[0] * SMEAR, step[1] * SMEAR)))
    before, after = _differences(grey, step), _differences(smeared, step)
    total = ImageStat.Stat(before).sum[0]
    return 1 - ImageStat.Stat(ImageChops.subtract(before, after)).sum[0] / total if total else 0.0


def _differences(grey: Image.Image, step: tuple[int, int]) -> Image.Image:
    """How much each pixel differs from its neighbour one step on."""
    right, down = step
    width, height = grey.width - right, grey.height - down
    neighbours = grey.crop((right, down, right + width, down + height))
    return ImageChops.difference(grey.crop((0, 0, width, height)), neighbours)


def _shrunk(image: Image.Image, side: int) -> Image.Image:
    """At most `side` pixels a side. Palettes become colours first: the mean of two indices means nothing."""
    copy = image.copy() if image.mode in ("L", "RGB", "RGBA", "CMYK") else with_alpha(image)
    copy.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return copy


def _pixels(image: Image.Image) -> list[tuple[int, int, int, int]]:
    raw = image.tobytes()
    return list(zip(raw[::4], raw[1::4], raw[2::4], raw[3::4], strict=True))


def _hue(red: int, green: int, blue: int) -> float:
    """The place on the colour circle, in degrees from 0 (red) over 120 (green) and 240 (blue)."""
    high, low = max(red, green, blue), min(red, green, blue)
    if high == red:
        return (60 * (green - blue) / (high - low)) % 360
    if high == green:
        return 60 * (blue - red) / (high - low) + 120
    return 60 * (red - green) / (high - low) + 240
