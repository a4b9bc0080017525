"""Commands about the project itself: what they print, where, and how they end."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from jsonschema import Draft202012Validator

from buildflow.cli.main import app
from tests.harness import platform, project

YAML = """
project: shop
default_stack: local
stacks:
  local: {provider: local}
  big:
    provider: local
    variables: {size: 9}
    consumers: {save: {replicas: 4}}
variables: {size: 1, secret_word: sesame}
primitives:
  files: {type: bucket}
  orders: {type: queue}
  sales: {type: table, columns: {item: string, amount: integer}}
dependencies:
  client:
    factory: app:client
    with: {size: "${var.size}", password: "${env.SHOP_PASSWORD:-hunter2}", token: "${secret.SHOP_TOKEN}",
           url: "redis://me:hunter3@example.org/0"}
routes:
  GET /: app:index
consumers:
  save: {source: orders, handler: app:save, sink: sales}
"""

APP = """
def client(size, password, token, url): ...
def index(client, files) -> dict: return {}
def save(order: dict) -> dict: return order
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project(tmp_path_factory.mktemp("shop"), YAML, app=APP)


def data(folder: Path, *arguments: str) -> Any:
    """What a command prints as JSON; its stdout holds nothing else."""
    result = platform(folder, *arguments)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


# check, and the exit codes 0 and 1


def test_a_right_project_ends_with_0_and_says_what_it_holds(folder: Path) -> None:
    result = platform(folder, "check")
    assert (result.returncode, result.stdout) == (0, "")
    assert "buildflow.yaml is right for stack local: 3 primitives, 1 route, 1 consumer" in result.stderr
    answer = data(folder, "check", "--json")
    assert answer["ok"] is True
    assert {d["severity"] for d in answer["diagnostics"]} == {"warning"}
    assert {d["code"] for d in answer["diagnostics"]} == {"BF124", "BF126", "BF219"}


MISTAKES = {
    "no file": (None, "there is no buildflow.yaml"),
    "no YAML": ("project: [", "BF101"),
    "a tab": ("project: shop\nprimitives:\n\tfiles: {type: bucket}\n", "buildflow.yaml:3"),
    "no mapping": ("- a\n- b\n", "mapping"),
    "empty": ("", "project"),
    "unknown type": ("project: shop\nprimitives:\n  files: {type: bukket}\n", 'bucket'),
    "handler without module": (
        "project: shop\nprimitives: {q: {type: queue}}\nconsumers: {c: {source: q, handler: nowhere:f}}\n", "nowhere"),
    "handler without function": (
        "project: shop\nprimitives: {q: {type: queue}}\nconsumers: {c: {source: q, handler: app:f}}\n", '"f"'),
    "handler that does not parse": (
        "project: shop\nprimitives: {q: {type: queue}}\nconsumers: {c: {source: q, handler: broken:f}}\n", "broken"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_ends_every_command_with_1_in_words_at_its_place(tmp_path: Path, name: str) -> None:
    text, words = MISTAKES[name]
    project(tmp_path, "", app=APP, broken="def f(:\n")
    if text is None:
        (tmp_path / "buildflow.yaml").unlink()
    else:
        (tmp_path / "buildflow.yaml").write_text(text)
    for command in (["check"], ["apply", "--yes"]):
        result = platform(tmp_path, *command)
        assert result.returncode == 1, (command, result.stderr)
        assert words in result.stderr
        assert "Traceback" not in result.stderr
        assert result.stdout == ""
    found = json.loads(platform(tmp_path, "check", "--json").stdout)
    assert found["ok"] is False
    assert all(d["line"] >= 1 and d["code"].startswith("BF") for d in found["diagnostics"])


def test_a_file_that_is_a_folder_or_no_text_is_a_mistake_in_words(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name in ("folder", "binary"):
        result = platform(tmp_path, "check", "--file", name)
        assert result.returncode == 1
        assert f"{name} cannot be read" in result.stderr
        assert "Traceback" not in result.stderr


def test_a_file_that_is_a_link_to_itself_is_a_mistake_in_words(tmp_path: Path) -> None:
    (tmp_path / "buildflow.yaml").symlink_to("buildflow.yaml")
    refused = platform(tmp_path, "check")
    assert refused.returncode == 1
    assert "error[BF105]: buildflow.yaml cannot be read: too many levels of symbolic links" in refused.stderr


def test_another_stack_and_another_folder_are_chosen_by_option(folder: Path, tmp_path: Path) -> None:
    file = str(folder / "buildflow.yaml")
    assert data(tmp_path, "config", "--json", "--file", file, "--stack", "big")["consumers"]["save"]["replicas"] == 4
    unknown = platform(folder, "check", "--stack", "bigg")
    assert unknown.returncode == 1
    assert "big" in unknown.stderr.replace("bigg", "")


# exit code 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", "--nope"], "--nope"),
        (["chekc"], "chekc"),
        (["check", "--set", "size=1"], "is not var.name=value"),
        (["check", "--set", "var.size"], "is not var.name=value"),
        (["run", "--port", "99999"], "65535"),
        (["query"], "TABLE"),
        (["query", "sales", "--format", "xml"], "xml"),
        (["dlq", "show", "save"], "id"),
        (["graph", "--format", "dot2"], "dot2"),
        (["schema", "--out", "/dev/null/x.json"], "cannot be written"),
    ],
)
def test_wrong_usage_ends_with_2(folder: Path, arguments: list[str], words: str) -> None:
    result = platform(folder, *arguments)
    assert result.returncode == 2, result.stderr
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


# config


def test_config_shows_what_a_stack_really_is_and_no_secret(folder: Path) -> None:
    text = platform(folder, "config", "--stack", "big", "--set", "var.size=12").stdout
    effective = yaml.safe_load(text)
    assert effective == data(folder, "config", "--json", "--stack", "big", "--set", "var.size=12")
    assert list(effective["stacks"]) == ["big"]
    assert effective["consumers"]["save"]["replicas"] == 4
    assert effective["routes"]["GET /"]["handler"] == "app:index"
    given = effective["dependencies"]["client"]["with"]
    assert str(given["size"]) == "12"
    assert given["password"] == "********"
    assert given["token"] == "${secret.SHOP_TOKEN}"
    assert given["url"] == "redis://me:********@example.org/0"
    assert "hunter" not in text


def test_a_password_from_the_environment_is_masked_too(folder: Path) -> None:
    result = platform(folder, "config", SHOP_PASSWORD="correct-horse", SHOP_TOKEN="battery-staple")
    assert result.returncode == 0
    assert "correct-horse" not in result.stdout
    assert "battery-staple" not in result.stdout


# schema


def test_schema_prints_or_writes_the_same_schema(folder: Path, tmp_path: Path) -> None:
    printed = data(folder, "schema")
    Draft202012Validator.check_schema(printed)
    result = platform(tmp_path, "schema", "--out", "deep/schema.json")
    assert (result.returncode, result.stdout) == (0, "")
    assert "wrote deep/schema.json" in result.stderr
    assert json.loads((tmp_path / "deep/schema.json").read_text()) == printed
    Draft202012Validator(printed).validate(yaml.safe_load((folder / "buildflow.yaml").read_text()))


# graph


def test_graph_as_a_tree(folder: Path) -> None:
    lines = platform(folder, "graph").stdout.splitlines()
    assert lines[0] == "shop (local)"
    assert [line[4:] for line in lines if line.startswith(("├── ", "└── "))] == [
        "primitives", "dependencies", "routes", "consumers",
    ]  # fmt: skip
    assert lines[-4:] == [
        "└── consumers",
        "    └── save  -> app:save  (effectively once)",
        "        ├── takes from orders",
        "        └── writes to sales",
    ]


def test_graph_as_data(folder: Path) -> None:
    graph = data(folder, "graph", "--format", "json")
    assert graph == data(folder, "graph", "--json")
    assert {node["key"]: node["kind"] for node in graph["nodes"]} == {
        "files": "primitive", "orders": "primitive", "sales": "primitive", "client": "dependency",
        "GET /": "route", "save": "consumer",
    }  # fmt: skip
    found = {(edge["from"], edge["to"], edge["as"]) for edge in graph["edges"]}
    assert {("orders", "save", "source"), ("save", "sales", "sink"), ("client", "GET /", "injected")} <= found


def test_graph_as_mermaid(folder: Path) -> None:
    lines = platform(folder, "graph", "--format", "mermaid").stdout.splitlines()
    assert lines[0] == "flowchart LR"
    assert any('"orders<br/><i>queue</i>"' in line for line in lines)
    assert any("-->|source|" in line for line in lines)
    assert any("-->|sink|" in line for line in lines)


# help


def commands(group: Any, *path: str) -> Any:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *path, name)
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", COMMANDS)
def test_help_teaches_every_argument_and_option(name: str) -> None:
    command = COMMANDS[name]
    assert command.help, f"platform {name} says nothing of itself"
    assert len(command.help.splitlines()[0]) > 20
    for parameter in command.params:
        assert getattr(parameter, "help", ""), f"platform {name}: {parameter.name} says nothing of itself"


def test_help_of_the_program_names_every_command(folder: Path) -> None:
    shown = platform(folder, "--help").stdout
    assert all(name.split()[0] in shown for name in COMMANDS)
    assert platform(folder, "check", "-h").stdout.strip().startswith("Usage: ")
    assert platform(folder, "--version").stdout.strip()
