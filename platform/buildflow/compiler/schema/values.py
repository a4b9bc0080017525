"""What may stand behind one key: a field's annotation to JSON schema.

Where a text is read as something else, or not any text will do, one with a reference (`${...}`) may stand.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Protocol, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, TypeAdapter, WithJsonSchema

from buildflow.compiler.schema.marks import Marks, bounds, flat, lengths, likeness
from buildflow.compiler.schema.texts import Schema, only_interpolated, text_like, words_of
from buildflow.compiler.schema.unions import enumeration, nullable, one_of


class Define(Protocol):
    """Makes a model's definition, and gives the reference to it."""

    def __call__(self, model: type[BaseModel], *, partial: bool) -> Schema: ...


@dataclass(frozen=True)
class Value:
    """What a value has to be. `marks` stand beside the annotation: bounds, patterns, what it refers to. In a `partial`
    one (an overlay's) nothing is required, and `null` removes."""

    annotation: Any
    marks: Marks
    define: Define
    partial: bool = False

    def schema(self) -> Schema:
        if get_origin(self.annotation) is Annotated:
            inner, *more = get_args(self.annotation)
            return replace(self, annotation=inner, marks=(*flat(more), *self.marks)).schema()
        given = next((mark.json_schema for mark in self.marks if isinstance(mark, WithJsonSchema)), None)
        if given is not None:
            return one_of([_given(choice, self.marks) for choice in given.get("anyOf", [given])])
        if get_origin(self.annotation) in (Union, UnionType):
            return one_of([replace(self, annotation=choice).schema() for choice in get_args(self.annotation)])
        if isinstance(self.annotation, type) and issubclass(self.annotation, BaseModel):
            return self.define(self.annotation, partial=self.partial)
        make = _KINDS.get(get_origin(self.annotation) or self.annotation)
        return make(self) if make else TypeAdapter(self.annotation).json_schema()


def _given(schema: Schema, marks: Marks) -> Schema:
    """What a type says of itself: a pattern for its texts; its bounds are the field's."""
    if "pattern" in schema:
        parser = next((mark.func for mark in marks if isinstance(mark, BeforeValidator)), None)
        return {**schema, **text_like(schema["pattern"], words_of(parser))}
    return {"type": schema["type"], **bounds(marks, whole=schema["type"] == "integer")}


def _text(value: Value) -> Schema:
    return {"type": "string", **likeness(value.marks), **lengths(value.marks, "minLength", "maxLength")}


def _whole(value: Value) -> Schema:
    read = only_interpolated("Write a whole number.")
    return {"type": ["integer", "string"], **bounds(value.marks, whole=True), **read}


def _number(value: Value) -> Schema:
    read = only_interpolated("Write a number.")
    return {"type": ["number", "string"], **bounds(value.marks, whole=False), **read}


def _list(value: Value) -> Schema:
    """Lists replace: what stands in one is whole, below an overlay too."""
    (annotation,) = get_args(value.annotation)
    item = Value(annotation, (), value.define).schema()
    return {"type": "array", "items": item | _snippets(item), **lengths(value.marks, "minItems", "maxItems")}


def _snippets(item: Schema) -> Schema:
    """In a list, yaml-language-server does not look into an `anyOf` for what to offer."""
    offered = item["anyOf"][0].get("enum", []) if "anyOf" in item else []
    return {"defaultSnippets": [{"label": text, "bodyText": text} for text in offered]} if offered else {}


def _mapping(value: Value) -> Schema:
    _, annotation = get_args(value.annotation)
    inner = Value(annotation, (), value.define, value.partial).schema()
    return {"type": "object", "additionalProperties": nullable(inner) if value.partial else inner}


_KINDS: dict[Any, Callable[[Value], Schema]] = {
    str: _text,
    int: _whole,
    float: _number,
    bool: lambda _: {"type": ["boolean", "string"], **only_interpolated("Write true or false.")},
    Literal: lambda value: enumeration(list(get_args(value.annotation))),
    list: _list,
    dict: _mapping,
    NoneType: lambda _: {"type": "null"},
    Any: lambda _: {},
}
