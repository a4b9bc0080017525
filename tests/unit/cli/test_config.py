"""The two views of a configuration: what they hold, where it comes from, and that they compile to the same plan."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from buildflow.cli.config_origins import Origins
from buildflow.cli.config_text import flat, plain, yaml_lines
from buildflow.cli.config_values import Tree, canonical, resolved
from buildflow.cli.masking import STARS
from buildflow.compiler import Compilation, compile_file
from buildflow.spec.environment import read_env_file
from tests.harness import ROOT, example, project

GOLDEN = ROOT / "tests/golden"
CASES = sorted(path.parent.name for path in GOLDEN.glob("good_*/runtime_plan.json"))
VIEWS: dict[str, Callable[[Compilation, Origins], dict[str, Tree]]] = {
    "resolved": resolved,
    "canonical": lambda _, origins: canonical(origins),
}


def compiled(folder: Path, monkeypatch: pytest.MonkeyPatch, **given: Any) -> tuple[Compilation, Origins]:
    """A project compiled in its folder, and what knows its origins."""
    monkeypatch.chdir(folder)
    given = {"environment": {}, "variables": {}, **given}
    result = compile_file(Path("buildflow.yaml"), **given)
    assert result.ok, result.diagnostics
    chosen = given.get("stack") is not None
    return result, Origins(
        result.document, result.stack, given["variables"], given["environment"], read_env_file(folder), chosen=chosen
    )


def text_of(tree: dict[str, Tree]) -> str:
    return "\n".join(line for line, _ in yaml_lines(tree)) + "\n"


# the same plan


def case(name: str, folder: Path) -> dict[str, Any]:
    """A project in `folder`, and what it is compiled with."""
    if name == "example":
        example(folder)
        return {}
    shutil.copytree(GOLDEN / name, folder, dirs_exist_ok=True)
    arguments = folder / "arguments.json"
    given: dict[str, Any] = json.loads(arguments.read_text()) if arguments.exists() else {}
    return given


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", ["example", *CASES])
def test_a_view_is_a_project_that_compiles_to_the_same_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, view: str
) -> None:
    given = case(name, tmp_path)
    result, origins = compiled(tmp_path, monkeypatch, **given)
    tree = VIEWS[view](result, origins)
    (tmp_path / "buildflow.yaml").write_text(text_of(tree))
    again, _ = compiled(tmp_path, monkeypatch, **(given if view == "canonical" else {}))
    assert again.plan == result.plan
    assert yaml.safe_load(text_of(tree)) == plain(tree)


@pytest.mark.parametrize("name", ["example", *CASES])
def test_the_canonical_form_of_the_canonical_form_is_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    given = case(name, tmp_path)
    first = text_of(canonical(compiled(tmp_path, monkeypatch, **given)[1]))
    (tmp_path / "buildflow.yaml").write_text(first)
    assert text_of(canonical(compiled(tmp_path, monkeypatch, **given)[1])) == first


# what they hold

SHOP = """
project: ${env.NAME:-shop}
default_stack: local
stacks:
  local: {provider: local}
  big:
    provider: local
    variables: {size: 9}
    primitives: {jobs: {lease: 1m}}
    consumers: {work: {batch: {size: "${var.size}"}, retry: null}}
variables: {size: 2, note: "${env.NOTE}"}
primitives:
  jobs: {type: queue}
dependencies:
  client:
    factory: app:client
    with:
      count: "${var.size}"
      url: "${primitives.jobs.url}"
      token: "${secret.TOKEN}"
      dsn: "user=${env.DB_USER:-me} ${env.DB_PASSWORD}"
      literal: $${x}
routes:
  get /: app:index
  GET /costs: {handler: app:index, summary: "costs $${much}", status: "${env.STATUS:-202}"}
consumers:
  work: {source: jobs, handler: app:work, retry: {attempts: 3, max: "90s"}}
"""
APP = """
def client(count, url, token, dsn, literal, jobs): ...
def index(client) -> dict: return {}
def work(order: dict) -> None: ...
"""
ENVIRONMENT = {"DB_PASSWORD": "hunter2", "STATUS": "201"}
ENV_FILE = "NOTE=from the file\nSTATUS=418\n"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Compilation, Origins]]:
    project(tmp_path, SHOP, app=APP)
    (tmp_path / ".env").write_text(ENV_FILE)
    return lambda **given: compiled(tmp_path, monkeypatch, **{"environment": ENVIRONMENT, **given})


Shop = Callable[..., tuple[Compilation, Origins]]


def values(tree: dict[str, Tree]) -> dict[str, Any]:
    return {path: leaf.value for path, leaf in flat(tree)}


def told(tree: dict[str, Tree]) -> dict[str, str]:
    return {path: leaf.origin for path, leaf in flat(tree)}


def test_the_resolved_view_is_one_stack_with_its_overlay_and_all_defaults(shop: Shop) -> None:
    found = values(resolved(*shop(stack="big")))
    assert found["project"] == "shop"
    assert found["default_stack"] == "big"
    assert [path for path in found if path.startswith("stacks.")] == ["stacks.big.provider"]
    assert found["primitives.jobs.lease"] == "1m"
    assert found["consumers.work.batch.size"] == 9
    assert found["consumers.work.batch.max_bytes"] == "8MB"
    assert (found["consumers.work.retry.attempts"], found["consumers.work.retry.max"]) == (5, "5m")
    assert found["options.log_level"] == "INFO"
    assert not [path for path in found if path.startswith("primitives.jobs.gcp")], "of another provider"


def test_the_canonical_form_is_the_whole_file_with_nothing_put_in(shop: Shop) -> None:
    tree = canonical(shop()[1])
    found = values(tree)
    assert list(tree) == [
        "project", "default_stack", "stacks", "variables", "primitives", "dependencies", "routes", "consumers",
    ]  # fmt: skip
    assert found["project"] == "${env.NAME:-shop}"
    assert found['routes."GET /".handler'] == "app:index"
    assert found["stacks.big.consumers.work.batch.size"] == "${var.size}"
    assert found["stacks.big.consumers.work.retry"] is None
    assert found["dependencies.client.with.literal"] == "$${x}"


def test_texts_that_would_be_references_stay_escaped(shop: Shop) -> None:
    found = values(resolved(*shop()))
    assert found['routes."GET /costs".summary'] == "costs $${much}"
    assert found["dependencies.client.with.literal"] == "$${x}"
    assert found["dependencies.client.with.url"] == "${primitives.jobs.url}"


def test_a_text_that_was_put_in_is_a_number_only_where_one_is_wanted(shop: Shop) -> None:
    found = values(resolved(*shop()))
    assert found['routes."GET /costs".status'] == 201
    assert found["dependencies.client.with.count"] == "2"


def test_a_secret_stays_a_reference_and_what_came_from_a_secret_variable_is_masked(shop: Shop) -> None:
    tree = resolved(*shop())
    found = values(tree)
    assert found["dependencies.client.with.token"] == "${secret.TOKEN}"
    assert found["dependencies.client.with.dsn"] == STARS
    assert "hunter2" not in text_of(tree)


# where it comes from


def test_every_value_says_where_it_comes_from(shop: Shop) -> None:
    result, origins = shop(stack="big", variables={"size": "12"})
    found = told(resolved(result, origins))
    assert found["primitives.jobs.type"] == "buildflow.yaml:13:16"
    assert found["primitives.jobs.lease"] == "overlay of stack big (buildflow.yaml:9:32)"
    assert found["consumers.work.batch.size"] == "overlay of stack big, --set var.size (buildflow.yaml:10:38)"
    assert found["variables.size"] == "--set var.size"
    assert found["variables.note"] == "NOTE of .env (buildflow.yaml:11:28)"
    assert found["project"] == "default of ${env.NAME} (buildflow.yaml:2:10)"
    assert found['routes."GET /costs".status'] == "environment variable STATUS (buildflow.yaml:25:71)"
    assert found["dependencies.client.with.dsn"] == (
        "default of ${env.DB_USER}, environment variable DB_PASSWORD (buildflow.yaml:21:12)"
    )
    assert found["consumers.work.retry.attempts"] == "default"
    assert found["default_stack"] == "--stack"
    assert found["format"] == "default"
    assert all(found.values())


def test_a_variable_of_the_file_is_named(shop: Shop) -> None:
    found = told(resolved(*shop()))
    assert found["dependencies.client.with.count"] == "variable size (buildflow.yaml:18:14)"
    assert found["default_stack"] == "buildflow.yaml:3:16"


def test_a_stack_that_the_file_does_not_declare_is_a_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, "project: shop\nroutes:\n  GET /: app:index\n", app="def index(): ...\n")
    result, origins = compiled(tmp_path, monkeypatch)
    assert told(resolved(result, origins))["stacks.local.provider"] == "default"
    assert told(canonical(origins))["stacks.local.provider"] == "default"


def test_an_alias_says_where_its_anchor_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result, origins = compiled(tmp_path, monkeypatch, **case("good_anchors", tmp_path))
    assert told(resolved(result, origins))["consumers.work.retry.max"] == "buildflow.yaml:5:8"


def test_what_a_websocket_may_not_say_is_not_said_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, "project: shop\nroutes:\n  WS /chat: app:chat\n", app="def chat(websocket): ...\n")
    assert plain(resolved(*compiled(tmp_path, monkeypatch)))["routes"] == {"WS /chat": {"handler": "app:chat"}}
