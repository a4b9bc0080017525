"""The published JSON schema itself: that it is one, that it explains, and what it takes and refuses."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from pydantic import BaseModel, ConfigDict, Field

from buildflow.compiler import compile_file
from buildflow.compiler.schema import SCHEMA_ID, json_schema
from buildflow.compiler.schema.models import Definitions
from buildflow.primitives.registry import all_primitives
from buildflow.spec.document import parse, plain
from buildflow.spec.project import METHODS
from buildflow.spec.units import Duration, Size

SCHEMA = json_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def nodes(schema: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every schema inside, with the way to it."""
    if isinstance(schema, dict):
        yield path, schema
        for key, inner in schema.items():
            if key not in ("default", "examples", "enum", "const", "defaultSnippets"):
                yield from nodes(inner, (*path, key))
    elif isinstance(schema, list):
        for index, inner in enumerate(schema):
            yield from nodes(inner, (*path, str(index)))


def properties() -> dict[str, dict[str, Any]]:
    """Every property that an editor offers, by the way to it. What stands in a condition only is none."""
    return {
        "/".join((*path, "properties", key)): content(inner)
        for path, schema in nodes(SCHEMA)
        if {"if", "then", "else"}.isdisjoint(path) and isinstance(schema.get("properties"), dict)
        for key, inner in schema["properties"].items()
    }


def content(schema: dict[str, Any]) -> dict[str, Any]:
    """What a reference leads to."""
    while "$ref" in schema:
        found: Any = SCHEMA
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = {**found, **{k: v for k, v in schema.items() if k != "$ref"}}
    return schema


def mistakes(yaml: str) -> list[str]:
    document, found = parse(yaml, "buildflow.yaml")
    assert not found
    return [error.message for error in VALIDATOR.iter_errors(plain(document.root))]


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert (SCHEMA["$id"], SCHEMA["title"]) == (SCHEMA_ID, "buildflow.yaml")
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


def test_every_property_is_described() -> None:
    found = properties()
    assert len(found) > 200
    assert [path for path, schema in found.items() if len(schema.get("description", "")) < 8] == []


def test_every_mapping_has_a_title() -> None:
    definitions = [(name, schema) for name, schema in SCHEMA["$defs"].items() if "properties" in schema]
    assert [name for name, schema in definitions if not schema.get("title")] == []


def test_every_mapping_is_closed() -> None:
    """By itself, or by each branch of its `type`."""
    open_ones = {name for name, s in SCHEMA["$defs"].items() if "properties" in s and "additionalProperties" not in s}
    assert open_ones == {"Primitive", "PartialPrimitive", "AnyDependency", "PartialAnyDependency"}
    for name in open_ones:
        branches = [content(rule["then"]) for rule in SCHEMA["$defs"][name]["allOf"]]
        assert len(branches) > 5
        assert all(branch["additionalProperties"] is False and "type" in branch["properties"] for branch in branches
                   if branch["title"] != "dependency")  # fmt: skip


def test_every_definition_is_used() -> None:
    referred = {schema["$ref"].split("/")[2] for _, schema in nodes(SCHEMA) if "$ref" in schema}
    assert referred == set(SCHEMA["$defs"])


def test_defaults_and_examples_fit_their_own_field() -> None:
    shown = [
        (path, schema, value)
        for path, schema in properties().items()
        for value in [*schema.get("examples", ()), *([schema["default"]] if "default" in schema else ())]
    ]
    assert len(shown) > 50
    for path, schema, value in shown:
        validator = jsonschema.Draft202012Validator({**schema, "$defs": SCHEMA["$defs"]})
        assert validator.is_valid(value), (path, value)


def test_defaults_read_as_users_write() -> None:
    found = properties()
    assert found["$defs/Retry/properties/max"]["default"] == "5m"
    assert found["$defs/Options/properties/max_request_size"]["default"] == "10MB"
    assert found["$defs/Batch/properties/linger"]["default"] == 0
    assert "Default: `true`" in found["$defs/Options/properties/require_confirmation"]["markdownDescription"]


def test_every_primitive_has_a_branch_and_a_snippet() -> None:
    types = list(all_primitives())
    kind = SCHEMA["$defs"]["Primitive"]["properties"]["type"]["anyOf"][0]
    assert (kind["enum"], len(kind["markdownEnumDescriptions"])) == (types, len(types))
    assert [snippet["label"] for snippet in SCHEMA["properties"]["primitives"]["defaultSnippets"]] == types


@pytest.mark.parametrize("section", ["stacks", "primitives", "dependencies", "services", "routes", "consumers"])
def test_a_snippet_is_a_whole_entry(section: str) -> None:
    for snippet in SCHEMA["properties"][section]["defaultSnippets"]:
        text = re.sub(r"\$\{\d+:([^}]*)\}", r"\1", snippet["bodyText"])
        lines = "".join(f"\n  {line}" for line in text.splitlines())
        assert mistakes(f"project: shop\n{section}:{lines}") == [], snippet["label"]


KEYS_OF_ROUTES = (
    *(f"{method} /" for method in METHODS),
    *("get /orders", "Post /orders/{id}", "GET /orders/{id:int}/lines", "GET /files/{path:path}", "GET /a-b_c.d/~e"),
    *("/orders", "FETCH /orders", "GET", "GET ", "GET orders", "GET  /orders", "GET /a b", "GET /orders/{id"),
    *("GET /orders/{item-id}", "GET /orders/{id:number}", "GET /orders?x=1", "GET /a#b", "GET /:id", "GET /<id>"),
    *("GET /{2nd}", "GET /orders}", "GET /{}", "GET /a:b", "GET //", "GET /größe"),
)


@pytest.mark.parametrize("key", KEYS_OF_ROUTES)
def test_routes_are_well_formed_where_the_compiler_says_so(key: str, tmp_path: Path) -> None:
    text = f"project: shop\nroutes: {{{json.dumps(key)}: app:f}}"
    (tmp_path / "buildflow.yaml").write_text(text)
    compiled = compile_file(tmp_path / "buildflow.yaml", environment={})
    assert bool(mistakes(text)) is ("BF206" in {d.code for d in compiled.diagnostics})


GOOD = {
    "the original's name": "app: shop",
    "keys for anchors": "project: shop\nx-retry: &a {anything: [1]}",
    "sections without entries": "project: shop\nprimitives:\nroutes:\nconsumers:\n",
    "a handler with letters of any script": "project: shop\nroutes: {GET /: app.größen:größe}",
    "a route in both forms": "project: shop\nroutes: {GET /a: app:f, GET /b: {handler: app:f}}",
    "a reference for a number, a truth, a duration, a choice": (
        'project: shop\nprimitives: {a: {type: queue, lease: "${var.l}"}, b: {type: bucket, versioning: "${env.F}"}}\n'
        'consumers: {w: {source: a, handler: app:f, concurrency: "${var.n}", retry: {backoff: "${var.b}"}}}'
    ),
    "a type that is a reference, with the fields of any": (
        'project: shop\nprimitives: {a: {type: "${var.kind}", lease: 5s, bucket: images}}'
    ),
    "an overlay that changes one field": (
        "project: shop\nstacks: {a: {provider: aws, primitives: {b: {name: c}, d: null}, routes: {GET /: null}}}\n"
        "primitives: {b: {type: bucket}, d: {type: queue}}\nroutes: {GET /: app:f}"
    ),
    "a base that every stack completes": (
        "project: shop\nstacks:\n  a: {provider: local, consumers: {w: {source: x}}}\n"
        "  b: {provider: aws, consumers: {w: {source: y}}}\nconsumers: {w: {handler: app:f}}"
    ),
    "the original's block": (
        "app: shop\npulumi_config: {pulumi_home: x, default_stack: a, stacks: [{name: a, backend_url: file://x}]}"
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_it_takes(name: str) -> None:
    assert mistakes(GOOD[name]) == []


BAD = {
    "no name": "primitives: {}",
    "two names": "app: shop\nproject: shop",
    "a number for a text": "project: 5",
    "a literal dollar for a number": "project: shop\nprimitives: {a: {type: queue, lease: '$${x}'}}",
    "a base that one stack leaves incomplete": (
        "project: shop\nstacks:\n  a: {provider: local, consumers: {w: {source: x}}}\n  b: {provider: aws}\n"
        "consumers: {w: {handler: app:f}}"
    ),
    "another type's field below an overlay that says its type": (
        "project: shop\nstacks: {a: {provider: aws, primitives: {b: {type: queue, columns: a:B}}}}"
    ),
    "no type's field below an overlay": "project: shop\nstacks: {a: {provider: aws, primitives: {b: {nmae: c}}}}",
    "a list of an overlay with a null": (
        "project: shop\nstacks: {a: {provider: aws, primitives: {b: {events: [null]}}}}"
    ),
    "a stack of the original's without a name": "app: shop\npulumi_config: {stacks: [{backend_url: file://x}]}",
    "a secret in clear": "project: shop\nprimitives: {a: {type: database, password: hunter2}}",
}


@pytest.mark.parametrize("name", BAD)
def test_it_refuses(name: str) -> None:
    assert mistakes(BAD[name]) != []


class Inner(BaseModel):
    """What is inside."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    kept: bool = Field(default=True, description="Whether it is kept.")


class Sample(BaseModel):
    """A model with fields of many kinds."""

    model_config = ConfigDict(extra="forbid")

    size: Size = Field(default=64_000_000, gt=0, description="Its size, as in `64MB`.", examples=["64MB"])
    wait: Duration | None = Field(default=None, gt=0, description="How long.")
    count: Annotated[int, Field(gt=0)] | Inner = Field(description="How many, or what.")
    mode: Literal["a", "b"] = Field(default="a", description="Which.")
    parts: list[Inner] = Field(default_factory=list, description="Its parts.")
    names: dict[str, str] = Field(default_factory=dict, description="Names.")
    with_: dict[str, Any] = Field(default_factory=dict, alias="with", description="Anything.")


def test_a_model_becomes_a_definition() -> None:
    define = Definitions()
    assert define(Sample) == {"$ref": "#/$defs/Sample"}
    definition = define.found["Sample"]
    fields = definition["properties"]
    assert (definition["title"], definition["required"]) == ("sample", ["count"])
    assert fields["size"] == {
        "description": "Its size, as in `64MB`.",
        "markdownDescription": "Its size, as in `64MB`.\n\nDefault: `64MB`",
        "default": "64MB",
        "type": ["integer", "string"],
        "minimum": 1,
        "pattern": r"^(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|KiB|MiB|GiB)$|(?:^|[^$])\$\{",
        "patternErrorMessage": "Write 512KB, 10MB or 1GiB.",
        "examples": ["64MB"],
    }
    assert (fields["wait"]["type"], fields["wait"]["exclusiveMinimum"]) == (["number", "string", "null"], 0)
    assert fields["count"]["type"] == ["integer", "string", "object"]
    assert (fields["count"]["if"], fields["count"]["then"]) == ({"type": "object"}, {"$ref": "#/$defs/Inner"})
    assert fields["mode"]["anyOf"][0] == {"type": "string", "enum": ["a", "b"]}
    assert fields["parts"]["items"] == {"$ref": "#/$defs/Inner"}
    assert fields["with"] == {"description": "Anything.", "type": "object", "additionalProperties": {}}
    assert define.found["Inner"]["minProperties"] == 1


def test_its_partial_definition_requires_nothing_and_takes_null() -> None:
    define = Definitions()
    assert define(Sample, partial=True) == {"$ref": "#/$defs/PartialSample"}
    definition = define.found["PartialSample"]
    fields = definition["properties"]
    assert (definition["type"], "required" in definition) == (["object", "null"], False)
    assert fields["size"]["type"] == ["integer", "string", "null"]
    assert fields["wait"] == {"$ref": "#/$defs/Sample/properties/wait"}
    assert fields["count"]["then"] == {"$ref": "#/$defs/PartialInner"}
    assert fields["parts"]["items"] == {"$ref": "#/$defs/Inner"}, "lists replace: what is in one is whole"
    assert fields["names"]["additionalProperties"]["type"] == ["string", "null"]
    assert "minProperties" not in define.found["PartialInner"]
