"""What Python refuses when it runs a class statement: fields of a dataclass or a NamedTuple without a default behind
those with one, and defaults that all objects of a dataclass would share. Told only where it is sure.

Source: https://docs.python.org/3/library/dataclasses.html
"""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from buildflow.compiler.source.bindings import Imported, Names
from buildflow.compiler.source.texts import is_false, keyword, text_of

_LITERALS: dict[type[ast.AST], str] = {
    ast.List: "list",
    ast.Dict: "dict",
    ast.Set: "set",
    ast.ListComp: "list",
    ast.DictComp: "dict",
}
_SHARED = frozenset({"list", "dict", "set"})


@dataclass(frozen=True, slots=True)
class Refused:
    """Where Python would raise, why, and what to do."""

    node: ast.AST
    why: str
    hint: str


@dataclass(frozen=True, slots=True)
class _Field:
    node: ast.AnnAssign
    name: str
    has_default: bool | None
    """None where it is not sure."""


def refused(body: Iterable[ast.stmt], names: Names) -> Refused | None:
    """The first class of a module's body at which its import ends."""
    for node in body:
        if not isinstance(node, ast.ClassDef):
            continue
        if _is_dataclass(node, names):
            found = _shared(node) or _misordered(node, _dataclass_fields(node, names))
        elif [_dotted(base, names) for base in node.bases] == ["typing.NamedTuple"]:
            found = _misordered(node, (_Field(f, _name(f), f.value is not None) for f in _annotated(node)))
        else:
            continue
        if found:
            return found
    return None


def _is_dataclass(node: ast.ClassDef, names: Names) -> bool:
    """A dataclass whose fields are positional and its own: an inherited one keeps its place."""
    if node.bases or len(node.decorator_list) != 1:
        return False
    decorator = node.decorator_list[0]
    if not isinstance(decorator, ast.Call):
        return _dotted(decorator, names) == "dataclasses.dataclass"
    plain = not decorator.args and all(
        k.arg in _PLAIN and isinstance(k.value, ast.Constant) for k in decorator.keywords
    )
    return plain and _dotted(decorator.func, names) == "dataclasses.dataclass"


_PLAIN = frozenset({"frozen", "slots", "eq", "order", "repr", "unsafe_hash", "match_args", "weakref_slot"})
"""Options that leave the constructor's parameters as they are."""


def _dotted(node: ast.expr, names: Names) -> str:
    """The dotted name of what is imported, once and for certain; else ""."""
    if isinstance(node, ast.Attribute):
        outer = _dotted(node.value, names)
        return f"{outer}.{node.attr}" if outer else ""
    found = names.get(node.id) if isinstance(node, ast.Name) else ()
    if len(found) != 1 or not isinstance(found[0], Imported):
        return ""
    return f"{found[0].module}.{found[0].name}" if found[0].name else found[0].module


def _annotated(node: ast.ClassDef) -> Iterator[ast.AnnAssign]:
    return (one for one in node.body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name))


def _name(node: ast.AnnAssign) -> str:
    return node.target.id if isinstance(node.target, ast.Name) else ""


def _dataclass_fields(node: ast.ClassDef, names: Names) -> Iterator[_Field]:
    """The parameters of its constructor that can be given by position."""
    for one in _annotated(node):
        written = text_of(one.annotation)
        if "KW_ONLY" in written:
            return
        if "ClassVar" in written:
            continue
        call = one.value if isinstance(one.value, ast.Call) else None
        if call is None:
            sure = not isinstance(one.value, ast.Name)  # a name may stand for a `field()`
            yield _Field(one, _name(one), (one.value is not None) if sure else None)
        elif _dotted(call.func, names) != "dataclasses.field" or any(k.arg is None for k in call.keywords):
            yield _Field(one, _name(one), None)
        elif not is_false(keyword(call, "init")) and keyword(call, "kw_only") is None:
            yield _Field(one, _name(one), keyword(call, "default", "default_factory") is not None)


def _misordered(node: ast.ClassDef, fields: Iterable[_Field]) -> Refused | None:
    before = ""
    for field in fields:
        if field.has_default:
            before = field.name
        elif before and field.has_default is False:
            why = f'field "{field.name}" of {node.name} has no default and stands behind "{before}", which has one'
            return Refused(field.node, why, f'move it before "{before}", or give it a default')
    return None


def _shared(node: ast.ClassDef) -> Refused | None:
    for one in _annotated(node):
        kind = _LITERALS.get(type(one.value), "") if one.value else ""
        if isinstance(one.value, ast.Call) and isinstance(one.value.func, ast.Name) and not one.value.args:
            kind = one.value.func.id if one.value.func.id in _SHARED else ""
        if kind and "ClassVar" not in text_of(one.annotation):
            why = f'field "{_name(one)}" of {node.name} has a {kind} as its default, which all would share'
            return Refused(one, why, f"write `field(default_factory={kind})`")
    return None
