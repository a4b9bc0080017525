"""The fields of row types: dataclasses, pydantic models, TypedDict and NamedTuple, each by its own rules."""

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from buildflow.compiler.source import known
from buildflow.compiler.source.lookup import Ancestor, Defined, Lookup, Outside, Scope
from buildflow.compiler.source.texts import is_false, keyword, number_of, string
from buildflow.compiler.source.wrappers import wrappers_of
from buildflow.ir.signature import Place, Shape, ShapeField

Style = Literal["dataclass", "pydantic", "typeddict", "namedtuple"]
STYLES: dict[str, Style] = {
    "pydantic.BaseModel": "pydantic",
    "typing.TypedDict": "typeddict",
    "typing.NamedTuple": "namedtuple",
    "collections.namedtuple": "namedtuple",
}
ShapeOf = Callable[[ast.expr, Scope], Shape]
Types = Callable[[Ancestor], Mapping[str, Shape]]
_INIT_VAR, _CLASS_VAR, _FINAL = "dataclasses.InitVar", "typing.ClassVar", "typing.Final"


@dataclass(frozen=True, slots=True)
class Member:
    """A field as it is declared. `is_stored` is False for `InitVar`; `alias` where the constructor may want another
    name."""

    field: ShapeField
    is_stored: bool = True
    is_aliased: bool = False


def style_of(lookup: Lookup, cls: Defined) -> Style | None:
    """By which rules a class is a record; None where it is none, or that cannot be known."""
    for ancestor in lookup.ancestry(cls):
        found = ancestor.meaning
        if isinstance(found, Outside):
            if found.name == "pydantic.RootModel":
                return None
            if found.name in STYLES:
                return STYLES[found.name]
        elif found is not None and isinstance(found.node, ast.Call):
            return STYLES.get(lookup.outside(found.node, found.scope))
        elif found is not None and dataclass_call(lookup, found):
            return "dataclass"
    return None


def dataclass_call(lookup: Lookup, cls: Defined) -> tuple[ast.expr, ...]:
    """The decorator that makes a class a dataclass, and what it was made with: `frozen = dataclass(frozen=True)`."""
    for decorator in getattr(cls.node, "decorator_list", ()):
        node, scope, calls = decorator, cls.scope, [decorator]
        found = lookup.resolve(node.func if isinstance(node, ast.Call) else node, scope)
        while isinstance(found, Defined) and isinstance(found.node, ast.Call) and len(calls) < 10:
            calls.append(found.node)
            target = found.node.func
            if lookup.outside(found.node, found.scope) == "functools.partial" and found.node.args:
                target = found.node.args[0]
            found = lookup.resolve(target, found.scope)
        if isinstance(found, Outside) and found.name in known.DATACLASS:
            return tuple(calls)
    return ()


def is_readable(ancestor: Ancestor) -> bool:
    """Whether all is known that a class may give to those that inherit from it."""
    found = ancestor.meaning
    if isinstance(found, Defined) and isinstance(found.node, ast.Call):
        return _pairs(_declared(found.node)) is not None
    return found is not None


def members(lookup: Lookup, cls: Defined, style: Style, shape_of: ShapeOf) -> Iterator[tuple[Ancestor, list[Member]]]:
    """The declared fields of a class and its bases, those of bases first."""
    for ancestor in reversed(lookup.ancestry(cls)):
        found = ancestor.meaning
        if isinstance(found, Defined) and _contributes(lookup, found, style):
            scope = Scope(found.module, found if isinstance(found.node, ast.ClassDef) else found.owner, cls)
            yield ancestor, list(_own(lookup, found, style, scope, shape_of))


def _contributes(lookup: Lookup, cls: Defined, style: Style) -> bool:
    """A dataclass takes fields from dataclasses alone, a NamedTuple has only those that it was made with; the
    others take all annotations."""
    if style == "dataclass":
        return bool(dataclass_call(lookup, cls))
    if style == "namedtuple":
        bases = getattr(cls.node, "bases", None)
        return bases is None or any(lookup.outside(base, cls.scope) == "typing.NamedTuple" for base in bases)
    return True


def _own(lookup: Lookup, cls: Defined, style: Style, scope: Scope, shape_of: ShapeOf) -> Iterator[Member]:
    if isinstance(cls.node, ast.Call):
        yield from functional(cls.node, cls.module.place, lambda node: shape_of(node, scope)) or ()
    elif isinstance(cls.node, ast.ClassDef):
        total = not is_false(next((k.value for k in cls.node.keywords if k.arg == "total"), None))
        for item in cls.node.body:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                member = _member(lookup, item, item.target, style, scope, shape_of, total=total)
                if member:
                    yield member


def _member(
    lookup: Lookup,
    item: ast.AnnAssign,
    target: ast.Name,
    style: Style,
    scope: Scope,
    shape_of: ShapeOf,
    *,
    total: bool,
) -> Member | None:
    around = wrappers_of(lookup, item.annotation, scope)
    if _CLASS_VAR in around.names or lookup.outside(item.annotation, scope) == "dataclasses.KW_ONLY":
        return None
    if style == "pydantic" and _is_private(target.id, item.value, around.names):
        return None
    calls = [call for call, where in around.metadata if lookup.outside(call, where) == "pydantic.Field"]
    default = _default(item.value, calls if style == "pydantic" else [])
    has_constant, constant = number_of(default)
    may_miss = "typing.NotRequired" in around.names if total else "typing.Required" not in around.names
    field = ShapeField(
        name=target.id,
        shape=shape_of(item.annotation, scope),
        required=default is None and not may_miss,
        has_constant=has_constant,
        constant=constant,
        place=scope.module.place(target),
        init=not (isinstance(item.value, ast.Call) and is_false(keyword(item.value, "init"))),
    )
    given = [call for call in (item.value, *calls) if isinstance(call, ast.Call)]
    is_aliased = any(keyword(call, "alias", "validation_alias") for call in given)
    return Member(field, _INIT_VAR not in around.names, is_aliased)


def _is_private(name: str, value: ast.expr | None, around: frozenset[str]) -> bool:
    """What pydantic takes for no field."""
    return name.startswith("_") or name == "model_config" or (_FINAL in around and value is not None)


def _default(value: ast.expr | None, metadata: list[ast.Call]) -> ast.expr | None:
    """What a field is when nobody gives it; None where it must be given. `field()` and `Field()` say it by their
    arguments, in `Annotated` too."""
    for call in (value, *metadata):
        if isinstance(call, ast.Call) and _last_name(call.func) in ("field", "Field"):
            given = call.args[0] if call.args else keyword(call, "default", "default_factory")
            if given is not None and not _is_missing(given):
                return given
        elif call is not None and not _is_missing(call):
            return call
    return None


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _is_missing(node: ast.expr) -> bool:
    is_ellipsis = isinstance(node, ast.Constant) and node.value is ...
    return is_ellipsis or _last_name(node) in ("MISSING", "PydanticUndefined")


def functional(
    node: ast.Call, place: Callable[[ast.AST], Place], shape_of: Callable[[ast.expr], Shape]
) -> list[Member] | None:
    """The fields of `NamedTuple("P", [("x", int)])`, `TypedDict("P", {"x": int})`, `namedtuple("P", "x y")`; None
    where they are computed."""
    pairs = _pairs(_declared(node))
    if pairs is None:
        return None
    total = not is_false(keyword(node, "total"))
    defaults = keyword(node, "defaults")
    optional = len(defaults.elts) if isinstance(defaults, ast.List | ast.Tuple) else len(pairs) if defaults else 0
    return [
        Member(
            ShapeField(
                name=name,
                shape=shape_of(kind) if kind is not None else Shape("unknown"),
                required=total and index < len(pairs) - optional,
                place=place(where),
            )
        )
        for index, (name, kind, where) in enumerate(pairs)
    ]


def _declared(node: ast.Call) -> ast.expr | None:
    if keyword(node, "rename") is not None:
        return None
    return node.args[1] if len(node.args) > 1 else keyword(node, "fields", "field_names")


def _pairs(node: ast.expr | None) -> list[tuple[str, ast.expr | None, ast.expr]] | None:
    """Names, types and places; None where one of them is no literal."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [(name, None, node) for name in node.value.replace(",", " ").split()]
    if isinstance(node, ast.Dict):
        found = [(string(k), v, k) for k, v in zip(node.keys, node.values, strict=True) if k is not None]
        return found if len(found) == len(node.keys) and all(name for name, *_ in found) else None  # type: ignore[return-value]
    if not isinstance(node, ast.List | ast.Tuple):
        return None
    pairs: list[tuple[str, ast.expr | None, ast.expr]] = []
    for item in node.elts:
        parts = item.elts if isinstance(item, ast.Tuple | ast.List) else [item]
        if not parts or not string(parts[0]):
            return None
        pairs.append((string(parts[0]), parts[1] if len(parts) == 2 else None, parts[0]))
    return pairs
