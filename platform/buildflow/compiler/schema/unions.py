"""A union as one flat schema, where that can be said.

A keyword of JSON schema binds one type (`pattern` texts, `minimum` numbers), so `int | str | None` is one schema with a
list of types, and an editor says one thing about a wrong value. Of an `anyOf` it would have to guess a branch.
"""

from collections.abc import Iterable
from typing import Any

from buildflow.compiler.schema.texts import INTERPOLATION, Schema


def one_of(choices: list[Schema]) -> Schema:
    """A union, flat where each type is spoken of by one choice; else `anyOf`."""
    if len(choices) == 1 or not all(choices):
        return choices[0] if len(choices) == 1 else {}
    texts = [choice for choice in choices if "string" in types_of(choice)]
    crowded = any(sum(kind in types_of(choice) for choice in choices) > 1 for kind in ("object", "array"))
    if crowded or (len(texts) > 1 and any("anyOf" in choice for choice in texts)):
        return {"anyOf": choices}
    merged: Schema = {"type": list(dict.fromkeys(kind for choice in choices for kind in types_of(choice)))}
    inner = [choice for choice in choices if _has_an_inside(choice, merged)]
    for choice in choices:
        merged |= {} if choice in inner else _without(choice, "type")
    return _matching(merged, texts) | _conditions(inner)


def nullable(schema: Schema) -> Schema:
    """The same, or `null`. A partial definition takes that by itself."""
    return schema if not schema or "$ref" in schema else one_of([schema, {"type": "null"}])


def enumeration(choices: list[Any], descriptions: Iterable[str] = ()) -> Schema:
    """One of some values, or a reference. Of what is no text, the second branch says nothing: its type does. Its title
    keeps editors from taking the two branches for one."""
    described = {"markdownEnumDescriptions": list(descriptions)} if descriptions else {}
    reference = {"title": "reference", "pattern": INTERPOLATION}
    if all(isinstance(choice, str) for choice in choices):
        return {"type": "string", "anyOf": [{"type": "string", "enum": choices, **described}, reference]}
    return {"anyOf": [{"enum": choices}, {**reference, "type": "string"}]}


def types_of(schema: Schema) -> list[str]:
    """The types that a schema speaks of; none is any."""
    kinds = schema.get("type", "object" if "$ref" in schema else [])
    return [kinds] if isinstance(kinds, str) else list(kinds)


def _has_an_inside(choice: Schema, merged: Schema) -> bool:
    """Whether it tells what is inside a model or a list. Beside other types that goes behind an `if`: editors would
    take it for the only form."""
    return "$ref" in choice or ("items" in choice and not set(merged["type"]) <= {"array", "null"})


def _conditions(inner: list[Schema]) -> Schema:
    conditions: list[Schema] = [{"if": {"type": types_of(choice)[0]}, "then": choice} for choice in inner]
    if len(conditions) == 1:
        return conditions[0]
    return {"allOf": conditions} if conditions else {}


def _matching(merged: Schema, texts: list[Schema]) -> Schema:
    """Texts match any of the patterns; where one choice is any text, there is none."""
    patterns = [str(choice["pattern"]) for choice in texts if "pattern" in choice]
    if len(patterns) < len(texts):
        return _without(merged, "pattern", "patternErrorMessage")
    return merged | ({"pattern": "|".join(dict.fromkeys(patterns))} if patterns else {})


def _without(schema: Schema, *keywords: str) -> Schema:
    return {keyword: content for keyword, content in schema.items() if keyword not in keywords}
