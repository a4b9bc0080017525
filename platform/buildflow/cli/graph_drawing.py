"""What is drawn of a project, whatever with: its nodes, its edges, and which of them stands left."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

HEADINGS = {
    "primitive": "primitives",
    "dependency": "dependencies",
    "route": "routes",
    "mount": "mounts",
    "consumer": "consumers",
}
"""The kinds of nodes, in the order in which they are told."""
READING = ("GET", "HEAD", "OPTIONS", "WS")


@dataclass(frozen=True)
class Node:
    """One thing of the project. `type` is its kind's own: a primitive's type, a route's method, a consumer's pool;
    `id` what it is outside; `guarantee` how often a consumer's rows arrive, "" where that is not known."""

    key: str
    kind: str
    type: str
    id: str
    guarantee: str = ""
    sends_only: bool = False

    @property
    def place(self) -> "Place":
        return Place(self.kind, self.key)


class Place(NamedTuple):
    """Which node is meant: a consumer may bear a primitive's key."""

    kind: str
    key: str


class Edge(NamedTuple):
    """Data or a value goes from `origin` to `target`, as its `source`, its `sink`, `injected`..."""

    origin: Place
    target: Place
    what: str


class Link(NamedTuple):
    """An edge as a picture shows it: `left` stands before `right`.

    `style` is `flow`, `failure` or `held`. What is held has a dot at its holder and no arrow, because a handler may
    read and write it; `turned` is whether the holder stands left.
    """

    left: Node
    right: Node
    what: str
    style: str
    turned: bool = False


@dataclass(frozen=True)
class Drawing:
    """What is drawn, whatever with."""

    project: str
    stack: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    @property
    def links(self) -> Iterator[Link]:
        """The edges between known nodes, in reading direction: who writes into something stands before it."""
        known = {node.place: node for node in self.nodes}
        for edge in self.edges:
            origin, target = known.get(edge.origin), known.get(edge.target)
            if origin and target:
                turned = edge.what == "injected" and _writes(target, origin)
                left, right = (target, origin) if turned else (origin, target)
                yield Link(left, right, edge.what, _STYLES.get(edge.what, "flow"), turned)


_STYLES = {"dead letters": "failure", "injected": "held", "auth": "held"}


def _writes(holder: Node, held: Node) -> bool:
    """Whether a handler is rather before the primitive that it holds: it can only send, or its method changes."""
    if held.kind != "primitive":
        return False
    return held.sends_only or (holder.kind == "route" and holder.type not in READING)


def caption(node: Node) -> str:
    """A node's second line: a primitive's type, a function without the packages that its module lies in."""
    if node.kind == "primitive":
        return node.type
    module, colon, name = node.id.partition(":")
    return f"{module.rpartition('.')[2]}:{name}" if colon else node.id
