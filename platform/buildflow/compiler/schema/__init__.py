"""The JSON schema of buildflow.yaml, from the Specs: what editors complete, explain and check."""

from buildflow.compiler.schema.fields import about
from buildflow.compiler.schema.models import Definitions, doc_of
from buildflow.compiler.schema.sections import NAMED, pulumi_config, section, stack
from buildflow.compiler.schema.snippets import snippets
from buildflow.compiler.schema.texts import Schema, said, text_like
from buildflow.spec.project import OVERLAYS, PROJECT_NAME, Project

SCHEMA_ID = "https://buildflow.dev/schemas/buildflow.schema.json"
_COMPLETED_BY_OVERLAYS = [name for name in NAMED if name in OVERLAYS]


def json_schema() -> Schema:
    """The whole language as JSON Schema, draft 2020-12.

    `markdownDescription`, `patternErrorMessage`, `defaultSnippets` and `doNotSuggest` are what yaml-language-server
    reads beyond the standard: https://github.com/redhat-developer/yaml-language-server
    """
    define = Definitions()
    properties = {name: _property(name, define) for name in Project.model_fields}
    properties["app"] = {
        **said("The original's name for `project`."),
        "type": "string",
        "doNotSuggest": True,
        **text_like(PROJECT_NAME),
    }
    properties["pulumi_config"] = {
        "title": "pulumi_config",
        **said("The original's block. `stacks` and `default_stack` replace it."),
        "doNotSuggest": True,
        **pulumi_config(define),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "buildflow.yaml",
        "description": doc_of(Project),
        "type": "object",
        "properties": properties,
        "patternProperties": {"^x-": {"description": "Yours, such as anchors that other keys repeat. It is not read."}},
        "additionalProperties": False,
        "allOf": [_project_or_app(), *(_whole_or_partial(name, define) for name in _COMPLETED_BY_OVERLAYS)],
        "$defs": dict(sorted(define.found.items())),
    }


def _property(name: str, define: Definitions) -> Schema:
    info = Project.model_fields[name]
    if name == "stacks":
        stack(define)
    if name in _COMPLETED_BY_OVERLAYS:
        return {"title": name, **about(info), "type": ["object", "null"], **snippets(name)}
    if name in NAMED or name in OVERLAYS:
        return {"title": name, **about(info), **section(name, define), **snippets(name)}
    return define.property(info)


def _project_or_app() -> Schema:
    """One of them, not both."""
    neither = {"if": {"not": {"required": ["app"]}}, "then": {"required": ["project"]}}
    return {"if": {"required": ["project"]}, "then": {"properties": {"app": False}}, "else": neither}


def _whole_or_partial(name: str, define: Definitions) -> Schema:
    """What the base leaves out, an overlay may bring: entries need to be whole unless every stack has one."""
    everywhere = {"type": "object", "minProperties": 1, "additionalProperties": {"type": "object", "required": [name]}}
    whole = define.add(f"sections.{name}", section(name, define))
    partial = {"$ref": f"#/$defs/overlays.{name}"}
    return {
        "if": {"properties": {"stacks": everywhere}, "required": ["stacks"]},
        "then": {"properties": {name: {"doNotSuggest": True, "allOf": [partial]}}},
        "else": {"properties": {name: {"doNotSuggest": True, "allOf": [whole]}}},
    }
