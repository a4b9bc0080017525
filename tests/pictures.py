"""Images made on the spot."""

import io

from PIL import Image, ImageDraw

COLOURS = ["red", "green", "blue", "orange", "purple", "white", "black", "turquoise", "pink", "yellow"]
FORMATS = ["PNG", "JPEG", "GIF", "WEBP"]


def picture(colour: str, format: str = "PNG", size: tuple[int, int] = (320, 200)) -> bytes:
    image = Image.new("RGB", size, colour)
    ImageDraw.Draw(image).ellipse((20, 20, size[1] - 20, size[1] - 20), fill="grey")
    out = io.BytesIO()
    image.save(out, format)
    return out.getvalue()


def ten_pictures() -> dict[str, bytes]:
    """Ten different images in four formats, by file name."""
    kinds = [(colour, FORMATS[i % len(FORMATS)]) for i, colour in enumerate(COLOURS)]
    return {f"{colour}.{format.lower()}": picture(colour, format) for colour, format in kinds}
