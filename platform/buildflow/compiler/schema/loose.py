"""Fields whose owner's `type` is not known: what any kind would take.

An `anyOf` would be exact, and unreadable: editors show the texts of all its branches. Each keyword is loosened instead.
"""

from collections.abc import Mapping
from functools import reduce

from pydantic import BaseModel

from buildflow.compiler.schema.models import Definitions, at
from buildflow.compiler.schema.texts import Schema, said
from buildflow.compiler.schema.unions import enumeration, types_of

_ABOUT = ("title", "description", "markdownDescription", "default", "examples")
_LEAST = ("minimum", "exclusiveMinimum", "minLength", "minItems")
_MOST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")

Choices = list[tuple[str, Schema]]
"""What each kind says of one field."""


def any_fields(name: str, models: Mapping[str, type[BaseModel]], define: Definitions) -> Schema:
    """A definition with every field of every model, none required."""
    fields: dict[str, Choices] = {}
    for kind, model in models.items():
        for key in define.properties(model, partial=True):
            fields.setdefault(key, []).append((kind, at(model, key, partial=True)))
    fields["type"] = [("", {"description": "Which kind it is.", "doNotSuggest": True})]
    return define.add(name, {"title": name.removesuffix("Fields").lower(), **_mapping(fields, define)})


def _mapping(fields: dict[str, Choices], define: Definitions) -> Schema:
    properties = {key: _either(choices, define) for key, choices in fields.items()}
    return {"type": ["object", "null"], "properties": properties, "additionalProperties": False}


def _either(choices: Choices, define: Definitions) -> Schema:
    contents = [(kind, define.content(schema)) for kind, schema in choices]
    first = contents[0][1]
    if all(content == first for _, content in contents):
        return choices[0][1]
    if all("properties" in content for _, content in contents):
        inner: dict[str, Choices] = {}
        for kind, content in contents:
            for key, schema in content["properties"].items():
                inner.setdefault(key, []).append((kind, schema))
        return {**_about(contents), **_mapping(inner, define)}
    rules: list[Schema] = [{k: v for k, v in content.items() if k not in _ABOUT} for _, content in contents]
    loosest: Schema = reduce(_loosened, rules)
    return {**_about(contents), **loosest}


def _about(contents: Choices) -> Schema:
    """What each kind says of it, those that say the same together."""
    texts: dict[str, list[str]] = {}
    for kind, content in contents:
        texts.setdefault(content["description"], []).append(kind)
    lines = [f"{', '.join(kinds)}: {text}" if len(texts) > 1 else text for text, kinds in texts.items()]
    examples = next((content["examples"] for _, content in contents if "examples" in content), None)
    return said("\n\n".join(lines)) | ({"examples": examples} if examples else {})


def _loosened(one: Schema, other: Schema) -> Schema:
    """What takes all that either takes. To leave a keyword out is to loosen it."""
    result = {k: v for k, v in one.items() if other.get(k) == v}
    result |= {k: min(one[k], other[k]) for k in _LEAST if k in one and k in other}
    result |= {k: max(one[k], other[k]) for k in _MOST if k in one and k in other}
    choices = [schema["anyOf"][0].get("enum", []) for schema in (one, other) if "anyOf" in schema]
    if len(choices) == 2 and all(choices):
        result |= enumeration(list(dict.fromkeys([*choices[0], *choices[1]])))
    return result | {"type": list(dict.fromkeys([*types_of(one), *types_of(other)]))}
