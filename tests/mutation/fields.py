"""The names below a model's mapping: its keys, and what their values name. Read off the models' annotations, not off
the compiler's checks."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel

from buildflow.primitives.base import ColumnsReference, MessageReference, Reference
from buildflow.spec.document import Mapping, Node, Scalar, Sequence
from buildflow.spec.project import HANDLER, PROVIDERS
from tests.mutation.kinds import accepts, branch
from tests.mutation.pieces import Name, Path, Pieces

REFERENCES = {
    **dict.fromkeys(("source", "sink", "dead_letter", "to"), "primitives"),
    "service": "services",
    "auth": "dependencies",
    "default_stack": "stacks",
}
"""Fields that name an entry of a section, besides those that a Spec marks with `Reference`."""
NAMED = {"with": "argument", "inject": "parameter", "when": "field"}
"""Mappings whose keys are names of something in the code."""
_FIELDS = ("ordering.key", "idempotency_key")
"""Fields that name a field of an element."""
_TYPES = {"primitives": "primitive type", "dependencies": "built-in type"}


@dataclass(frozen=True)
class Fields(Pieces):
    """Reads mappings that a model describes."""

    def model(self, node: Mapping, model: type[BaseModel], path: Path) -> Iterator[Name]:
        for key in node.pairs:
            yield from self.field(node, key, model, path)

    def key(self, node: Mapping, key: str, path: Path, **more: Any) -> Iterator[Name]:
        yield from self.piece(key, "key", node.pairs[key].key, (*path, key), **more)

    def field(self, node: Mapping, key: str, model: type[BaseModel], path: Path) -> Iterator[Name]:
        info = next((f for n, f in model.model_fields.items() if key in (f.alias, n)), None)
        if info is None:
            yield from self.piece(key, "unknown key", node.pairs[key].key, (*path, key))
            return
        taken = accepts(Annotated[info.annotation, None, *info.metadata])
        yield from self.key(node, key, path, accepts=tuple(sorted(taken)), required=info.is_required())
        yield from self.value(node.pairs[key].value, info.annotation, tuple(info.metadata), (*path, key))

    def value(self, node: Node, annotation: Any, marks: tuple[Any, ...], path: Path) -> Iterator[Name]:
        annotation, marks = branch(annotation, node, marks)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from self.model(node, annotation, path) if isinstance(node, Mapping) else ()
        elif isinstance(node, Sequence):
            inner = (get_args(annotation) or (Any,))[0]
            for number, item in enumerate(node.items):
                yield from self.value(item, inner, marks, (*path, number))
        elif isinstance(node, Mapping):
            yield from self.named(node, path)
        else:
            yield from self.scalar(node, annotation, marks, path)

    def named(self, node: Mapping, path: Path) -> Iterator[Name]:
        """A mapping whose keys the user names: arguments, parameters, columns."""
        kind = NAMED.get(str(path[-1]))
        for key, pair in node.pairs.items():
            yield from self.piece(key if kind else "", kind or "", pair.key, (*path, key))
            if path[-1] == "inject":
                yield from self.piece(pair.value, "reference to primitives or dependencies", pair.value, path)
            elif path[-1] == "columns":
                yield from self.word(pair.value, "column type", path)
            else:
                yield from self.interpolations(pair.value, (*path, key))

    def scalar(self, node: Scalar, annotation: Any, marks: tuple[Any, ...], path: Path) -> Iterator[Name]:
        key = next((part for part in reversed(path) if isinstance(part, str)), "")
        if isinstance(node.value, bool):
            yield from self.word(node, "true or false", path)
        elif not isinstance(node.value, str) or "${" in node.value:
            yield from self.interpolations(node, path)
        elif _refers(key, node, marks, path):
            yield from self.piece(node, f"reference to {REFERENCES.get(key, 'primitives')}", node, path)
        elif key == "when" or any(map(_names_code, marks)):
            yield from self.handler(node, path)
        else:
            yield from self.piece(node if (kind := _kind(key, node, annotation, path)) else "", kind, node, path)


def _kind(key: str, node: Scalar, annotation: Any, path: Path) -> str:
    """What a text out of a closed set is; empty for any other text."""
    if get_origin(annotation) is Literal or (key == "provider" and node.value in PROVIDERS):
        return _TYPES.get(path[-3], "value") if key == "type" else "value"
    if ".".join(map(str, path)).endswith(_FIELDS):
        return "field"
    return "column" if key == "upsert" else ""


def _refers(key: str, node: Scalar, marks: tuple[Any, ...], path: Path) -> bool:
    built_in = key == "database" and "dependencies" in path
    named = key in REFERENCES and node.value != "none"
    return named or built_in or any(isinstance(mark, Reference) for mark in marks)


def _names_code(mark: Any) -> bool:
    return isinstance(mark, ColumnsReference | MessageReference) or getattr(mark, "pattern", None) == HANDLER
