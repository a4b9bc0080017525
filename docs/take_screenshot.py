"""Take the README's screenshot again: `python docs/take_screenshot.py [http://127.0.0.1:8000]`.

It needs a running app and Chromium. It draws a few pictures, uploads them through the page's own file input,
waits for their results and writes docs/images/page.png. Against an app that holds other pictures already,
those are in the screenshot too: start from an empty stack.
"""

import math
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFilter
from playwright.sync_api import Page, sync_playwright

TARGET = Path(__file__).parent / "images" / "page.png"
CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SETTLED = ".card[data-state=done], .card[data-state=failed]"


def vertical(size: tuple[int, int], top: str, bottom: str) -> Image.Image:
    """A gradient from one colour down to another."""
    mask = Image.linear_gradient("L").resize(size)
    return Image.composite(Image.new("RGB", size, bottom), Image.new("RGB", size, top), mask)


def hills() -> Image.Image:
    """A morning: sky, sun and three ridges, each nearer one darker."""
    image = vertical((1200, 800), "#5aa9e6", "#fde7c8")
    draw = ImageDraw.Draw(image)
    draw.ellipse((820, 150, 960, 290), fill="#fff3b0")
    for number, colour in enumerate(("#6c9a8b", "#3f7d4f", "#1f5a34")):
        ridge = [(x, _ridge(x, number)) for x in range(0, 1201, 4)]
        draw.polygon([(0, 800), *ridge, (1200, 800)], fill=colour)
    return image


def _ridge(x: int, number: int) -> float:
    wave = math.sin(x / (150 - 25 * number) + number * 2) + 0.4 * math.sin(x / 47 + number)
    return 470 + number * 105 + wave * 45


def lighthouse() -> Image.Image:
    """An evening, held upright."""
    image = vertical((700, 1000), "#1b1f4b", "#e0567f")
    draw = ImageDraw.Draw(image)
    draw.polygon([(300, 800), (320, 340), (400, 340), (420, 800)], fill="#f4f1ea")
    for top in (430, 570, 710):
        draw.polygon([(314, top), (406, top), (410, top + 60), (310, top + 60)], fill="#b3262e")
    draw.rectangle((325, 280, 395, 340), fill="#ffe27a")
    draw.polygon([(315, 280), (360, 235), (405, 280)], fill="#b3262e")
    draw.rectangle((0, 800, 700, 1000), fill="#15183a")
    return image


def sunset() -> Image.Image:
    """A photograph that was out of focus."""
    image = vertical((1000, 700), "#ff9a3c", "#7a1f3d")
    draw = ImageDraw.Draw(image)
    draw.ellipse((380, 260, 620, 500), fill="#ffd75e")
    draw.rectangle((0, 470, 1000, 700), fill="#3a1030")
    return image.filter(ImageFilter.GaussianBlur(14))


def waves() -> Image.Image:
    """A pattern, square."""
    rings = Image.radial_gradient("L").resize((800, 800))
    stripes = rings.point(lambda value: int(127 + 127 * math.sin(value / 5)))
    shade = ImageChops.multiply(stripes, ImageChops.invert(rings))
    return Image.merge("RGB", (shade.point(lambda value: value // 5), shade, stripes))


def night() -> Image.Image:
    """Stars over a dark field, each placed by a sum that looks like chance."""
    image = vertical((1100, 750), "#050816", "#14213d")
    draw = ImageDraw.Draw(image)
    for number in range(140):
        x, y, size = number * 617 % 1100, number * number * 37 % 560, 1 + number % 3
        draw.ellipse((x - size, y - size, x + size, y + size), fill="#f8f9ff")
    draw.ellipse((760, 90, 880, 210), fill="#f4efd7")
    draw.ellipse((735, 75, 850, 190), fill="#080e20")
    draw.rectangle((0, 600, 1100, 750), fill="#02040a")
    return image


def draw_samples(folder: Path) -> list[str]:
    """The pictures, and one file that only says it is one; their paths, the last on the page first."""
    hills().save(folder / "morning hills.jpg", quality=92)
    lighthouse().save(folder / "lighthouse.png")
    sunset().save(folder / "sunset.webp", quality=90)
    waves().save(folder / "rings.gif")
    night().save(folder / "night.jpg", quality=92)
    whole = (folder / "lighthouse.png").read_bytes()
    (folder / "half a download.png").write_bytes(whole[: len(whole) // 2])
    names = (
        "morning hills.jpg",
        "lighthouse.png",
        "sunset.webp",
        "rings.gif",
        "night.jpg",
        "half a download.png",
    )
    return [str(folder / name) for name in names]


def upload(page: Page, files: list[str]) -> None:
    """Put the files into the page's file input, and wait until each has its answer."""
    before = page.locator(SETTLED).count()
    page.set_input_files("#file-input", files)
    page.locator(SETTLED).nth(before + len(files) - 1).wait_for(timeout=60_000)
    page.wait_for_timeout(800)  # for the bars to reach their length


def main(url: str) -> None:
    """Take the screenshot of the app at `url`."""
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM)
        page = browser.new_page(viewport={"width": 1120, "height": 900}, color_scheme="light")
        page.goto(url)
        upload(page, draw_samples(Path(folder)))
        page.screenshot(path=TARGET, full_page=True)
        browser.close()
    sys.stderr.write(f"wrote {TARGET}\n")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000")
