"""What cannot be read is told apart from what can, with a reason in words."""

import random
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from handlers_example.pictures import UnreadableImage, on_white, open_image


def drawn() -> Image.Image:
    return Image.effect_noise((300, 200), 80).convert("RGB")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_that_claims(width: int, height: int) -> bytes:
    """A few bytes that promise a picture of any size."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b"")


def test_no_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.touch()
    with pytest.raises(UnreadableImage, match=r"^the file is empty$"):
        open_image(path)


@pytest.mark.parametrize(
    "content",
    [b"just some words", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\x89"],
)
def test_no_picture(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(UnreadableImage, match="no format known here"):
        open_image(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "bmp"])
@pytest.mark.parametrize("about", [None, 64])
def test_a_truncated_file_in_every_format(tmp_path: Path, suffix: str, about: int | None) -> None:
    path = tmp_path / f"a.{suffix}"
    drawn().save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(UnreadableImage, match="incomplete or damaged"):
        open_image(path, about=about)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "bmp"])
def test_damage_anywhere_is_unreadable_or_harmless(tmp_path: Path, suffix: str) -> None:
    """Whatever Pillow makes of random damage, nothing but `UnreadableImage` comes out."""
    whole = tmp_path / f"whole.{suffix}"
    drawn().resize((60, 40)).save(whole)
    chance, path = random.Random(7), tmp_path / f"a.{suffix}"
    outcomes = set()
    for _ in range(150):
        data = bytearray(whole.read_bytes())
        for _ in range(chance.randrange(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data)
        try:
            open_image(path)
            outcomes.add("read")
        except UnreadableImage:
            outcomes.add("unreadable")
    assert outcomes


@pytest.mark.parametrize(("width", "height"), [(10_000, 9_500), (60_000, 60_000)])
def test_a_decompression_bomb(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png_that_claims(width, height))
    with pytest.raises(UnreadableImage, match="more than 89,478,485 pixels"):
        open_image(path)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_damaged_note_about_orientation_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    drawn().save(path, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\xff\xff")
    assert open_image(path).size == (300, 200)


def test_a_file_that_is_gone_may_come_back(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_image(tmp_path / "gone.png")


def test_what_is_transparent_is_shown_white(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(path)
    assert on_white(open_image(path)).getpixel((0, 0)) == (255, 255, 255)
