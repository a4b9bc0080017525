"""What the repository shows compiles: the root application, every primitive's example, the README's YAML."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from buildflow.compiler import compile_file
from buildflow.diagnostics import errors_in
from buildflow.ir.graph import ResourceGraph
from buildflow.ir.runtime import RuntimePlan
from buildflow.primitives.registry import all_primitives, providers_of
from buildflow.spec.document import parse, plain

ROOT = Path(__file__).parents[1]
PRIMITIVES = ROOT / "platform/buildflow/primitives"
SCHEMA = jsonschema.Draft202012Validator(json.loads((ROOT / "schemas/buildflow.schema.json").read_text()))

HANDLERS = """
app.photos:store(originals) app.thumbnails:shrink(event) app.sensors:store(reading) app.orders:price(order)
app.orders:announce(order) app.billing:bill(order) app.shipping:ship(order) app.orders:store(order)
app.reports:send(tick) app.health:check(tick) app.exports:keep(order) app.orders:Order(id)
"""
"""What the examples of the primitives name, as stubs. A new example with a new handler needs a word here."""


def values_of(text: str) -> Any:
    document, found = parse(text, "buildflow.yaml")
    assert not found
    return plain(document.root)


def write_handlers(folder: Path) -> None:
    for stub in HANDLERS.split():
        module, _, signature = stub.partition(":")
        path = folder / (module.replace(".", "/") + ".py")
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as file:
            name, _, parameters = signature.partition("(")
            is_type = name[0].isupper()
            fields = f"class {name}(TypedDict):\n    {parameters.removesuffix(')')}: int\n"
            file.write(f"from typing import TypedDict\n{fields}" if is_type else f"def {signature}: ...\n")


def test_the_root_application_compiles_without_a_word() -> None:
    result = compile_file(ROOT / "buildflow.yaml", environment={})
    assert result.diagnostics == ()
    assert result.stack == "local"
    assert [r.key for r in result.graph.resources] == ["images", "uploads", "classifications", "failures"]
    assert {r.key: r.references for r in result.graph.resources if r.references} == {"uploads": {"bucket": "images"}}
    assert {r.method + " " + r.path for r in result.plan.routes} >= {"GET /", "POST /image-upload"}
    consumer = result.plan.consumer("classify_image")
    assert (consumer.source, consumer.sink, consumer.dead_letter) == ("uploads", "classifications", "failures")
    assert consumer.handler.element == "file_event"
    assert [(i.parameter, i.key) for i in consumer.handler.inject] == [("model", "model")]
    assert RuntimePlan.model_validate_json(result.plan.model_dump_json()) == result.plan
    assert ResourceGraph.model_validate_json(result.graph.model_dump_json()) == result.graph


def test_the_root_application_fits_the_schema() -> None:
    SCHEMA.validate(values_of((ROOT / "buildflow.yaml").read_text()))


@pytest.mark.parametrize("type", sorted(all_primitives()))
def test_every_primitive_shows_an_example_that_compiles(type: str, tmp_path: Path) -> None:
    text = (PRIMITIVES / type / "example.yaml").read_text()
    assert any(body["type"] == type for body in values_of(text)["primitives"].values())
    SCHEMA.validate(values_of(text))
    write_handlers(tmp_path)
    (tmp_path / "buildflow.yaml").write_text(text)
    result = compile_file(tmp_path / "buildflow.yaml", environment={})
    allowed = {"BF219"}  # an example shows one primitive; nothing has to use it
    if "local" not in providers_of(type):
        allowed.add("BF217")
    assert [d for d in result.diagnostics if d.code not in allowed] == []
    assert RuntimePlan.model_validate_json(result.plan.model_dump_json()) == result.plan


def readme_blocks() -> list[str]:
    """The README's YAML blocks that are whole projects."""
    blocks = re.findall(r"^```ya?ml\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return [block for block in blocks if re.search(r"^project:", block, re.MULTILINE)]


def test_the_readme_shows_a_project() -> None:
    assert readme_blocks()


def test_the_readmes_yaml_compiles(tmp_path: Path) -> None:
    (tmp_path / "handlers_example").symlink_to(ROOT / "handlers_example")
    for number, block in enumerate(readme_blocks()):
        file = tmp_path / f"buildflow{number}.yaml"
        file.write_text(block)
        result = compile_file(file, environment={})
        assert not errors_in(result.diagnostics), result.diagnostics
        SCHEMA.validate(values_of(block))


MISTAKES_OF_STRUCTURE = {
    "an unknown section": "project: shop\nprimitves: {}",
    "no project": "primitives: {}",
    "a malformed project name": "project: Shop",
    "no primitive type": "project: shop\nprimitives: {a: {}}",
    "an unknown primitive type": "project: shop\nprimitives: {a: {type: buckt}}",
    "a field of another type": "project: shop\nprimitives: {a: {type: queue, force_destroy: true}}",
    "a field of another primitive's inner mapping": (
        "project: shop\nprimitives: {a: {type: bucket, local: {database: x}}}"
    ),
    "text for true or false": 'project: shop\nprimitives: {a: {type: bucket, force_destroy: "true"}}',
    "a missing field": "project: shop\nprimitives: {a: {type: file_change_stream}}",
    "a malformed duration": "project: shop\nprimitives: {a: {type: queue, lease: soon}}",
    "a malformed route": "project: shop\nroutes: {/orders: app:orders}",
    "a malformed handler": "project: shop\nroutes: {GET /orders: app.orders}",
    "a key that no parameter could bear": "project: shop\nprimitives: {my-bucket: {type: bucket}}",
    "a consumer without a source": "project: shop\nconsumers: {a: {handler: app:work}}",
    "an unknown provider": "project: shop\nstacks: {a: {provider: azure}}",
    "an unknown scope": "project: shop\ndependencies: {a: {factory: app:a, scope: session}}",
}


@pytest.mark.parametrize("mistake", MISTAKES_OF_STRUCTURE)
def test_the_schema_rejects(mistake: str) -> None:
    assert not SCHEMA.is_valid(values_of(MISTAKES_OF_STRUCTURE[mistake]))


GOOD = sorted((ROOT / "tests/golden").glob("good_*/buildflow.yaml"))


@pytest.mark.parametrize("path", GOOD, ids=[path.parent.name for path in GOOD])
def test_the_schema_accepts_what_compiles(path: Path) -> None:
    SCHEMA.validate(values_of(path.read_text()))
