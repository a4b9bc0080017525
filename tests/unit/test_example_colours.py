"""The built-in classifier, on pictures drawn for one answer each."""

import os
import random
import time
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFilter

from handlers_example.colours import PixelClassifier, colour_name
from handlers_example.schemas import BUILT_IN


def labels(path: Path) -> dict[str, float]:
    return {each.label: each.confidence for each in PixelClassifier().classify(path)}


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def plain(colour: str, size: tuple[int, int] = (120, 80)) -> Image.Image:
    return Image.new("RGB", size, colour)


def bricks() -> Image.Image:
    """Hard edges everywhere."""
    image = plain("white", (640, 480))
    draw, chance = ImageDraw.Draw(image), random.Random(4)
    for _ in range(150):
        x, y = chance.randrange(640), chance.randrange(480)
        draw.rectangle((x, y, x + 40, y + 25), fill=chance.choice(("navy", "firebrick", "gold", "black")))
    return image


def test_its_name_does_not_pretend() -> None:
    assert PixelClassifier().name == BUILT_IN == "pixels (built in)"


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "bmp"])
def test_a_red_picture_is_red_in_every_format(tmp_path: Path, suffix: str) -> None:
    found = PixelClassifier().classify(saved(plain("red"), tmp_path / f"a.{suffix}"))
    assert (found[0].label, found[0].confidence) == ("red", 1.0)
    assert [each.label for each in found] == ["red", "medium brightness", "landscape", "plain"]


@pytest.mark.parametrize(
    ("colour", "name"),
    [
        ("black", "black"),
        ("white", "white"),
        ("grey", "grey"),
        ("crimson", "red"),
        ("darkorange", "orange"),
        ("saddlebrown", "brown"),
        ("yellow", "yellow"),
        ("limegreen", "green"),
        ("turquoise", "turquoise"),
        ("skyblue", "blue"),
        ("navy", "blue"),
        ("rebeccapurple", "purple"),
        ("hotpink", "pink"),
    ],
)
def test_colours_have_the_names_that_people_use(colour: str, name: str) -> None:
    red, green, blue = Image.new("RGB", (1, 1), colour).tobytes()
    assert colour_name(red, green, blue) == name


def test_every_colour_has_a_name() -> None:
    steps = (0, 1, 44, 45, 46, 100, 169, 170, 200, 201, 254, 255)
    assert all(colour_name(r, g, b) for r in steps for g in steps for b in steps)


def test_shares_of_two_colours(tmp_path: Path) -> None:
    image = plain("blue", (100, 100))
    image.paste((0, 160, 0), (0, 75, 100, 100))
    found = PixelClassifier().classify(saved(image, tmp_path / "a.png"))
    assert [each.label for each in found[:2]] == ["blue", "green"]
    assert found[0].confidence == pytest.approx(0.75, abs=0.02)
    assert found[1].confidence == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize(
    ("size", "label"), [((300, 200), "landscape"), ((200, 300), "portrait"), ((200, 201), "square")]
)
def test_orientation(tmp_path: Path, size: tuple[int, int], label: str) -> None:
    assert labels(saved(plain("teal", size), tmp_path / "a.png"))[label] == 1.0


def test_a_photograph_is_held_as_its_camera_was(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    found = labels(saved(plain("teal", (300, 200)), tmp_path / "a.jpg", exif=exif))
    assert "portrait" in found


@pytest.mark.parametrize(
    ("colour", "label"), [("#101010", "dark"), ("#808080", "medium brightness"), ("#f4f4f4", "bright")]
)
def test_brightness(tmp_path: Path, colour: str, label: str) -> None:
    assert labels(saved(plain(colour), tmp_path / "a.png"))[label] > 0.85


def test_sharp_and_blurred(tmp_path: Path) -> None:
    sharp = labels(saved(bricks(), tmp_path / "sharp.png"))
    blurred = labels(saved(bricks().filter(ImageFilter.GaussianBlur(6)), tmp_path / "blurred.png"))
    assert sharp["sharp"] > 0.6
    assert blurred["blurred"] > 0.6


def test_a_large_blurred_photograph_is_blurred_too(tmp_path: Path) -> None:
    large = bricks().resize((2560, 1920)).filter(ImageFilter.GaussianBlur(24))
    assert "blurred" in labels(saved(large, tmp_path / "a.jpg"))


def test_nothing_to_focus_on_is_plain(tmp_path: Path) -> None:
    assert labels(saved(plain("teal"), tmp_path / "a.png"))["plain"] == 1.0


def test_the_first_frame_of_an_animation_counts(tmp_path: Path) -> None:
    frames = [plain("yellow"), plain("blue")]
    path = saved(frames[0], tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=50)
    assert labels(path)["yellow"] == 1.0


def test_a_palette_is_colours_not_numbers(tmp_path: Path) -> None:
    image = Image.new("RGB", (600, 600), "red")
    image.paste((0, 0, 255), (300, 0, 600, 600))
    path = saved(image.quantize(8), tmp_path / "a.png")
    found = labels(path)
    assert found["red"] == pytest.approx(0.5, abs=0.02)
    assert found["blue"] == pytest.approx(0.5, abs=0.02)


def test_what_is_transparent_has_no_colour(tmp_path: Path) -> None:
    image = Image.new("RGBA", (100, 100), (0, 0, 255, 0))
    image.paste((255, 0, 0, 255), (40, 40, 60, 60))
    found = labels(saved(image, tmp_path / "a.png"))
    assert "blue" not in found
    assert found["red"] == 1.0


def test_a_transparent_palette(tmp_path: Path) -> None:
    image = Image.new("P", (100, 100), 0)
    image.putpalette([0, 0, 255, 255, 0, 0])
    image.paste(1, (0, 0, 100, 50))
    assert "blue" not in labels(saved(image, tmp_path / "a.gif", transparency=0))


def test_a_wholly_transparent_picture_says_so(tmp_path: Path) -> None:
    assert "transparent" in labels(saved(Image.new("RGBA", (50, 50), (9, 9, 9, 0)), tmp_path / "a.png"))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "I;16", "CMYK"])
def test_every_mode_of_a_file_is_understood(tmp_path: Path, mode: str) -> None:
    image = Image.new("I;16", (60, 40), 65535) if mode == "I;16" else plain("white", (60, 40)).convert(mode)
    path = saved(image, tmp_path / ("a.jpg" if mode == "CMYK" else "a.png"))
    assert labels(path)["white"] == 1.0


def test_sixteen_bits_are_scaled_not_cut(tmp_path: Path) -> None:
    assert "medium brightness" in labels(saved(Image.new("I;16", (60, 40), 32768), tmp_path / "a.png"))


def test_a_single_pixel_is_a_picture(tmp_path: Path) -> None:
    assert labels(saved(plain("red", (1, 1)), tmp_path / "a.png"))["red"] == 1.0


def test_a_strip_of_one_pixel_is_a_picture(tmp_path: Path) -> None:
    assert "landscape" in labels(saved(plain("red", (4000, 1)), tmp_path / "a.png"))


def test_a_photograph_from_a_telephone_takes_a_moment(tmp_path: Path) -> None:
    noise = Image.frombytes("RGB", (400, 300), os.urandom(400 * 300 * 3))
    path = saved(noise.resize((4000, 3000)), tmp_path / "a.jpg", quality=90)
    PixelClassifier().classify(path)
    started = time.process_time()
    PixelClassifier().classify(path)
    assert time.process_time() - started < 0.5  # some 40 ms; decoded in full it would be several times that
