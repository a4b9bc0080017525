"""Names of uploads: safe in the bucket, apart from each other, and still what people called them."""

import re
from datetime import UTC, datetime

import pytest

from handlers_example.names import LONGEST, clean, display_name, object_path

NOW = datetime(2026, 11, 21, 9, 5, tzinfo=UTC)


def test_a_path_carries_time_chance_and_name() -> None:
    assert re.fullmatch(r"20261121T090500Z-[0-9a-f]{8}-dog\.jpg", object_path("dog.jpg", NOW))


def test_two_uploads_with_one_name_lie_apart() -> None:
    assert len({object_path("dog.jpg", NOW) for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("IMG_0001 (2).JPG", "IMG_0001 (2).JPG"),
        ("Straße в Токио 東京.png", "Straße в Токио 東京.png"),
        ("e\u0301te\u0301.png", "été.png"),
        ("🐶.png", "🐶.png"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\windows\\system.ini", "system.ini"),
        ("/absolute/dog.png", "dog.png"),
        ("..", "image"),
        (".hidden.png", "hidden.png"),
        ("", "image"),
        (None, "image"),
        ("new\nline\x00\x1b[31m.png", "newline[31m.png"),
        ("right\u202egnp.exe", "rightgnp.exe"),
        ("50%?a=b#c.png", "50__a=b_c.png"),
        ("<script>.png", "_script_.png"),
        ("half \ud800 character.png", "half  character.png"),
    ],
)
def test_a_name_is_cleaned_and_shown_again(sent: str | None, kept: str) -> None:
    path = object_path(sent, NOW)
    assert display_name(path) == kept
    assert "/" not in path
    assert "\\" not in path


@pytest.mark.parametrize("stem", ["x" * 5000, "東" * 500, "🐶" * 300])
def test_a_long_name_is_cut_between_characters_and_keeps_its_suffix(stem: str) -> None:
    kept = clean(f"{stem}.jpeg")
    assert LONGEST - 4 < len(kept.encode()) <= LONGEST
    assert kept.endswith(".jpeg")
    assert stem.startswith(kept.removesuffix(".jpeg"))


def test_a_long_suffix_is_none() -> None:
    assert clean("a." + "b" * 500) == "a." + "b" * (LONGEST - 2)


def test_an_object_that_others_put_there_keeps_its_name() -> None:
    assert display_name("holiday/2026-dog.jpg") == "2026-dog.jpg"
