"""The sections of buildflow.yaml, each whole (the file's own) and partial (an overlay's)."""

from typing import Any

from pydantic import BaseModel

from buildflow.compiler.schema.fields import about
from buildflow.compiler.schema.kinds import dependency, primitive
from buildflow.compiler.schema.models import Definitions
from buildflow.compiler.schema.routes import routes
from buildflow.compiler.schema.texts import Schema, key_like, said
from buildflow.compiler.schema.unions import nullable, one_of
from buildflow.compiler.schema.values import Value
from buildflow.spec import project

KEYS = {
    **dict.fromkeys(("primitives", "dependencies", "services", "consumers", "variables"), key_like(project.IDENTIFIER)),
    "stacks": key_like(project.STACK_NAME),
    "mounts": key_like("^/", "Begin with /."),
}
"""What the keys of a section look like."""

NAMED = ("primitives", *project.SECTIONS)
"""Sections whose entries have required keys."""


def section(name: str, define: Definitions, *, partial: bool = False) -> Schema:
    """What may stand behind a section's key: nothing, too."""
    if name == "routes":
        return routes(define, partial=partial)
    if name in NAMED:
        return _named(name, _entry(name, define, partial=partial))
    info = project.Project.model_fields[name]
    schema = Value(info.annotation, tuple(info.metadata), define, partial).schema()
    schema |= {"propertyNames": KEYS[name]} if name in KEYS else {}
    return nullable(schema) if partial else one_of([schema, {"type": "null"}])


def _named(name: str, entry: Schema) -> Schema:
    return {"title": name, "type": ["object", "null"], "propertyNames": KEYS[name], "additionalProperties": entry}


def _entry(name: str, define: Definitions, *, partial: bool) -> Schema:
    if name == "primitives":
        return primitive(define, partial=partial)
    if name == "dependencies":
        return dependency(define, partial=partial)
    return model_entry(project.SECTIONS[name], define, partial=partial)


def model_entry(model: type[BaseModel], define: Definitions, *, partial: bool) -> Schema:
    """An entry that needs nothing may be empty."""
    reference = define(model, partial=partial)
    needs_nothing = not any(info.is_required() for info in model.model_fields.values())
    return one_of([reference, {"type": "null"}]) if needs_nothing and not partial else reference


def stack(define: Definitions) -> Schema:
    """A stack's own settings, and every section that may be laid over the base."""
    reference = define(project.Stack)
    properties = define.found["Stack"]["properties"]
    for name in project.OVERLAYS:
        key = f"overlays.{name}"
        properties[name] = overlay_of(name) | define.add(key, section(name, define, partial=True))
    return reference


def overlay_of(name: str) -> Schema:
    return said(f"Laid over the file's own `{name}`: mappings merge, lists replace, `null` removes.")


def pulumi_config(define: Definitions) -> Schema:
    """The original's block. Its stacks take what those of `stacks` take."""
    whole = define.found["Stack"]
    named = {"name": {"description": "The stack's name.", "type": "string", **KEYS["stacks"]}}
    define.add(
        "PulumiStack",
        {**whole, "title": "stack", "properties": {**named, **whole["properties"]}, "required": ["name"]},
    )
    fields: dict[str, Any] = {
        "pulumi_home": about(project.Stack.model_fields["pulumi_home"]) | {"type": "string"},
        "stacks": {
            **said("Where to run, as a list. `stacks` of the file itself says the same as a mapping."),
            "type": "array",
            "items": {"$ref": "#/$defs/PulumiStack"},
        },
        "default_stack": about(project.Project.model_fields["default_stack"]) | {"type": ["string", "null"]},
    }
    return {"type": "object", "properties": fields, "additionalProperties": False}
