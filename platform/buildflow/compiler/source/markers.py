"""FastAPI's markers of parameters: `Annotated[int, Path()]`, `q: str = Query(None)`."""

import ast

from buildflow.compiler.source import known
from buildflow.compiler.source.lookup import Defined, Lookup, Scope
from buildflow.compiler.source.texts import keyword
from buildflow.compiler.source.wrappers import wrappers_of

_FILLED = ("depends", "security")
"""FastAPI calls these; nothing has to be given."""


def marker_of(lookup: Lookup, annotation: ast.expr | None, default: ast.expr | None, scope: Scope) -> tuple[str, bool]:
    """A parameter's marker, "" for none, and whether a value must be given for it."""
    call = _call(lookup, default, scope)
    marker = _marker(lookup, *call) if call else ""
    if call and marker:
        return marker, marker not in _FILLED and (marker == "path" or not _has_default(call[0]))
    around = wrappers_of(lookup, annotation, scope).metadata if annotation is not None else ()
    for inner, where in reversed(around):
        if marker := _marker(lookup, inner, where):
            return marker, default is None and marker not in _FILLED and not _has_default(inner)
    return "", default is None


def _call(lookup: Lookup, node: ast.expr | None, scope: Scope) -> tuple[ast.Call, Scope] | None:
    """A default that is a call, or a name for one: `user = Depends(read_user)`."""
    if isinstance(node, ast.Name | ast.Attribute):
        found = lookup.resolve(node, scope)
        if isinstance(found, Defined) and isinstance(found.node, ast.Call):
            return found.node, found.scope
    return (node, scope) if isinstance(node, ast.Call) else None


def _marker(lookup: Lookup, call: ast.Call, scope: Scope) -> str:
    name = lookup.outside(call, scope)
    return name.rpartition(".")[2].lower() if name in known.MARKERS else ""


def _has_default(call: ast.Call) -> bool:
    given = call.args[0] if call.args else keyword(call, "default", "default_factory")
    return given is not None and not (isinstance(given, ast.Constant) and given.value is ...)
