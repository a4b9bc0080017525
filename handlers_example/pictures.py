"""Opening pictures: whatever a file claims to be, it becomes pixels, or `UnreadableImage`."""

import struct
import warnings
import zlib
from contextlib import suppress
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")
"""What browsers show too. Every further decoder would be one more that strangers can feed."""

DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    OverflowError,
    ZeroDivisionError,
    EOFError,
    struct.error,
    zlib.error,
)
"""What Pillow's decoders raise over damaged data; it wraps few of them."""

# A picture of a billion pixels may be a file of a few kilobytes. Pillow warns from 89 million on.
warnings.simplefilter("error", Image.DecompressionBombWarning)


class UnreadableImage(ValueError):
    """The file is no picture that can be read. Trying again would not help."""


def open_image(path: Path, *, about: int | None = None) -> Image.Image:
    """The whole picture, decoded to its last byte so that a truncated file is found, the right way up.

    `about` allows a JPEG to be decoded smaller, with sides of at least so many pixels: several times faster.
    An animation gives its first frame. Raises `UnreadableImage`; a file that cannot be read from the disk
    raises `OSError`, because that may well work the next time.
    """
    if path.stat().st_size == 0:
        raise UnreadableImage("the file is empty")
    try:
        image = _decode(path, about)
    except UnidentifiedImageError as exc:
        raise UnreadableImage(f"it is in no format known here ({', '.join(FORMATS)})") from exc
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise UnreadableImage(f"it has more than {Image.MAX_IMAGE_PIXELS or 0:,} pixels") from exc
    except DAMAGE as exc:
        if isinstance(exc, OSError) and exc.errno is not None:
            raise
        raise UnreadableImage(f"its data is incomplete or damaged ({_words(exc)})") from exc
    return _upright(image)


def on_white(image: Image.Image) -> Image.Image:
    """The picture in RGB, what is transparent in it shown white."""
    layer = with_alpha(image)
    paper = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(paper, layer).convert("RGB")


def with_alpha(image: Image.Image) -> Image.Image:
    """The picture in RGBA, from whichever mode its file had."""
    if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow would clip, not scale
        image = image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    return image.convert("RGBA")


def _decode(path: Path, about: int | None) -> Image.Image:
    with path.open("rb") as file:
        image: Image.Image = Image.open(file, formats=FORMATS)
        if about is not None:
            image.draft(None, (about, about))
        image.load()
    return image


def _upright(image: Image.Image) -> Image.Image:
    """Turn a photograph as its camera was held. A damaged note about that does not spoil the picture."""
    with suppress(*DAMAGE):
        return ImageOps.exif_transpose(image)
    return image


def _words(exc: BaseException) -> str:
    return str(exc).strip() or type(exc).__name__
