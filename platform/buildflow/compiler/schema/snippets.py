"""What an editor offers to write: an entry of a section, complete. Primitives are those of their own examples."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from buildflow import primitives
from buildflow.compiler.schema.models import doc_of, key_of
from buildflow.compiler.schema.texts import Schema
from buildflow.primitives.registry import all_primitives
from buildflow.spec.document import parse, plain
from buildflow.spec.project import BUILT_INS

_WRITTEN = {
    "stacks": {
        "local stack": ("Everything on this machine.", ["${1:local}:", "provider: local"]),
        "aws stack": ("Amazon Web Services.", ["${1:aws}:", "provider: aws", "aws: {region: ${2:us-east-1}}"]),
        "gcp stack": ("Google Cloud.", ["${1:gcp}:", "provider: gcp", "gcp: {project: ${2:my-project}}"]),
    },
    "dependencies": {
        "factory": ("What a function makes.", ["${1:client}:", "factory: ${2:app.clients:make_client}"]),
    },
    "services": {"service": ("A group of routes.", ["${1:api}:", "prefix: ${2:/api}"])},
    "routes": {
        "route": ("A handler that answers.", ["${1:GET} /${2:orders}: ${3:app.web:orders}"]),
        "collector": (
            "A handler whose result goes to a sink.",
            ["POST /${1:orders}:", "handler: ${2:app.web:collect}", "sink: ${3:orders}"],
        ),
    },
    "consumers": {
        "consumer": (
            "A source, a handler, a sink.",
            ["${1:work}:", "source: ${2:orders}", "handler: ${3:app.work:handle}", "sink: ${4:results}"],
        ),
    },
}
"""By section: label, description and lines of each."""

Snippets = dict[str, tuple[str, list[str]]]


def snippets(section: str) -> Schema:
    """`defaultSnippets` of a section, if it has any."""
    offered: Snippets = {**_WRITTEN.get(section, {}), **_DERIVED.get(section, dict)()}
    listed = [
        {"label": name, "description": words, "bodyText": "\n  ".join(lines)}
        for name, (words, lines) in offered.items()
    ]
    return {"defaultSnippets": listed} if listed else {}


def _of_built_ins() -> Snippets:
    """The dependencies that the platform brings, with what they require."""
    return {name: (doc_of(model), _required(name, model)) for name, model in BUILT_INS.items()}


def _required(name: str, model: type[BaseModel]) -> list[str]:
    required = [(key_of(n, i), i.examples) for n, i in model.model_fields.items() if i.is_required() and n != "type"]
    fields = [f"{key}: ${{{stop}:{(known or [key])[0]}}}" for stop, (key, known) in enumerate(required, 2)]
    return [f"${{1:{name}}}:", f"type: {name}", *fields]


def _of_examples() -> Snippets:
    return {p.type: (p.summary, _example(p.type)) for p in all_primitives().values()}


def _example(type: str) -> list[str]:
    """The primitive of this type as its example.yaml has it, its key to be replaced."""
    folder = Path(next(iter(primitives.__path__))) / type
    declared: dict[str, Any] = plain(parse((folder / "example.yaml").read_text("utf-8"), "example.yaml")[0].root)
    key, body = next((key, body) for key, body in declared["primitives"].items() if body["type"] == type)
    lines = yaml.safe_dump(body, sort_keys=False, allow_unicode=True).replace("$", r"\$").splitlines()
    return [f"${{1:{key}}}:", *lines]


_DERIVED: dict[str, Callable[[], Snippets]] = {"primitives": _of_examples, "dependencies": _of_built_ins}
