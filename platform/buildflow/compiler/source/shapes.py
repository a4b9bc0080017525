"""Annotations as Shapes. What cannot be known is `unknown`, or a class by its name alone."""

import ast
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from buildflow.compiler.source import known
from buildflow.compiler.source.lookup import Ancestor, Defined, Lookup, Meaning, Outside, Scope
from buildflow.compiler.source.records import STYLES, Member, Style, functional, is_readable, members, style_of
from buildflow.compiler.source.texts import arguments_of, parsed, text_of
from buildflow.compiler.source.unions import literal, substitute, union
from buildflow.ir.signature import UNKNOWN, Shape

_DEEPEST = 40
"""Types within types. Nobody writes that; a generated file may."""


class Shapes:
    """Reads annotations; each class and alias once.

    A type that holds itself, directly or through others, is only named within: as `Tree` in `children: list[Tree]`.
    Which types those are is found on the way (Tarjan's strongly connected components), so that what is kept of a
    class never depends on where its reading began.
    """

    def __init__(self, lookup: Lookup) -> None:
        self.lookup = lookup
        self._done: dict[ast.AST, Shape] = {}
        self._open: dict[ast.AST, int] = {}
        self._lowest: list[int] = []
        self._opened = 0
        self._depth = 0

    def of(self, node: ast.expr, scope: Scope) -> Shape:
        """An annotation where it stands."""
        if isinstance(node, ast.Name):
            return self._meant(self.lookup.resolve(node, scope), node.id, scope)
        if self._depth > _DEEPEST:
            return UNKNOWN
        self._depth += 1
        shape = _READERS.get(type(node), _unknown)(self, node, scope)
        self._depth -= 1
        return shape

    def constant(self, node: ast.Constant, scope: Scope) -> Shape:
        if node.value is None:
            return Shape("none", text="None")
        inner = parsed(node.value) if isinstance(node.value, str) else None
        return self.of(inner, scope) if inner is not None else Shape("unknown", text=text_of(node))

    def attribute(self, node: ast.Attribute, scope: Scope) -> Shape:
        return self._meant(self.lookup.resolve(node, scope), text_of(node), scope)

    def either(self, node: ast.BinOp, scope: Scope) -> Shape:
        """`A | B | C`, which is a tree as deep as it is long."""
        if not isinstance(node.op, ast.BitOr):
            return Shape("unknown", text=text_of(node))
        sides: list[ast.expr] = []
        inner: ast.expr = node
        while isinstance(inner, ast.BinOp) and isinstance(inner.op, ast.BitOr):
            sides.insert(0, inner.right)
            inner = inner.left
        return union([self.of(side, scope) for side in (inner, *sides)], text_of(node))

    def call(self, node: ast.Call, scope: Scope) -> Shape:
        """pydantic's `conint(gt=0)`."""
        name, text = self.lookup.outside(node, scope), text_of(node)
        if name in known.SCALARS:
            return Shape(known.SCALARS[name], text=text)
        item = self.of(node.args[0], scope) if name in known.MANY and node.args else None
        return Shape("list", text=text, item=item) if name in known.MANY else Shape("unknown", text=text)

    def subscript(self, node: ast.Subscript, scope: Scope) -> Shape:
        found, text, inner = self.lookup.resolve(node.value, scope), text_of(node), arguments_of(node)
        if isinstance(found, Outside):
            return self._special(found.name, inner, text, scope)
        if not isinstance(found, Defined):
            return Shape("unknown", text=text)
        return replace(self.given(found, tuple(inner), scope, {}), text=text)

    def given(self, found: Defined, arguments: tuple[ast.expr, ...], scope: Scope, outer: Mapping[str, Shape]) -> Shape:
        """`Page[Order]`: a class or an alias with types for its type variables."""
        shapes = [substitute(self.of(argument, scope), outer) for argument in arguments]
        shape = substitute(self.defined(found), dict(zip(self.variables(found), shapes, strict=False)))
        is_class = isinstance(found.node, ast.ClassDef) and shape.kind in ("record", "named")
        return replace(shape, item=shapes[0]) if is_class and shapes else shape

    def _special(self, name: str, inner: list[ast.expr], text: str, scope: Scope) -> Shape:
        if name in known.TRANSPARENT:
            shape = self.of(inner[0], scope)
            return replace(shape, is_plain=False) if shape.is_plain else shape  # it may say how it is read
        if name == "typing.Optional":
            return union([self.of(inner[0], scope), Shape("none")], text)
        if name == "typing.Union":
            return union([self.of(one, scope) for one in inner], text)
        if name == "typing.Literal":
            return literal(inner, text)
        if name in known.MANY:
            return Shape("list", text=text, item=self._item(name, inner, scope))
        if name in known.MAPPINGS:
            return Shape("mapping", text=text)
        if name in known.AWAITABLES:
            return Shape("named", name=name, text=text, item=self.of(inner[-1], scope))
        return replace(self._outside(name, text), item=self.of(inner[0], scope) if known.is_class(name) else None)

    def _item(self, name: str, inner: list[ast.expr], scope: Scope) -> Shape | None:
        if name not in known.TUPLES:
            return self.of(inner[0], scope)
        if any(isinstance(one, ast.Starred) for one in inner):
            return UNKNOWN
        kinds = [one for one in inner if not (isinstance(one, ast.Constant) and one.value is ...)]
        if not kinds or (len(kinds) == 1 and isinstance(kinds[0], ast.Tuple)):  # tuple[()]
            return None
        text = ", ".join(text_of(one) for one in kinds)
        return self.of(kinds[0], scope) if len(kinds) == 1 else union([self.of(one, scope) for one in kinds], text)

    def _meant(self, found: Meaning | None, text: str, scope: Scope) -> Shape:
        if isinstance(found, Outside):
            if found.name == "typing.Self" and scope.me is not None:
                return self.defined(scope.me)
            return self._outside(found.name, text)
        if not isinstance(found, Defined):
            return Shape("unknown", text=text)
        shape = self.defined(found)
        return shape if shape.text == text else replace(shape, text=text)

    def _outside(self, name: str, text: str) -> Shape:
        if name in known.SCALARS:
            return Shape(known.SCALARS[name], text=text)
        if name in known.MANY:
            return Shape("list", text=text)
        if name in known.MAPPINGS:
            return Shape("mapping", text=text)
        return Shape("named", name=name, text=text) if known.is_class(name) else Shape("unknown", text=text)

    # classes and aliases

    def defined(self, found: Defined) -> Shape:
        """The type that a class or an alias is."""
        key = found.node
        if key in self._done:
            return self._done[key]
        if key in self._open:
            self._lowest[-1] = min(self._lowest[-1], self._open[key])
            return self._named(found)
        if len(self._lowest) > _DEEPEST:
            return self._named(found)
        index = self._open[key] = self._opened = self._opened + 1
        self._lowest.append(index)
        shape = self._read(found)
        lowest = self._lowest.pop()
        if lowest < index:  # it leads back to what is being read
            self._lowest[-1] = min(self._lowest[-1], lowest)
            return self._named(found)
        while self._open and next(reversed(self._open.values())) >= index:
            self._open.popitem()
        self._done[key] = shape
        return shape

    def _named(self, found: Defined) -> Shape:
        if isinstance(found.node, ast.ClassDef):
            is_plain = self.lookup.is_plain(found)
            return Shape("named", name=found.name, text=found.node.name, place=found.place, is_plain=is_plain)
        return UNKNOWN

    def _read(self, found: Defined) -> Shape:
        if isinstance(found.node, ast.ClassDef):
            return self._class(found, found.node)
        if isinstance(found.node, ast.Call):
            return self._made(found, found.node)
        if isinstance(found.node, ast.Subscript | ast.BinOp):
            return self.of(found.node, found.scope)
        if isinstance(found.node, ast.Constant) and (found.is_alias or found.node.value is None):
            return self.of(found.node, found.scope)
        return UNKNOWN

    def _class(self, cls: Defined, node: ast.ClassDef) -> Shape:
        ancestry = self.lookup.ancestry(cls)
        style = style_of(self.lookup, cls)
        if style and all(is_readable(ancestor) for ancestor in ancestry):
            fields = {m.field.name: m.field for m in self.members(cls, style) if m.is_stored}
            return Shape("record", cls.name, node.name, fields=tuple(fields.values()), place=cls.place)
        outside = [a for a in ancestry if isinstance(a.meaning, Outside)]
        names = [a.meaning.name for a in outside if isinstance(a.meaning, Outside)]
        is_own = not cls.name.startswith("buildflow.types.")
        if is_own and any(self.lookup.outside(base, cls.scope) == "typing.Protocol" for base in _heads(node)):
            return UNKNOWN  # whatever has its attributes is one
        for name in names:
            if name in known.BASES:
                return Shape(known.BASES[name], cls.name, node.name, place=cls.place)
            if name in known.MAPPINGS:
                return Shape("mapping", cls.name, node.name, place=cls.place)
            if name in known.COLLECTIONS:
                return Shape("list", cls.name, node.name, place=cls.place, item=self._collected(node, cls.scope))
        return self._named(cls)

    def _collected(self, node: ast.ClassDef, scope: Scope) -> Shape | None:
        """What `class Rows(list[Row])` holds."""
        for base in node.bases:
            if isinstance(base, ast.Subscript):
                shape = self.of(base, scope)
                if shape.kind == "list":
                    return shape.item
        return None

    def members(self, cls: Defined, style: Style) -> list[Member]:
        """The fields of a record class as they are declared, its `InitVar`s among them. The last of a name counts."""
        found: dict[str, Member] = {}
        for ancestor, declared in members(self.lookup, cls, style, self.of):
            types = self._types(ancestor)
            for member in declared:
                shape = substitute(member.field.shape, types)
                found[member.field.name] = (
                    replace(member, field=replace(member.field, shape=shape)) if types else member
                )
        return list(found.values())

    def _types(self, ancestor: Ancestor) -> dict[str, Shape]:
        """The types that an ancestor's type variables have in the class that inherits from it."""
        types: dict[str, Shape] = {}
        for step in ancestor.steps:
            shapes = [substitute(self.of(argument, step.scope), types) for argument in step.arguments]
            types = dict(zip(self.variables(step.base), shapes, strict=False))
        return types

    def _made(self, found: Defined, node: ast.Call) -> Shape:
        """`NewType`, a type variable, a record made by a call, a constrained type."""
        name, scope = self.lookup.outside(node, found.scope), found.scope
        if name in known.VARIABLES:
            return Shape("unknown", name=found.name, text=found.path)
        if name == "typing.NewType" and len(node.args) == 2:
            return self.of(node.args[1], scope)
        if name in STYLES:
            made = functional(node, found.module.place, lambda one: self.of(one, scope))
            fields = tuple(member.field for member in made or ())
            return Shape("record", found.name, found.path, fields=fields, place=found.place) if made else UNKNOWN
        return self.call(node, scope)

    def variables(self, found: Defined) -> list[str]:
        """The names of the type variables of a generic class or alias, in the order of their types."""
        bases = found.node.bases if isinstance(found.node, ast.ClassDef) else [found.node]
        exprs = [base for base in bases if isinstance(base, ast.expr)]
        for base in exprs:
            if self.lookup.outside(getattr(base, "value", base), found.scope) in ("typing.Generic", "typing.Protocol"):
                exprs = [base] if isinstance(base, ast.Subscript) else exprs
        names = (self._variable(node, found.scope) for expr in exprs for node in _names_in(expr))
        return list(dict.fromkeys(name for name in names if name))

    def _variable(self, node: ast.expr, scope: Scope) -> str:
        found = self.lookup.resolve(node, scope)
        if not isinstance(found, Defined) or not isinstance(found.node, ast.Call):
            return ""
        shape = self.defined(found)
        return shape.name if shape.kind == "unknown" else ""


def _heads(node: ast.ClassDef) -> Iterable[ast.expr]:
    return (base.value if isinstance(base, ast.Subscript) else base for base in node.bases)


def _names_in(node: ast.expr) -> list[ast.expr]:
    found = [one for one in ast.walk(node) if isinstance(one, ast.Name | ast.Attribute)]
    return sorted(found, key=lambda one: (one.lineno, one.col_offset))


def _unknown(_: Shapes, node: ast.expr, __: Scope) -> Shape:
    return Shape("unknown", text=text_of(node))


_READERS: dict[type[ast.expr], Callable[..., Shape]] = {
    ast.Constant: Shapes.constant,
    ast.Attribute: Shapes.attribute,
    ast.BinOp: Shapes.either,
    ast.Call: Shapes.call,
    ast.Subscript: Shapes.subscript,
}
