"""Shapes made of others: `A | B`, `Literal`, types put in for type variables."""

import ast
from collections.abc import Iterable, Mapping
from dataclasses import replace

from buildflow.ir.signature import Shape, ShapeField, ShapeKind

_LITERALS: dict[type, ShapeKind] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    bytes: "bytes",
    type(None): "none",
}


def union(shapes: Iterable[Shape], text: str) -> Shape:
    """`A | None` is A, nullable; several others are a union. What holds an unknown is unknown."""
    flat = [one for shape in shapes for one in (shape, *shape.options)]
    nullable = any(one.kind == "none" or one.nullable for one in flat)
    real: dict[object, Shape] = {}
    for one in flat:
        if one.kind not in ("none", "union"):
            alone = replace(one, nullable=False) if one.nullable else one
            real.setdefault((one.kind, one.name) if one.item is None else replace(alone, text=""), alone)
    kinds = {one.kind for one in real.values()}
    if kinds == {"integer", "float"}:  # to Python's types, an integer is a float
        real = {key: one for key, one in real.items() if one.kind == "float"}
    options = tuple(real.values())
    if "unknown" in kinds and len(options) > 1:
        return Shape("unknown", text=text, nullable=nullable)
    if not options:
        return Shape("none", text=text)
    if len(options) == 1:
        return replace(options[0], nullable=nullable, text=text)
    return Shape("union", text=text, nullable=nullable, options=options)


def literal(values: Iterable[ast.expr], text: str) -> Shape:
    """What `Literal[...]` allows, by type."""
    shapes = []
    for value in values:
        plain = value.operand if isinstance(value, ast.UnaryOp) else value
        kind = _LITERALS.get(type(plain.value)) if isinstance(plain, ast.Constant) else None
        shapes.append(Shape(kind or "unknown", text=text))
    return union(shapes, text)


def substitute(shape: Shape, types: Mapping[str, Shape]) -> Shape:
    """A shape with types put in for its type variables, which are unknown shapes that bear a name."""
    if not types or not has_variables(shape):
        return shape
    if shape.kind == "unknown":
        found = types.get(shape.name, shape)
        return replace(found, nullable=True) if shape.nullable and not found.nullable else found
    item = substitute(shape.item, types) if shape.item else None
    if shape.kind == "union":
        return union((substitute(option, types) for option in shape.options), shape.text)
    fields = tuple(_substituted(one, types) for one in shape.fields)
    return replace(shape, item=item, fields=fields)


def _substituted(one: ShapeField, types: Mapping[str, Shape]) -> ShapeField:
    return replace(one, shape=substitute(one.shape, types)) if has_variables(one.shape) else one


def has_variables(shape: Shape) -> bool:
    """Whether type variables are left in a shape."""
    if shape.kind == "unknown":
        return bool(shape.name)
    inner = (shape.item, *shape.options, *(one.shape for one in shape.fields))
    return any(has_variables(one) for one in inner if one is not None)
