"""Models to definitions, each in two variants: whole, and partial as it may stand below an overlay."""

import re
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from buildflow.compiler.schema.fields import about, examples
from buildflow.compiler.schema.marks import flat
from buildflow.compiler.schema.texts import Schema, said
from buildflow.compiler.schema.unions import nullable
from buildflow.compiler.schema.values import Value

_PRIMITIVES = "buildflow.primitives."


@dataclass
class Definitions:
    """The `$defs` of one schema, filled as they are referred to."""

    found: dict[str, Schema] = field(default_factory=dict)

    def __call__(self, model: type[BaseModel], *, partial: bool = False) -> Schema:
        """The reference to a model's definition."""
        name = name_of(model, partial=partial)
        if name not in self.found:
            self.found[name] = {}  # holds the place: a model may hold itself
            self.found[name] = self._partial(model) if partial else self._whole(model)
        return {"$ref": f"#/$defs/{name}"}

    def add(self, name: str, schema: Schema) -> Schema:
        """A definition that is no model's."""
        self.found[name] = schema
        return {"$ref": f"#/$defs/{name}"}

    def property(self, info: FieldInfo, *, partial: bool = False) -> Schema:
        """One field: what is said about it, and what it takes."""
        schema = Value(info.annotation, tuple(flat(info.metadata)), self, partial).schema()
        return {**about(info), **(nullable(schema) if partial else schema), **examples(info)}

    def properties(self, model: type[BaseModel], *, partial: bool = False) -> Schema:
        """A model's fields by key, as they stand in its definition."""
        self(model, partial=partial)
        return dict(self.found[name_of(model, partial=partial)]["properties"])

    def content(self, schema: Schema) -> Schema:
        """What a reference leads to, however long the way; any other schema itself."""
        if "$ref" not in schema:
            return schema
        found: Any = {"$defs": self.found}
        for part in str(schema["$ref"]).removeprefix("#/").split("/"):
            found = found[part]
        return self.content(found) | {k: v for k, v in schema.items() if k != "$ref"}

    def _whole(self, model: type[BaseModel]) -> Schema:
        required = [key_of(name, info) for name, info in model.model_fields.items() if info.is_required()]
        extra = model.model_config.get("json_schema_extra")
        return {
            **self._mapping(model, partial=False),
            **({"required": required} if required else {}),
            **(extra if isinstance(extra, dict) else {}),
        }

    def _partial(self, model: type[BaseModel]) -> Schema:
        """Most fields take `null` already: only those that do not are written out."""
        same = self.properties(model)
        mapping = self._mapping(model, partial=True)
        properties = {k: at(model, k) if v == same[k] else v for k, v in mapping["properties"].items()}
        return {**mapping, "type": ["object", "null"], "properties": properties}

    def _mapping(self, model: type[BaseModel], *, partial: bool) -> Schema:
        properties = {
            key_of(name, info): kind_of(model, info) if _is_kind(name, info) else self.property(info, partial=partial)
            for name, info in model.model_fields.items()
        }
        closed = {"type": "object", "properties": properties, "additionalProperties": False}
        return {"title": title_of(model), **said(doc_of(model)), **closed}


def at(model: type[BaseModel], key: str, *, partial: bool = False) -> Schema:
    """The reference to one property of a model's definition."""
    return {"$ref": f"#/$defs/{name_of(model, partial=partial)}/properties/{key}"}


def name_of(model: type[BaseModel], *, partial: bool) -> str:
    """Two primitives may call an inner model alike, so theirs bear the folder's name."""
    folder = f"{model.__module__.removeprefix(_PRIMITIVES)}." if model.__module__.startswith(_PRIMITIVES) else ""
    return f"{folder}{'Partial' if partial else ''}{model.__name__}"


def title_of(model: type[BaseModel]) -> str:
    """What an editor calls a mapping of this kind: its `type`, or the model's name in words."""
    info = model.model_fields.get("type")
    if info and _is_kind("type", info):
        return str(get_args(info.annotation)[0])
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", model.__name__).lower()


def doc_of(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split())


def key_of(name: str, info: FieldInfo) -> str:
    return info.alias or name


def kind_of(model: type[BaseModel], info: FieldInfo) -> Schema:
    """The `type` of one kind: its definition is only reached when it is that."""
    return {**said(doc_of(model)), "const": get_args(info.annotation)[0]}


def _is_kind(name: str, info: FieldInfo) -> bool:
    return name == "type" and get_origin(info.annotation) is Literal
