"""Durations in seconds and sizes in bytes, as users write them."""

from typing import Any

import pytest

from buildflow.spec.units import parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5400),
        ("2d", 172800),
        ("1.5h", 5400),
        ("1m1s1ms", 61.001),
        (0, 0),
        (30, 30),
        (0.25, 0.25),
        (-1, -1),
    ],
)
def test_durations(text: Any, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "5",
        "5 s",
        "s",
        "-5s",
        "1h 30m",
        "5min",
        "5M",
        "1e3s",
        "5s!",
        True,
        None,
        [],
        {},
        10**400,
        "9" * 500 + "s",
        float("inf"),
        float("nan"),
        10**12,
        "100000000d",
    ],
)
def test_no_durations(text: Any) -> None:
    with pytest.raises(ValueError, match=r"duration|hundred years"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512KB", 512_000),
        ("10MB", 10**7),
        ("1GiB", 2**30),
        ("1.5 KiB", 1536),
        ("7B", 7),
        (0, 0),
        (12, 12),
        ("2GB", 2 * 10**9),
    ],
)
def test_sizes(text: Any, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "10", "10mb", "10 megabytes", "-1MB", "MB", 1.5, True, None, [], 10**400, "9" * 500 + "GB", 10**19]
)
def test_no_sizes(text: Any) -> None:
    with pytest.raises(ValueError, match=r"size|larger than any store"):
        parse_size(text)
