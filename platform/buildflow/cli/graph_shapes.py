"""What the kinds of nodes look like in an SVG: the paths that draw each in a box of a given size."""

from collections.abc import Callable, Iterator

from buildflow.cli.graph_layout import CORNERS, Point


def number(value: float) -> str:
    """A number without the digits that nobody sees."""
    return f"{round(value, 1) + 0.0:.1f}".removesuffix(".0")  # + 0.0: no "-0"


def at(point: Point) -> str:
    return f"{number(point[0])} {number(point[1])}"


def _path(start: Point, *steps: tuple[str, tuple[float, ...]]) -> str:
    """A closed path: a start, then commands with their numbers, relative to where the one before it ended."""
    return f"M{at(start)}" + "".join(f"{command}{' '.join(map(number, numbers))}" for command, numbers in steps) + "z"


def _cylinder(x: float, y: float, width: float, height: float) -> Iterator[str]:
    rim, half = 5.0, width / 2
    below, across = (half, rim, 0, 0, 1, width, 0), (half, rim, 0, 0, 1, -width, 0)
    yield _path((x, y + rim), ("a", below), ("v", (height - 2 * rim,)), ("a", across))
    yield f"M{at((x, y + rim))}a{number(half)} {number(rim)} 0 0 0 {number(width)} 0"


def _round(x: float, y: float, width: float, height: float, r: float) -> str:
    flat, upright = width - 2 * r, height - 2 * r
    turns = [(r, r, 0, 0, 1, dx, dy) for dx, dy in ((r, r), (-r, r), (-r, -r), (r, -r))]
    return _path(
        (x + r, y),
        *(("h", (flat,)), ("a", turns[0]), ("v", (upright,)), ("a", turns[1])),
        *(("h", (-flat,)), ("a", turns[2]), ("v", (-upright,)), ("a", turns[3])),
    )


def _pill(x: float, y: float, width: float, height: float) -> Iterator[str]:
    yield _round(x, y, width, height, min(CORNERS["route"], height / 2))


def _barred(x: float, y: float, width: float, height: float) -> Iterator[str]:
    yield _round(x, y, width, height, CORNERS["consumer"])
    yield "".join(f"M{at((bar, y))}v{number(height)}" for bar in (x + 7, x + width - 7))


def _cut(x: float, y: float, width: float, height: float) -> Iterator[str]:
    c = min(CORNERS["dependency"], height / 3)
    flat, upright = width - 2 * c, height - 2 * c
    yield _path(
        (x + c, y),
        *(("h", (flat,)), ("l", (c, c)), ("v", (upright,)), ("l", (-c, c))),
        *(("h", (-flat,)), ("l", (-c, -c)), ("v", (-upright,))),
    )


def _folder(x: float, y: float, width: float, height: float) -> Iterator[str]:
    tab = min(34.0, width / 3)
    yield _path((x, y), ("h", (tab,)), ("l", (6, 7)), ("h", (width - tab - 6,)), ("v", (height - 7,)), ("h", (-width,)))


SHAPES: dict[str, Callable[[float, float, float, float], Iterator[str]]] = {
    "primitive": _cylinder,
    "dependency": _cut,
    "route": _pill,
    "mount": _folder,
    "consumer": _barred,
}
"""The paths of each kind of node, in a box at x, y of this width and height."""
