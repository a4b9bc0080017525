"""A project's graph as an SVG picture that reads well on light and on dark pages: it brings its own paper."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape
from itertools import pairwise

from buildflow.cli.graph_drawing import HEADINGS, Drawing
from buildflow.cli.graph_layout import (
    CAPTION,
    LABEL,
    LABEL_HEIGHT,
    LINE_HEIGHT,
    NAME,
    Box,
    Layout,
    Line,
    Point,
    label_width,
    layout,
)
from buildflow.cli.graph_shapes import SHAPES, at, number

MARGIN, TOP, BOTTOM = 32.0, 92.0, 76.0
NARROWEST = 480.0
SANS = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"
MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace"
COLOURS = {  # fill, line, text
    "primitive": ("#ecfdf5", "#059669", "#064e3b"),
    "dependency": ("#f5f3ff", "#7c3aed", "#4c1d95"),
    "route": ("#eff6ff", "#2563eb", "#1e3a8a"),
    "mount": ("#f8fafc", "#64748b", "#1e293b"),
    "consumer": ("#fffbeb", "#d97706", "#78350f"),
}
LINES = {"flow": "#475569", "failure": "#dc2626", "held": "#7c3aed"}
WORDS = {"mount": "static files", "flow": "data flows", "failure": "dead letters", "held": "injected"}
"""What the legend calls kinds and lines that have another name inside."""


def svg(drawing: Drawing) -> str:
    """The picture: a title, the graph, a legend of what stands in it. Raises `NoLayout`."""
    placed = layout(drawing)
    legend, legend_width = _legend(placed)
    titles = (drawing.project, _summary(drawing))
    widths = (placed.width, legend_width, label_width(titles[0], 22), label_width(titles[1], 12), NARROWEST)
    width, height = max(widths) + 2 * MARGIN, placed.height + TOP + BOTTOM
    return "\n".join(
        [
            *_paper(titles, width, height),
            _moved((width - placed.width) / 2, TOP, _graph(placed)),
            _moved((width - legend_width) / 2, height - 28, legend),
            "</svg>",
        ]
    )


def _summary(drawing: Drawing) -> str:
    counts = Counter(node.kind for node in drawing.nodes)
    parts = [f"{counts[kind]} {kind if counts[kind] == 1 else many}" for kind, many in HEADINGS.items() if counts[kind]]
    return f"stack {drawing.stack}: {', '.join(parts) or 'nothing is declared yet'}"


def _moved(x: float, y: float, parts: Sequence[str]) -> str:
    return "\n".join([f'<g transform="translate({at((x, y))})">', *parts, "</g>"])


def _paper(titles: tuple[str, str], width: float, height: float) -> Iterator[str]:
    size = f'width="{number(width)}" height="{number(height)}"'
    box = f'viewBox="0 0 {number(width)} {number(height)}"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" {size} {box} role="img" font-family="{SANS}">'
    yield f"<title>{_text(titles[0])}</title><desc>{_text(titles[1])}</desc>"
    yield f"<defs>{''.join(_markers())}</defs>"
    inner = f'width="{number(width - 1)}" height="{number(height - 1)}"'
    yield f'<rect x="0.5" y="0.5" {inner} rx="14" fill="#ffffff" stroke="#e2e8f0"/>'
    yield f'<text x="{number(MARGIN)}" y="42" font-size="20" font-weight="700" fill="#0f172a">{_text(titles[0])}</text>'
    yield f'<text x="{number(MARGIN)}" y="62" font-size="12" fill="#64748b">{_text(titles[1])}</text>'


def _markers() -> Iterator[str]:
    """The ends of lines: an arrow where data goes, a dot where something is held."""
    size = 'viewBox="0 0 10 10" refY="5" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse"'
    for style in ("flow", "failure"):
        arrow = f'<path d="M0 0.8 10 5 0 9.2z" fill="{LINES[style]}"/>'
        yield f'<marker id="{style}" {size} refX="9" orient="auto">{arrow}</marker>'
    dot = f'<circle cx="5" cy="5" r="3.6" fill="#ffffff" stroke="{LINES["held"]}" stroke-width="1.8"/>'
    yield f'<marker id="held" {size} refX="8.5" orient="auto-start-reverse">{dot}</marker>'


# the graph


def _graph(placed: Layout) -> list[str]:
    """Lines below nodes below labels."""
    lines = [_line(line.link.style, line.points, turned=line.link.turned) for line in placed.lines]
    return [*lines, *map(_node, placed.boxes), *map(_label, placed.lines)]


def _node(box: Box) -> str:
    fill, line, ink = COLOURS[box.node.kind]
    told = _text(" · ".join((box.node.key, box.node.id, *box.lines[2:])))
    return (
        f'<g fill="{fill}" stroke="{line}" stroke-width="1.5"><title>{told}</title>{_shape(box.node.kind, box)}'
        f'<g stroke="none" fill="{ink}" text-anchor="middle" font-family="{MONO}">{"".join(_words(box))}</g></g>'
    )


def _shape(kind: str, box: Box) -> str:
    return "".join(f'<path d="{path}"/>' for path in SHAPES[kind](box.x, box.y, box.width, box.height))


_FONTS = (
    f'font-size="{number(NAME)}" font-weight="600"',
    f'font-size="{number(CAPTION)}" opacity="0.8"',
    f'font-size="{number(CAPTION)}" opacity="0.8" font-style="italic"',
)
"""Of a node's name, what it is, and what it guarantees."""


def _words(box: Box) -> Iterator[str]:
    below_rim = 3 if box.node.kind == "primitive" else 0
    top = box.y + (box.height - LINE_HEIGHT * len(box.lines)) / 2 + 12 + below_rim
    for row, (line, font) in enumerate(zip(box.lines, _FONTS, strict=False)):
        place = f'x="{number(box.x + box.width / 2)}" y="{number(top + LINE_HEIGHT * row)}"'
        yield f"<text {place} {font}>{_text(line)}</text>"


def _line(style: str, points: Sequence[Point], *, turned: bool = False) -> str:
    ends = f'marker-{"start" if turned else "end"}="url(#{style})"'
    dashes = ' stroke-dasharray="4 3"' if style == "held" else ""
    return f'<path d="{_curve(points)}" fill="none" stroke="{LINES[style]}" stroke-width="1.5"{dashes} {ends}/>'


def _curve(points: Sequence[Point]) -> str:
    """Through all points, leaving and entering nodes straight."""
    parts = [f"M{at(points[0])}"]
    for (x, y), end in pairwise(points):
        middle = (x + end[0]) / 2
        bends = abs(end[1] - y) > 0.5
        parts.append(f"C{at((middle, y))} {at((middle, end[1]))} {at(end)}" if bends else f"L{at(end)}")
    return "".join(parts)


def _label(line: Line) -> str:
    """A label on paper of its own, so that no line strikes it through."""
    (x, y), width = line.label, label_width(line.link.what)
    corner = f'x="{number(x - width / 2)}" y="{number(y - LABEL_HEIGHT / 2)}"'
    size = f'width="{number(width)}" height="{number(LABEL_HEIGHT)}"'
    font = f'font-size="{number(LABEL)}" text-anchor="middle" fill="{LINES[line.link.style]}"'
    words = f'<text x="{number(x)}" y="{number(y + LABEL / 3)}" {font}>{_text(line.link.what)}</text>'
    return f'<rect {corner} {size} rx="3" fill="#ffffff"/>{words}'


# the legend


def _legend(placed: Layout) -> tuple[list[str], float]:
    """What the shapes and lines of this picture mean, and how wide that is."""
    shown = {box.node.kind for box in placed.boxes} | {line.link.style for line in placed.lines}
    parts: list[str] = []
    x = 0.0
    for name in (name for name in (*COLOURS, *LINES) if name in shown):
        words = WORDS.get(name, name)
        parts.append(_sample(name, x))
        parts.append(f'<text x="{number(x + 34)}" y="4" font-size="11" fill="#475569">{words}</text>')
        x += 34 + label_width(words, 11) + 14
    return parts, max(x - 14, 0.0)


def _sample(name: str, x: float) -> str:
    if name in LINES:
        return _line(name, ((x, 0.0), (x + 26, 0.0)))
    fill, line, _ = COLOURS[name]
    shapes = "".join(f'<path d="{path}"/>' for path in SHAPES[name](x, -9, 26, 18))
    return f'<g fill="{fill}" stroke="{line}" stroke-width="1.2">{shapes}</g>'


# text

_NO_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _text(text: str) -> str:
    """Text for XML. Control characters have no place there, not even escaped."""
    return escape(_NO_XML.sub("\ufffd", text))
