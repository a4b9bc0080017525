"""The picture: valid, whole, and nothing in it lies on anything else."""

import builtins
import re
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest

from buildflow.cli.graph import drawing_of
from buildflow.cli.graph_drawing import Drawing, Edge, Node, Place
from buildflow.cli.graph_layout import LABEL_HEIGHT, Layout, NoLayout, label_width, layout, text_width
from buildflow.cli.graph_svg import svg
from buildflow.cli.graph_texts import dot, mermaid, tree
from buildflow.compiler import compile_file
from tests.harness import ROOT

SVG = "{http://www.w3.org/2000/svg}"


def example() -> Drawing:
    result = compile_file(ROOT / "buildflow.yaml", environment={})
    assert result.ok
    return drawing_of(result.plan)


def shop(orders: int) -> Drawing:
    """Routes that send, consumers that work, tables, routes that read; dead letters in one table; a shared clock."""
    nodes = [Node("failures", "primitive", "table", "failures"), Node("clock", "dependency", "replica", "app:clock")]
    edges: list[Edge] = []
    for n in range(orders):
        route, queue, consumer = (
            Place("route", f"POST /orders/{n}"),
            Place("primitive", f"queue_{n}"),
            Place("consumer", f"work_{n}"),
        )
        table, reader = Place("primitive", f"table_{n}"), Place("route", f"GET /orders/{n}")
        nodes += [
            Node(route.key, "route", "POST", "app:order"),
            Node(queue.key, "primitive", "queue", "q", sends_only=True),
            Node(consumer.key, "consumer", "main", "app:work", "effectively once"),
            Node(table.key, "primitive", "table", "t"),
            Node(reader.key, "route", "GET", "app:read"),
        ]
        edges += [
            Edge(queue, route, "injected"),
            Edge(Place("dependency", "clock"), route, "injected"),
            Edge(queue, consumer, "source"),
            Edge(consumer, table, "sink"),
            Edge(consumer, Place("primitive", "failures"), "dead letters"),
            Edge(table, reader, "injected"),
        ]
    return Drawing("shop", "local", tuple(nodes), tuple(edges))


def circle() -> Drawing:
    """Two consumers that feed each other."""
    nodes = [Node(key, "primitive", "queue", key, sends_only=True) for key in ("a", "b")]
    nodes += [Node(key, "consumer", "main", f"app:{key}") for key in ("a", "b")]
    edges = [
        Edge(Place("primitive", "a"), Place("consumer", "a"), "source"),
        Edge(Place("consumer", "a"), Place("primitive", "b"), "sink"),
        Edge(Place("primitive", "b"), Place("consumer", "b"), "source"),
        Edge(Place("consumer", "b"), Place("primitive", "a"), "sink"),
    ]
    return Drawing("circle", "local", tuple(nodes), tuple(edges))


DRAWINGS = {"example": example, "thirty nodes": lambda: shop(6), "circle": circle}


@pytest.fixture(params=DRAWINGS)
def drawing(request: pytest.FixtureRequest) -> Drawing:
    return DRAWINGS[request.param]()


# the layout

Rectangle = tuple[float, float, float, float]


def rectangles(found: Layout) -> Iterator[tuple[str, Rectangle]]:
    for box in found.boxes:
        yield f"{box.node.kind} {box.node.key}", (box.x, box.y, box.width, box.height)
    for line in found.lines:
        width = label_width(line.link.what)
        x, y = line.label
        about = f"label of {line.link.left.key} - {line.link.right.key}"
        yield about, (x - width / 2, y - LABEL_HEIGHT / 2, width, LABEL_HEIGHT)


def overlap(one: Rectangle, other: Rectangle) -> bool:
    (a, b, c, d), (e, f, g, h) = one, other
    return a < e + g and e < a + c and b < f + h and f < b + d


def test_no_node_and_no_label_lies_on_another(drawing: Drawing) -> None:
    pairs = combinations(rectangles(layout(drawing)), 2)
    assert [(one, other) for (one, a), (other, b) in pairs if overlap(a, b)] == []


def test_all_of_it_lies_within_its_bounds(drawing: Drawing) -> None:
    found = layout(drawing)
    for what, (x, y, width, height) in rectangles(found):
        assert -0.1 <= x <= x + width <= found.width + 0.1, what
        assert -0.1 <= y <= y + height <= found.height + 0.1, what


def test_every_link_is_a_line_between_its_two_nodes(drawing: Drawing) -> None:
    found = layout(drawing)
    at = {box.node.place: box for box in found.boxes}
    assert [line.link for line in found.lines] == list(drawing.links)
    for line in found.lines:
        for node, (x, y) in ((line.link.left, line.points[0]), (line.link.right, line.points[-1])):
            box = at[node.place]
            assert box.x - 0.1 <= x <= box.x + box.width + 0.1
            assert box.y - 0.1 <= y <= box.y + box.height + 0.1


def test_data_flows_from_left_to_right() -> None:
    for line in layout(shop(6)).lines:
        assert line.points[0][0] < line.points[-1][0]


def test_text_fits_its_box(drawing: Drawing) -> None:
    for box in layout(drawing).boxes:
        assert all(text_width(line, 13 if row == 0 else 11) <= box.width - 30 for row, line in enumerate(box.lines))


def test_the_same_project_gives_the_same_picture(drawing: Drawing) -> None:
    assert svg(drawing) == svg(drawing)


# the picture


def words(picture: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(picture).iter(f"{SVG}text")]


def test_it_shows_names_labels_guarantees_a_title_and_a_legend() -> None:
    shown = words(svg(example()))
    assert shown[:2] == [
        "image-classification",
        "stack local: 4 primitives, 1 dependency, 5 routes, 1 mount, 1 consumer",
    ]
    assert {"images", "bucket", "model", "GET /images/{path:path}", "classify_image", "/static"} <= set(shown)
    assert {"source", "sink", "injected", "dead letters", "effectively once"} <= set(shown)
    assert shown[-8:] == [
        "primitive", "dependency", "route", "static files", "consumer", "data flows", "dead letters", "injected",
    ]  # fmt: skip


def test_kinds_differ_in_colour_and_lines_in_their_ends() -> None:
    picture = svg(example())
    root = ElementTree.fromstring(picture)
    nodes = {
        title.text.partition(" · ")[0]: group.get("fill")
        for group in root.iter(f"{SVG}g")
        if (title := group.find(f"{SVG}title")) is not None and title.text
    }
    kinds = ("images", "model", "GET /", "/static", "classify_image")
    assert len({nodes[key] for key in kinds}) == len(kinds)
    ends = re.findall(r'marker-(start|end)="url\(#(\w+)\)"', picture)
    assert {("end", "flow"), ("end", "failure"), ("end", "held"), ("start", "held")} <= set(ends)


def test_names_cannot_break_it() -> None:
    odd = 'a<b>&"\x00\x1b\ud800' + "日" * 60
    picture = svg(Drawing(odd, "local", (Node(odd, "mount", "files", odd),), ()))
    shown = words(picture)
    assert shown[0] == odd.replace("\x00", "�").replace("\x1b", "�").replace("\ud800", "�")
    assert any(text.endswith("…") for text in shown), "a long name is cut in the picture"
    assert "日" * 60 in picture, "and whole in its tooltip"
    picture.encode()


def test_an_empty_project_has_a_picture_too() -> None:
    assert words(svg(Drawing("nothing", "local", (), ()))) == ["nothing", "stack local: nothing is declared yet"]


def test_it_brings_its_own_paper(drawing: Drawing) -> None:
    root = ElementTree.fromstring(svg(drawing))
    paper = root.find(f"{SVG}rect")
    assert paper is not None
    assert paper.get("fill") == "#ffffff"
    assert float(paper.get("width", "0")) + 1 == float(root.get("width", "0"))


def test_without_the_engine_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name == "graphlay":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(NoLayout) as raised:
        svg(circle())
    assert "pip install" in raised.value.hint


# many


def test_a_thousand_routes_are_drawn_in_a_moment() -> None:
    drawing = shop(500)
    for draw in (tree, mermaid, dot):
        started = time.process_time()
        assert len(list(draw(drawing))) > 1000
        assert time.process_time() - started < 1
