"""Where each node, line and label of a project's picture goes. graphlay decides that; here it is asked.

graphlay is a layered layout engine (Sugiyama's method) in a wheel of 1.5 MB: no program has to be installed beside it.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from buildflow.cli.graph_drawing import Drawing, Link, Node, caption
from buildflow.errors import BuildflowError

NAME, CAPTION, LABEL = 13.0, 11.0, 10.5
"""Font sizes, in px."""
LINE_HEIGHT, LABEL_HEIGHT = 16.0, 14.0
PADDING_X, PADDING_Y = 20.0, 11.0
LONGEST = 42
"""Characters of a line in a node; the whole stands in its tooltip."""
CORNERS = {"route": 18.0, "dependency": 10.0, "consumer": 6.0}
"""How much of each corner of a kind's shape is round, or cut."""
_ADVANCE = 0.602
"""The width of a character of a monospaced font, as a part of its size: so no text outgrows its box."""
_PROPORTIONAL = 0.9
"""How much narrower text is in any other font, at least."""
_OPTIONS: dict[str, Any] = {
    "spacing": {"layer_gap": 36, "node_gap": 32, "isolated_gap": 32, "edge_label_margin": 16},
    "labels": {"reservation": "always"},
    "routing": {"style": "diagonal", "port_sides": "facing_only"},
}

Point = tuple[float, float]


class NoLayout(BuildflowError):
    """Drawing an SVG needs the package graphlay."""

    hint = "pip install 'graphlay>=0.3.1,<0.4'; or take --format mermaid or dot, which need nothing"


@dataclass(frozen=True)
class Box:
    """A node with its lines of text, its size, and where its left upper corner goes, in px."""

    node: Node
    lines: tuple[str, ...]
    width: float
    height: float
    x: float = 0.0
    y: float = 0.0


@dataclass(frozen=True)
class Line:
    """A link with the points that it goes through and the centre of its label."""

    link: Link
    points: tuple[Point, ...]
    label: Point


@dataclass(frozen=True)
class Layout:
    """Everything in its place; the left upper corner of it all is (0, 0)."""

    boxes: tuple[Box, ...] = ()
    lines: tuple[Line, ...] = ()
    width: float = 0.0
    height: float = 0.0


def layout(drawing: Drawing) -> Layout:
    """From left to right, in the direction in which data goes. Raises `NoLayout` without graphlay."""
    boxes, links = [_box(node) for node in drawing.nodes], list(drawing.links)
    if not boxes:
        return Layout()
    found = _engine().layout(_graph(boxes, links), options=_OPTIONS)
    (left, top), (right, bottom) = _bounds(found, links)

    def moved(point: dict[str, float]) -> Point:
        return point["x"] - left, point["y"] - top

    placed = tuple(_centred(box, moved(node["center"])) for box, node in zip(boxes, found.nodes, strict=True))
    at = {box.node.place: box for box in placed}
    lines = (
        Line(link, _to_outlines([*map(moved, edge["points"])], link, at), moved(edge["label_anchor"]))
        for link, edge in zip(links, found.edges, strict=True)
    )
    return Layout(placed, tuple(lines), right - left, bottom - top)


def _engine() -> Any:
    try:
        import graphlay
    except ImportError as exc:
        raise NoLayout from exc
    return graphlay


def _graph(boxes: Sequence[Box], links: Sequence[Link]) -> Any:
    graph = _engine().Graph()
    for box in boxes:
        graph.node(box.node.place, width=box.width, height=box.height)
    for link in links:
        size = {"width": label_width(link.what), "height": LABEL_HEIGHT}
        graph.edge(link.left.place, link.right.place, label_size=size)
    return graph


def _box(node: Node) -> Box:
    """The size that a node needs for its text."""
    lines = tuple(_shortened(text) for text in (node.key, caption(node), node.guarantee) if text)
    widest = max(text_width(line, CAPTION if number else NAME) for number, line in enumerate(lines))
    return Box(node, lines, widest + 2 * PADDING_X, LINE_HEIGHT * len(lines) + 2 * PADDING_Y)


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def text_width(text: str, size: float) -> float:
    """The width of a text in a monospaced font, in px. Wide characters take two cells."""
    cells = sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
    return cells * size * _ADVANCE


def label_width(text: str, size: float = LABEL) -> float:
    """The width of a text in a proportional font, with a little room."""
    return text_width(text, size) * _PROPORTIONAL + 4


def _bounds(found: Any, links: Sequence[Link]) -> tuple[Point, Point]:
    """The corners of it all. The engine's own leave labels out."""
    corners = [_point(found.bounds["min"]), _point(found.bounds["max"])]
    for link, edge in zip(links, found.edges, strict=True):
        (x, y), half = _point(edge["label_anchor"]), label_width(link.what) / 2
        corners += [(x - half, y - LABEL_HEIGHT / 2), (x + half, y + LABEL_HEIGHT / 2)]
    across, down = zip(*corners, strict=True)
    return (min(across), min(down)), (max(across), max(down))


def _centred(box: Box, centre: Point) -> Box:
    return replace(box, x=centre[0] - box.width / 2, y=centre[1] - box.height / 2)


def _point(point: dict[str, float]) -> Point:
    return point["x"], point["y"]


def _to_outlines(points: Sequence[Point], link: Link, at: dict[Any, Box]) -> tuple[Point, ...]:
    """The engine ends lines at boxes; the corners of what is drawn in them are cut or round."""
    first, *between, last = points
    return _to_outline(first, at[link.left.place]), *between, _to_outline(last, at[link.right.place])


def _to_outline(point: Point, box: Box) -> Point:
    x, y = point
    corner = CORNERS.get(box.node.kind, 0.0)
    missing = min(corner - min(y - box.y, box.y + box.height - y), corner)
    if missing <= 0:
        return point
    inset = missing if box.node.kind == "dependency" else corner - (corner**2 - missing**2) ** 0.5
    return (x + inset, y) if x < box.x + box.width / 2 else (x - inset, y)
