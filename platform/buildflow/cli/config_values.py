"""What a configuration holds, as a tree whose leaves know where they come from; secrets are masked here.

Two trees: what one stack really is, the models' defaults filled in, and the whole file in its canonical form.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from buildflow.cli.config_origins import DEFAULT, Origins, Path
from buildflow.cli.masking import masked, sounds_secret
from buildflow.compiler import RESOLVED_LATER, Compilation
from buildflow.compiler.canonical import LOCAL
from buildflow.compiler.validate import Declaration
from buildflow.providers.secret_mask import STARS
from buildflow.spec import document
from buildflow.spec.document import Node, Scalar, scalar_value
from buildflow.spec.interpolation import escape
from buildflow.spec.project import PROVIDERS, Project
from buildflow.spec.units import parse_duration, parse_size

STILL_ESCAPED = (*RESOLVED_LATER, "stacks", "variables")
"""Sections whose texts keep `$${` as the file has it; in the others it is `${` by now."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value as the file would have it, and its origin in words."""

    value: bool | int | float | str | None
    origin: str


Tree: TypeAlias = Leaf | dict[str, "Tree"] | list["Tree"]


def canonical(origins: Origins) -> dict[str, Tree]:
    """The whole file, all stacks: short forms written out, old names renamed, aliases expanded, nothing put in."""

    def tree(path: Path, node: Node) -> Tree:
        if isinstance(node, document.Mapping):
            return {key: tree((*path, key), pair.value) for key, pair in node.pairs.items()}
        if isinstance(node, document.Sequence):
            return [tree((*path, index), item) for index, item in enumerate(node.items)]
        return Leaf(masked(path, node.value), origins.of(path, node))

    return _in_order({key: tree((key,), pair.value) for key, pair in origins.canonical.pairs.items()})


def resolved(result: Compilation, origins: Origins) -> dict[str, Tree]:
    """What the selected stack really is: overlays laid over, `${...}` put in, defaults filled in."""
    return _Resolved(result.declaration, origins).whole()


@dataclass(frozen=True)
class _Resolved:
    declaration: Declaration
    origins: Origins

    def whole(self) -> dict[str, Tree]:
        root, stack = self.declaration.root, self.origins.stack
        found = {key: self.tree((key,), pair.value, self.known(key)) for key, pair in root.pairs.items()}
        for name, info in Project.model_fields.items():
            if name not in found and (default := self.default((name,), self.known(name) or info.default, info)):
                found[name] = default
        stacks = found.get("stacks")
        selected = stacks.get(stack) if isinstance(stacks, dict) else None
        found["stacks"] = {stack: selected or {"provider": Leaf(LOCAL, DEFAULT)}}
        return _in_order({**found, **self.variables(found.get("variables")), "default_stack": self.default_stack()})

    def known(self, section: str) -> Any:
        """What validation made of a section; None where it leaves that to others."""
        if section == "stacks":
            return {self.origins.stack: self.declaration.stack}
        if section == "primitives":
            return {key: spec for key, (_, spec) in self.declaration.primitives.items()}
        return getattr(self.declaration, section, None)

    def default_stack(self) -> Leaf:
        """This view holds one stack: whoever compiles it again gets that one."""
        stack = self.origins.stack
        node = self.declaration.root.get("default_stack")
        if isinstance(node, Scalar) and node.value == stack:
            return Leaf(stack, self.origins.of(("default_stack",), node))
        return Leaf(stack, "--stack" if self.origins.chosen else DEFAULT)

    def variables(self, declared: Tree | None) -> dict[str, Tree]:
        """Those that `--set` gave win over those of the file."""
        found = dict(declared) if isinstance(declared, dict) else {}
        for name, value in self.origins.variables.items():
            found[name] = Leaf(masked(("variables", name), escape(value)), f"--set var.{name}")
        return {"variables": found} if found else {}

    def tree(self, path: Path, node: Node, known: Any) -> Tree:
        if isinstance(known, BaseModel) or (isinstance(node, Scalar) and node.value is None and known == {}):
            return self.section(path, node, known)
        if isinstance(node, document.Mapping):
            return {key: self.tree((*path, key), pair.value, _part(known, key)) for key, pair in node.pairs.items()}
        if isinstance(node, document.Sequence):
            return [self.tree((*path, i), item, _part(known, i)) for i, item in enumerate(node.items)]
        return self.leaf(path, node, known)

    def section(self, path: Path, node: Node | None, known: Any) -> dict[str, Tree]:
        """A mapping with its model: what the file says, then what the model adds."""
        pairs = node.pairs if isinstance(node, document.Mapping) else {}
        found = {key: self.tree((*path, key), pair.value, _part(known, key)) for key, pair in pairs.items()}
        for key, name, info in self.fields(known):
            if not {key, name} & pairs.keys() and (default := self.default((*path, key), getattr(known, name), info)):
                found[key] = default
        return found

    def fields(self, known: Any) -> Iterator[tuple[str, str, FieldInfo]]:
        """The fields of a model that mean something on this stack's provider: key, attribute, field."""
        stack = self.declaration.stack
        provider = getattr(known, "provider", None) or (stack.provider if stack else PROVIDERS[0])
        for name, info in type(known).model_fields.items() if isinstance(known, BaseModel) else ():
            if name not in PROVIDERS or name == provider:
                yield info.alias or name, name, info

    def default(self, path: Path, value: Any, info: FieldInfo) -> Tree | None:
        """A value that the file does not say; None for those that mean "nothing"."""
        if path[0] == "routes" and path[1:] and path[1].startswith("WS "):
            return None  # a websocket has the gateway's word for all of them, and takes none from the file
        if isinstance(value, BaseModel):
            return self.section(path, None, value) or None
        if isinstance(value, list | tuple):
            return [Leaf(item, DEFAULT) for item in value] or None
        says = isinstance(value, bool | int | float | str) and value != ""
        return Leaf(_for_readers(value, info), DEFAULT) if says else None

    def leaf(self, path: Path, node: Scalar, known: Any) -> Leaf:
        value = _as_written(node, known, path[0] in STILL_ESCAPED)
        names = self.origins.refers_to(path, node) if node.interpolated and "${secret." not in str(value) else []
        shown = STARS if value and any(map(sounds_secret, names)) else masked(path, value)
        return Leaf(shown, self.origins.of(path, node))


def _in_order(tree: dict[str, Tree]) -> dict[str, Tree]:
    """Sections in the language's own order."""
    return {name: tree[name] for name in (*Project.model_fields, *tree) if name in tree}


def _part(known: Any, key: str | int) -> Any:
    """The part of a validated value that stands at one key of the file."""
    if isinstance(known, BaseModel):
        fields = type(known).model_fields.items()
        return next((getattr(known, name) for name, info in fields if key in (info.alias, name)), None)
    if isinstance(known, dict):
        return known.get(key)
    return known[key] if isinstance(known, list | tuple) and isinstance(key, int) and key < len(known) else None


def _as_written(node: Scalar, known: Any, escaped: bool) -> Any:
    """A value that the compiler would read as this one. What came out of `${...}` is text, and a number only where
    validation wanted one."""
    if not node.interpolated or not isinstance(node.value, str):
        return node.value
    read = scalar_value(node.value)
    if not isinstance(read, str) and known is not None and not isinstance(known, str):
        return read
    return node.value if escaped or node.unknown else escape(node.value)


def _for_readers(value: Any, info: FieldInfo) -> Any:
    """A default as a user would write it: `5m`, not `300.0`."""
    readers = [getattr(part, "func", None) for part in info.metadata]
    if parse_duration in readers:
        return _with_unit(value, _DURATIONS)
    return _with_unit(value, _SIZES) if parse_size in readers else value


_DURATIONS = (("d", 86400.0), ("h", 3600.0), ("m", 60.0), ("s", 1.0), ("ms", 0.001))
_SIZES = (("GB", 10**9), ("MB", 10**6), ("KB", 10**3), ("B", 1))


def _with_unit(value: float, units: tuple[tuple[str, float], ...]) -> str:
    """In the largest unit in which it is a whole number."""
    unit, size = next((u for u in units if value and round(value / u[1], 6).is_integer()), units[-1])
    return f"{value / size:.0f}{unit}" if value else f"0{units[-2][0]}"
