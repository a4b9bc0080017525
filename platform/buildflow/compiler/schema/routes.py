"""The section `routes`: `METHOD /path` to a handler, or to a mapping that has one."""

from buildflow.compiler.schema.models import Definitions
from buildflow.compiler.schema.texts import Schema, said, text_like
from buildflow.compiler.schema.unions import nullable, one_of
from buildflow.spec.project import HANDLER, METHODS, Route

_PARAMETER = r"\{[A-Za-z_][A-Za-z0-9_]*(?::(?:str|int|float|path|uuid))?\}"
_PATH = rf"(?:/(?!:[0-9A-Za-z_])|[^\s/{{}}<>?#]|{_PARAMETER})"
"""What a path consists of. `/:id` and `/<id>` are how others write a parameter. That two parameters need two names is
more than a portable pattern can say."""


def routes(define: Definitions, *, partial: bool) -> Schema:
    """Short form and long form. `propertyNames` tells how to write a key; `additionalProperties` would only forbid."""
    handler = {"type": "string", **text_like(HANDLER)}
    about = {"title": "route", **said("A handler, or a mapping that has one as its `handler`.")}
    entry = {**about, **one_of([handler, define(Route, partial=partial)])}
    words = f"Write METHOD /path, such as `GET /orders/{{id}}`; methods: {' '.join(METHODS)}."
    return {
        "title": "routes",
        "type": ["object", "null"],
        "propertyNames": {"pattern": pattern(), "patternErrorMessage": words},
        "patternProperties": {pattern(): nullable(entry) if partial else entry},
    }


def pattern() -> str:
    """The method in any letter case: patterns have no flag for that."""
    methods = "|".join("".join(f"[{c}{c.lower()}]" for c in method) for method in METHODS)
    return rf"^(?:{methods}) (?=/){_PATH}+$"
