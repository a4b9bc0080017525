"""A project's graph as text: a tree for terminals, Mermaid for documents, DOT for Graphviz."""

import re
from collections.abc import Iterator, Sequence
from typing import TypeVar

from buildflow.cli.graph_drawing import HEADINGS, Drawing, Node, Place, caption

T = TypeVar("T")

# a tree


def tree(drawing: Drawing) -> Iterator[str]:
    """Every node below its kind, with what it takes from, uses and writes to."""
    yield f"{drawing.project} ({drawing.stack})"
    about = _sentences(drawing)
    groups: dict[str, list[Node]] = {kind: [] for kind in HEADINGS}
    for node in drawing.nodes:
        groups[node.kind].append(node)
    shown = [(HEADINGS[kind], nodes) for kind, nodes in groups.items() if nodes]
    for heading, bar, below in branches(shown, ""):
        yield f"{bar}{heading[0]}"
        for node, inner, leaves in branches(heading[1], below):
            yield f"{inner}{_line(node)}"
            yield from (f"{leaf}{text}" for text, leaf, _ in branches(about.get(node.place, []), leaves))


def branches(items: Sequence[T], indent: str) -> Iterator[tuple[T, str, str]]:
    """Each item, what stands before it, and what stands before all below it."""
    for number, item in enumerate(items, 1):
        last = number == len(items)
        yield item, f"{indent}{'└' if last else '├'}── ", f"{indent}{'    ' if last else '│   '}"


def _line(node: Node) -> str:
    if node.kind == "primitive":
        return f"{node.key}  {node.type}  {node.id}"
    if node.kind == "dependency":
        return f"{node.key}  {node.id}  ({node.type})"
    function = f"  -> {node.id}" if node.id else ""
    return f"{node.key}{function}" + (f"  ({node.guarantee})" if node.guarantee else "")


def _sentences(drawing: Drawing) -> dict[Place, list[str]]:
    """What a tree says of each node; a consumer's source first."""
    found: dict[Place, list[str]] = {}
    for origin, target, what in drawing.edges:
        if what == "source":
            found.setdefault(target, []).insert(0, f"takes from {origin.key}")
        elif what in ("sink", "dead letters"):
            found.setdefault(origin, []).append(f"{'writes to' if what == 'sink' else 'gives up to'} {target.key}")
        else:
            found.setdefault(target, []).append(f"{'is guarded by' if what == 'auth' else 'uses'} {origin.key}")
    return found


# Mermaid

_MERMAID_SHAPES = {
    "primitive": "[({})]",
    "route": "([{}])",
    "mount": "[/{}/]",
    "consumer": "[[{}]]",
    "dependency": "{{{{{}}}}}",
}
_MERMAID_LINES = {"flow": "-->", "failure": "-->", "held": "-.-"}
_MERMAID_CLASSES = """\
  classDef primitive fill:#d1fae5,stroke:#059669,color:#064e3b
  classDef dependency fill:#ede9fe,stroke:#7c3aed,color:#4c1d95
  classDef route fill:#dbeafe,stroke:#2563eb,color:#1e3a8a
  classDef mount fill:#f1f5f9,stroke:#64748b,color:#1e293b
  classDef consumer fill:#fef3c7,stroke:#d97706,color:#78350f"""


def mermaid(drawing: Drawing) -> Iterator[str]:
    """A flow chart; names and ids are kept apart, so no key can end or begin anything."""
    yield "flowchart LR"
    names = {node.place: f"n{number}" for number, node in enumerate(drawing.nodes)}
    for node in drawing.nodes:
        below = f"<br/><i>{_mermaid_text(caption(node))}</i>" if caption(node) else ""
        label = f'"{_mermaid_text(node.key)}{below}"'
        yield f"  {names[node.place]}{_MERMAID_SHAPES[node.kind].format(label)}:::{node.kind}"
    for left, right, what, style, _ in drawing.links:
        yield f"  {names[left.place]} {_MERMAID_LINES[style]}|{_mermaid_text(what)}| {names[right.place]}"
    if drawing.nodes:
        yield _MERMAID_CLASSES


def _mermaid_text(text: str) -> str:
    """Characters that Mermaid, Markdown or HTML would read as theirs, as character codes."""
    return re.sub(r"""[^\w \-./:,(){}=+*'\[\]]""", lambda match: f"#{ord(match[0])};", text)


# DOT

_DOT_SHAPES = {
    "primitive": 'shape=cylinder, fillcolor="#d1fae5", color="#059669"',
    "dependency": 'shape=hexagon, fillcolor="#ede9fe", color="#7c3aed"',
    "route": 'shape=box, style="rounded,filled", fillcolor="#dbeafe", color="#2563eb"',
    "mount": 'shape=folder, fillcolor="#f1f5f9", color="#64748b"',
    "consumer": 'shape=component, fillcolor="#fef3c7", color="#d97706"',
}
_DOT_LINES = {
    "flow": 'color="#334155"',
    "failure": 'color="#dc2626", fontcolor="#dc2626"',
    "held": 'color="#7c3aed", fontcolor="#7c3aed", style=dashed, arrowhead=odot',
    "turned": 'color="#7c3aed", fontcolor="#7c3aed", style=dashed, dir=back, arrowtail=odot',
}


def dot(drawing: Drawing) -> Iterator[str]:
    """A digraph for `dot -Tsvg` and its friends."""
    yield f"digraph {_dot_text(drawing.project)} {{"
    yield f"  graph [rankdir=LR, label={_dot_text(f'{drawing.project} ({drawing.stack})')}, labelloc=t]"
    yield '  node [fontname="Helvetica,Arial,sans-serif", style=filled, margin="0.2,0.1"]'
    yield '  edge [fontname="Helvetica,Arial,sans-serif", fontsize=10]'
    names = {node.place: f"n{number}" for number, node in enumerate(drawing.nodes)}
    for node in drawing.nodes:
        label = _dot_text(node.key, caption(node))
        yield f"  {names[node.place]} [label={label}, {_DOT_SHAPES[node.kind]}]"
    for left, right, what, style, turned in drawing.links:
        line = _DOT_LINES["turned" if turned else style]
        yield f"  {names[left.place]} -> {names[right.place]} [label={_dot_text(what)}, {line}]"
    yield "}"


def _dot_text(*lines: str) -> str:
    """Lines as one quoted string. In a label a backslash begins an escape, so each is doubled, and `&` an entity.

    Source: https://graphviz.org/doc/info/lang.html and https://graphviz.org/docs/attr-types/escString/
    """
    escaped = (re.sub(r'(["\\])', r"\\\1", line).replace("&", "&amp;").replace("\n", " ") for line in lines if line)
    return '"' + r"\n".join(escaped) + '"'
