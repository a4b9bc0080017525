"""Every name of a file, and what each of them may be.

A *closed* name has to be one of a known set: a key of the language, a primitive's type, a reference, a handler. A
*declaring* one makes a name that others refer to.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel

from buildflow.primitives.registry import all_primitives
from buildflow.spec.document import Document, Mapping, Node, Scalar
from buildflow.spec.project import BUILT_INS, OVERLAYS, SECTIONS, Project, Stack
from tests.mutation.fields import Fields
from tests.mutation.pieces import Name, Path

_ENTRIES = {"routes": ("mapping", "text"), "mounts": ("text",), "variables": ()}
"""What the entries of a section are, where that is not just a mapping."""
_OF_ENTRIES = ("primitives", "mounts", "variables", *SECTIONS)


def names_in(document: Document) -> list[Name]:
    """Every name, in file order, each place once: an alias shows the names of its anchor again."""
    found = {(n.line, n.column): n for n in _Names(document.lines, document.root).root() if n.text}
    return [found[place] for place in sorted(found)]


@dataclass(frozen=True)
class _Names(Fields):
    """Reads the root and its sections."""

    base: Mapping

    def root(self) -> Iterator[Name]:
        yield from self.sections(self.base, ())
        config = self.base.get("pulumi_config")
        for key in config.pairs if isinstance(config, Mapping) else ():
            yield from self.key(config, key, ("pulumi_config",))

    def sections(self, node: Mapping, path: Path) -> Iterator[Name]:
        """The root, or a stack: which has the root's sections below it."""
        for key, pair in node.pairs.items():
            if path == () and key.startswith("x-"):
                continue
            if key in (OVERLAYS if path else _OF_ENTRIES) and key != "options":
                yield from self.key(node, key, path, accepts=("mapping",))
                yield from self.entries(key, pair.value, (*path, key))
            elif key in ("app", "pulumi_config") and not path:
                yield from self.key(node, key, path)
            else:
                yield from self.field(node, key, Project if not path or key == "options" else Stack, path)

    def entries(self, section: str, node: Node, path: Path) -> Iterator[Name]:
        base = self.base.get(section)
        for key, pair in node.pairs.items() if isinstance(node, Mapping) else ():
            overlaid = len(path) > 1 and isinstance(base, Mapping) and key in base.pairs
            kind = f"overlay of {section}" if overlaid else f"declares {section}"
            yield from self.piece(key, kind, pair.key, (*path, key), accepts=_ENTRIES.get(section, ("mapping",)))
            yield from self.route(key, pair.key, (*path, key)) if section == "routes" else ()
            yield from self.entry(section, key, pair.value, (*path, key))

    def entry(self, section: str, key: str, node: Node, path: Path) -> Iterator[Name]:
        if section == "stacks":
            yield from self.sections(node, path) if isinstance(node, Mapping) else ()
        elif section == "mounts":
            yield from self.piece(node, "folder", node, path)
        elif section == "variables":
            yield from self.interpolations(node, path)
        elif section == "routes" and isinstance(node, Scalar):
            yield from self.handler(node, path)
        elif isinstance(node, Mapping) and (model := self.model_of(section, key, node)):
            yield from self.model(node, model, path)

    def model_of(self, section: str, key: str, node: Mapping) -> type[BaseModel] | None:
        """The model of an entry; an overlay's is that of the entry that it is laid over."""
        base = self.base.get(section)
        over = base.get(key) if isinstance(base, Mapping) else None
        types = [n.get("type") for n in (node, over) if isinstance(n, Mapping)]
        type_ = next((str(t.value) for t in types if isinstance(t, Scalar)), None)
        if section == "primitives":
            return all_primitives()[type_].spec if type_ in all_primitives() else None
        return BUILT_INS.get(type_) if section == "dependencies" and type_ else SECTIONS.get(section)
