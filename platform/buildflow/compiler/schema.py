"""The JSON schema of buildflow.yaml, from the Specs: what editors complete, explain and check."""

from typing import Any

from buildflow.compiler.canonical import stack_keys
from buildflow.primitives.registry import all_primitives
from buildflow.spec.project import HANDLER, IDENTIFIER, OVERLAYS, PROJECT_NAME, ROUTE, STACK_NAME, Project

SCHEMA_ID = "https://buildflow.dev/schemas/buildflow.schema.json"
_INTERPOLATED = {"type": "string", "pattern": r"\$\{"}
"""A text that holds a reference."""


def json_schema() -> dict[str, Any]:
    """The whole language as JSON Schema, draft 2020-12. `if/then` on `type`, because editors misreport `oneOf`."""
    schema = Project.model_json_schema(by_alias=True)
    definitions = schema["$defs"]
    for primitive in all_primitives().values():
        owner = primitive.spec.__name__  # two primitives may call an inner model alike
        body = primitive.spec.model_json_schema(by_alias=True, ref_template=f"#/$defs/{owner}.{{model}}")
        definitions |= {f"{owner}.{name}": inner for name, inner in body.pop("$defs", {}).items()}
        definitions[owner] = body
    definitions["Primitive"] = _primitive()
    properties = schema["properties"]
    properties["primitives"] = {**_named("Primitive", IDENTIFIER), "description": "What the system stores."}
    properties["stacks"] |= _named("Stack", STACK_NAME)
    properties["dependencies"] |= _named("Dependency", IDENTIFIER)
    properties["consumers"] |= _named("Consumer", IDENTIFIER)
    properties["routes"] = {
        "type": "object",
        "description": "What the system serves: `METHOD /path` and a handler, or a mapping.",
        "patternProperties": {_any_case(ROUTE): {"anyOf": [_handler(), _INTERPOLATED, {"$ref": "#/$defs/Route"}]}},
        "additionalProperties": False,
    }
    properties["app"] = {"type": "string", "pattern": PROJECT_NAME, "description": "The original's `project`."}
    properties["pulumi_config"] = {"type": "object", "description": "The original's block; `stacks` replaces it."}
    stack = definitions["Stack"]
    stack["properties"] |= {name: {"type": ["object", "null"]} for name in OVERLAYS if name in stack_keys()}
    for definition in definitions.values():
        _allow_interpolation(definition)
    _allow_interpolation(schema)
    schema |= {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "buildflow.yaml",
        "patternProperties": {"^x-": {}},
        "required": [],
        "anyOf": [{"required": ["project"]}, {"required": ["app"]}],
    }
    return schema


def _named(model: str, pattern: str) -> dict[str, Any]:
    return {
        "type": "object",
        "patternProperties": {pattern: {"$ref": f"#/$defs/{model}"}},
        "additionalProperties": False,
    }


def _primitive() -> dict[str, Any]:
    primitives = all_primitives().values()
    return {
        "type": "object",
        "required": ["type"],
        "properties": {
            "type": {
                "enum": [p.type for p in primitives],
                "description": "\n".join(f"{p.type}: {p.summary}" for p in primitives),
            }
        },
        "allOf": [
            {
                "if": {"properties": {"type": {"const": p.type}}, "required": ["type"]},
                "then": {"$ref": f"#/$defs/{p.spec.__name__}"},
            }
            for p in primitives
        ],
    }


def _handler() -> dict[str, Any]:
    return {"type": "string", "pattern": HANDLER, "description": "A function as `package.module:function`."}


def _any_case(pattern: str) -> str:
    methods = pattern[pattern.index("(") + 1 : pattern.index(")")]
    either = "|".join("".join(f"[{c}{c.lower()}]" for c in method) for method in methods.split("|"))
    return pattern.replace(methods, either)


def _allow_interpolation(schema: dict[str, Any]) -> None:
    """Where text is read as something else, or not any text will do, `${...}` may stand."""
    for name, field in list(schema.get("properties", {}).items()):
        if any(_narrow(choice) for choice in field.get("anyOf", [field])):
            kept = {k: field.pop(k) for k in ("description", "default", "title", "examples") if k in field}
            schema["properties"][name] = {"anyOf": [*field.get("anyOf", [field]), _INTERPOLATED], **kept}


def _narrow(field: dict[str, Any]) -> bool:
    """Whether this is one value, but not just any text."""
    kind = field.get("type")
    return kind in ("integer", "number", "boolean") or (kind == "string" and not {"pattern", "enum"}.isdisjoint(field))
