"""Mappings whose `type` says what else they hold: primitives, and the dependencies that the platform brings.

`if/then` on `type`, not `oneOf`: of a `oneOf`, editors report what the wrong branch misses. Each branch closes itself.
"""

from collections.abc import Mapping

from pydantic import BaseModel

from buildflow.compiler.schema.loose import any_fields
from buildflow.compiler.schema.models import Definitions, doc_of
from buildflow.compiler.schema.texts import INTERPOLATION, Schema, said
from buildflow.compiler.schema.unions import enumeration, nullable
from buildflow.primitives.registry import all_primitives
from buildflow.spec.project import BUILT_INS, Dependency

Kinds = Mapping[str, type[BaseModel]]
"""Models by `type`."""


def primitive(define: Definitions, *, partial: bool) -> Schema:
    """The body of a primitive."""
    kinds: Kinds = {p.type: p.spec for p in all_primitives().values()}
    summaries = [p.summary for p in all_primitives().values()]
    schema = _typed("primitive", "What kind of primitive this is.", enumeration(list(kinds), summaries))
    fields = any_fields("PrimitiveFields", kinds, define)
    if partial:
        return define.add("PartialPrimitive", _partial(schema, kinds, fields, define))
    rules = [*_by_type(kinds, define, partial=False), _unread(fields)]
    return define.add("Primitive", {**schema, "required": ["type"], "allOf": rules})


def dependency(define: Definitions, *, partial: bool) -> Schema:
    """A dependency: a factory, or a `type` that the platform brings."""
    types = enumeration(list(BUILT_INS), [doc_of(model) for model in BUILT_INS.values()])
    schema = _typed("dependency", "A dependency that the platform brings, instead of a `factory`.", types)
    fields = any_fields("DependencyFields", {"factory": Dependency, **BUILT_INS}, define)
    if partial:
        return define.add("PartialAnyDependency", _partial(schema, BUILT_INS, fields, define))
    own = {"if": {"type": "object", "not": {"required": ["type"]}}, "then": define(Dependency)}
    rules = [*_by_type(BUILT_INS, define, partial=False), own, _unread(fields)]
    return define.add("AnyDependency", {**schema, "allOf": rules})


def _typed(title: str, words: str, types: Schema) -> Schema:
    return {"title": title, "type": "object", "properties": {"type": {**said(words), **types}}}


def _partial(schema: Schema, kinds: Kinds, otherwise: Schema, define: Definitions) -> Schema:
    """Below an overlay the base has the `type`, mostly: then the fields of every kind are possible."""
    kind = nullable(schema["properties"]["type"])
    told = {"properties": {"type": {"enum": list(kinds)}}, "required": ["type"]}
    rules = [*_by_type(kinds, define, partial=True), {"if": {"type": "object", "not": told}, "then": otherwise}]
    return {**schema, "type": ["object", "null"], "properties": {"type": kind}, "allOf": rules}


def _by_type(kinds: Kinds, define: Definitions, *, partial: bool) -> list[Schema]:
    """The pattern says what the constant says: to complete, editors take `file` for the beginning of any constant."""
    return [
        {
            "if": {"type": "object", "properties": {"type": _exactly(name)}, "required": ["type"]},
            "then": define(model, partial=partial),
        }
        for name, model in kinds.items()
    ]


def _exactly(name: str) -> Schema:
    return {"const": name, "pattern": f"^{name}$"}


def _unread(otherwise: Schema) -> Schema:
    """A `type` that is a reference: what it will be is not known here."""
    unread = {"type": {"type": "string", "pattern": INTERPOLATION}}
    return {"if": {"type": "object", "properties": unread, "required": ["type"]}, "then": otherwise}
