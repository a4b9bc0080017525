"""A class as what its constructor takes."""

import ast
from collections.abc import Callable
from dataclasses import replace

from buildflow.compiler.source import known
from buildflow.compiler.source.bindings import Binding
from buildflow.compiler.source.lookup import Defined, Lookup, Outside
from buildflow.compiler.source.records import STYLES, Style, dataclass_call, is_readable
from buildflow.compiler.source.shapes import Shapes
from buildflow.compiler.source.texts import is_false, keyword
from buildflow.ir.signature import Parameter, Signature, anything

ReadFunction = Callable[[Defined, ast.FunctionDef | ast.AsyncFunctionDef, str], Signature]


def constructor(lookup: Lookup, shapes: Shapes, cls: Defined, name: str, read: ReadFunction) -> Signature:
    """The nearest of `__init__`, `__new__`, and what a record's rules generate."""
    found = None if lookup.is_changed(cls) else _nearest(lookup, shapes, cls, name, read)
    return replace(found or anything(name, cls.place), returns=shapes.defined(cls), place=cls.place)


def _nearest(lookup: Lookup, shapes: Shapes, cls: Defined, name: str, read: ReadFunction) -> Signature | None:
    """None where it cannot be known."""
    for ancestor in lookup.ancestry(cls):
        found = ancestor.meaning
        if isinstance(found, Defined) and isinstance(found.node, ast.ClassDef):
            for method in ("__init__", "__new__"):
                if bound := lookup.body(found).bound.get(method):
                    return _written(bound.alternatives, found, cls, name, read)
            calls = dataclass_call(lookup, found)
            if calls and not any(is_false(keyword(c, "init")) for c in calls if isinstance(c, ast.Call)):
                return _generated(lookup, shapes, found, "dataclass", name)
        elif isinstance(found, Defined) and isinstance(found.node, ast.expr):
            style = STYLES.get(lookup.outside(found.node, found.scope))
            return _generated(lookup, shapes, cls, style, name) if style == "namedtuple" else None
        elif not isinstance(found, Outside) or found.name not in known.HARMLESS_BASES:
            style = STYLES.get(found.name) if isinstance(found, Outside) else None
            return _generated(lookup, shapes, cls, style, name) if style and style != "typeddict" else None
    return Signature(name, cls.place)


def _written(
    alternatives: tuple[Binding, ...], owner: Defined, cls: Defined, name: str, read: ReadFunction
) -> Signature | None:
    node = alternatives[0]
    if len(alternatives) > 1 or not isinstance(node, ast.FunctionDef):
        return None
    method = Defined(owner.module, node, f"{owner.path}.{node.name}", node, owner, cls, is_bound=True)
    return read(method, node, name)


def _generated(lookup: Lookup, shapes: Shapes, cls: Defined, style: Style, name: str) -> Signature | None:
    ancestry = lookup.ancestry(cls)
    if not all(is_readable(ancestor) for ancestor in ancestry):
        return None
    members = [member for member in shapes.members(cls, style) if member.field.init]
    sources = [a.meaning.module.source for a in ancestry if isinstance(a.meaning, Defined)]
    if style == "pydantic" and any(member.is_aliased for member in members):
        return None
    if style == "pydantic" and any(b"alias_generator" in source or b"allow" in source for source in sources):
        return None  # `ConfigDict(extra="allow")` takes anything, too
    parameters = (
        Parameter(
            name=member.field.name,
            place=member.field.place or cls.place,
            shape=member.field.shape,
            annotated=True,
            required=member.field.required,
        )
        for member in members
    )
    return Signature(name, cls.place, tuple(parameters))
