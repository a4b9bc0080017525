"""What is written around a type: `Annotated[T, ...]`, `ClassVar[T]`, `NotRequired[T]`, `InitVar[T]`."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from buildflow.compiler.source import known
from buildflow.compiler.source.lookup import Defined, Lookup, Outside, Scope
from buildflow.compiler.source.texts import arguments_of, parsed

_MOST = 30
"""Aliases of aliases that are followed: an alias may be its own."""


@dataclass(frozen=True, slots=True)
class Wrappers:
    """The wrappers' dotted names, and the calls in `Annotated` with the scope that they stand in."""

    names: frozenset[str]
    metadata: tuple[tuple[ast.Call, Scope], ...]


_NONE = Wrappers(frozenset(), ())


def wrappers_of(lookup: Lookup, node: ast.expr, scope: Scope) -> Wrappers:
    """The wrappers of an annotation, aliases followed."""
    if isinstance(node, ast.Name):
        found = lookup.resolve(node, scope)
        if not isinstance(found, Defined):
            is_one = isinstance(found, Outside) and found.name in known.TRANSPARENT
            return Wrappers(frozenset({found.name}), ()) if is_one and isinstance(found, Outside) else _NONE
    names: set[str] = set()
    metadata: list[tuple[ast.Call, Scope]] = []
    for name, arguments, where in _layers(lookup, node, scope):
        names.add(name)
        metadata += [(a, where) for a in arguments if isinstance(a, ast.Call)]
    return Wrappers(frozenset(names), tuple(metadata))


def _layers(lookup: Lookup, node: ast.expr, scope: Scope) -> Iterator[tuple[str, list[ast.expr], Scope]]:
    """From the outside in: the wrapper's name, its other arguments, where it stands."""
    for _ in range(_MOST):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            inner = parsed(node.value)
            if inner is None:
                return
            node = inner
            continue
        found = lookup.resolve(node.value if isinstance(node, ast.Subscript) else node, scope)
        if isinstance(found, Defined) and isinstance(found.node, ast.Subscript | ast.Constant):
            node, scope = found.node, found.scope
        elif isinstance(found, Outside) and found.name in known.TRANSPARENT:
            arguments = arguments_of(node) if isinstance(node, ast.Subscript) else []
            yield found.name, arguments[1:], scope
            if not arguments:
                return
            node = arguments[0]
        else:
            return
