"""A name at its place, and the names that a single text holds: `${var.x}`, `module:function`, `GET /{id:int}`."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from buildflow.spec import document
from buildflow.spec.document import Mapping, Node, Scalar
from buildflow.spec.project import HANDLER, METHODS

Path = tuple[Any, ...]
_INTERPOLATION = re.compile(r"(?<!\$)\$\{(\w+)(?:\.(\w+))?")
_PARAMETER = re.compile(r"\{(\w+)(?::(\w+))?\}")
_WORD = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class Name:
    """One name, at one place. `kind` is what it is in words; that of a declaring one is "declares SECTION", that of
    a reference "reference to SECTION", that of what a stack lays over the base "overlay of SECTION"."""

    text: str
    kind: str
    line: int
    column: int
    path: Path
    accepts: tuple[str, ...] = ()
    """What YAML kinds its value may have, for keys: see `kinds.accepts`."""
    required: bool = False

    @property
    def declares(self) -> bool:
        return self.kind.startswith("declares ")


@dataclass(frozen=True)
class Pieces:
    """Makes names out of the texts of one file."""

    lines: Sequence[str]

    def piece(self, text: Any, kind: str, node: Node, path: Path, offset: int = 0, **more: Any) -> Iterator[Name]:
        """`text`, which stands in `node` behind `offset` characters; nothing where it is written in another way."""
        text = str(text.value) if isinstance(text, Scalar) else text
        line = self.lines[node.span.line - 1]
        start = line.find(text, node.span.column - 1 + offset)
        if text and 0 <= start <= node.span.column + offset:
            yield Name(text, kind, node.span.line, start + 1, path, **more)

    def word(self, node: Node, kind: str, path: Path) -> Iterator[Name]:
        """The word that a value begins with: `string` of `string[]?`."""
        written = self.lines[node.span.line - 1][node.span.column - 1 :]
        match = _WORD.match(written.removeprefix('"'))
        yield from self.piece(match[0] if match else "", kind, node, path)

    def handler(self, node: Scalar, path: Path) -> Iterator[Name]:
        text = str(node.value)
        for match in _WORD.finditer(text) if re.fullmatch(HANDLER, text) else ():
            kind = "module" if match.end() <= text.index(":") else "function"
            yield from self.piece(match[0], kind, node, path, match.start())

    def route(self, key: str, node: Scalar, path: Path) -> Iterator[Name]:
        method, _, _ = key.partition(" ")
        yield from self.piece(method if method.upper() in METHODS else "", "method", node, path)
        for match in _PARAMETER.finditer(key):
            yield from self.piece(match[1], "path parameter", node, path, match.start(1))
            yield from self.piece(match[2] or "", "kind of path parameter", node, path, match.start(2))

    def interpolations(self, node: Node, path: Path) -> Iterator[Name]:
        """The names in `${...}`, at any depth of an open value."""
        if isinstance(node, Mapping | document.Sequence):
            inner = [p.value for p in node.pairs.values()] if isinstance(node, Mapping) else node.items
            for item in inner:
                yield from self.interpolations(item, path)
            return
        for match in _INTERPOLATION.finditer(str(node.value)):
            section = {"var": "variables", "primitives": "primitives", "stack": "settings"}.get(match[1])
            yield from self.piece(match[1], "word of ${...}", node, path, match.start(1))
            yield from self.piece((section and match[2]) or "", f"reference to {section}", node, path, match.start(2))
