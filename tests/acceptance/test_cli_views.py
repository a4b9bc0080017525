"""`platform config` and `platform graph` as commands: what goes where, what is written, how they end."""

import json
import os
import pty
import re
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.harness import PLATFORM, Running, environment, platform, project

YAML = """
project: shop
default_stack: local
stacks:
  local: {provider: local}
  big:
    provider: local
    consumers: {save: {batch: {size: 9}}}
variables: {size: 1}
primitives:
  orders: {type: queue, name: "${env.QUEUE}"}
  sales: {type: table, columns: {item: string, amount: integer}}
dependencies:
  client:
    factory: app:client
    with: {size: "${var.size}", password: "${env.SHOP_PASSWORD:-hunter2}", switch: "on", time: 12:30, code: 0755}
routes:
  GET /: app:index
consumers:
  save: {source: orders, handler: app:save, sink: sales}
"""
APP = """
def client(size, password, switch, time, code): ...
def index(client) -> dict: return {}
def save(order: dict) -> dict: return order
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = project(tmp_path_factory.mktemp("shop"), YAML, app=APP)
    (made / ".env").write_text("QUEUE=from-the-file\n")
    return made


def shown(folder: Path, *arguments: str, **more: str) -> str:
    """What a command prints to stdout; it ends well."""
    result = platform(folder, *arguments, **more)
    assert result.returncode == 0, result.stderr
    return str(result.stdout)


def data(folder: Path, *arguments: str) -> Any:
    return json.loads(shown(folder, *arguments, "--json"))


# config


def test_the_resolved_view_is_the_default(folder: Path) -> None:
    assert shown(folder, "config") == shown(folder, "config", "--resolved")


@pytest.mark.parametrize("view", ["--resolved", "--canonical"])
def test_what_config_prints_is_a_project(folder: Path, view: str) -> None:
    text = shown(folder, "config", view)
    assert yaml.safe_load(text) == data(folder, "config", view)
    (folder / "again.yaml").write_text(text)
    try:
        assert platform(folder, "check", "--file", "again.yaml").returncode == 0
        assert data(folder, "graph", "--file", "again.yaml") == data(folder, "graph")
    finally:
        (folder / "again.yaml").unlink()


def test_what_old_parsers_misread_is_quoted(folder: Path) -> None:
    lines = [line.strip() for line in shown(folder, "config").splitlines()]
    assert {'switch: "on"', 'time: "12:30"', 'code: "0755"'} <= set(lines)


def test_both_views_at_once_are_wrong_usage(folder: Path) -> None:
    result = platform(folder, "config", "--resolved", "--canonical")
    assert (result.returncode, result.stdout) == (2, "")
    assert "--canonical" in result.stderr


def test_the_canonical_form_needs_no_environment(tmp_path: Path) -> None:
    project(tmp_path, YAML, app=APP)
    assert platform(tmp_path, "config").returncode == 1
    found = data(tmp_path, "config", "--canonical")
    assert found["primitives"]["orders"]["name"] == "${env.QUEUE}"
    assert found["dependencies"]["client"]["with"]["password"] == "${env.SHOP_PASSWORD:-********}"
    assert list(found["stacks"]) == ["local", "big"]


def test_a_mistake_is_shown_and_nothing_else(tmp_path: Path) -> None:
    project(tmp_path, "project: shop\nprimitives:\n  orders: {type: queu}\n")
    for view in ("--resolved", "--canonical"):
        result = platform(tmp_path, "config", view)
        assert (result.returncode, result.stdout) == (1, "")
        assert "BF205" in result.stderr


def test_origins_stand_below_each_other_behind_the_values(folder: Path) -> None:
    lines = shown(folder, "config", "--origins", "--stack", "big", "--set", "var.size=2").splitlines()
    assert len({line.index("  # ") for line in lines if "  # " in line}) == 1
    told = {re.sub(r"\s+#.*", "", line).strip(): line.rpartition("# ")[2] for line in lines if "  # " in line}
    assert told["project: shop"] == "buildflow.yaml:2:10"
    assert told["name: from-the-file"] == "QUEUE of .env (buildflow.yaml:11:31)"
    assert told["size: 9"] == "overlay of stack big (buildflow.yaml:8:38)"
    assert told["log_level: INFO"] == "default"
    assert told["default_stack: big"] == "--stack"
    assert told['size: "2"'] == "--set var.size (buildflow.yaml:16:18)"


def test_origins_change_no_value(folder: Path) -> None:
    assert yaml.safe_load(shown(folder, "config", "--origins")) == yaml.safe_load(shown(folder, "config"))


def test_origins_as_data_are_a_mapping_of_paths(folder: Path) -> None:
    found = data(folder, "config", "--origins")
    assert found['routes."GET /".handler'] == {"value": "app:index", "origin": "buildflow.yaml:18:10"}
    assert found["consumers.save.retry.attempts"] == {"value": 5, "origin": "default"}
    assert found["dependencies.client.with.password"]["value"] == "********"


def test_comments_are_dim_on_a_terminal_and_plain_in_a_pipe(folder: Path) -> None:
    assert "\x1b[" not in shown(folder, "config", "--origins")
    ours, theirs = pty.openpty()
    more = {name: value for name, value in environment().items() if name != "NO_COLOR"}
    process = subprocess.Popen(
        [*PLATFORM, "config", "--origins"], cwd=folder, env=more, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    text = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        try:
            while chunk := terminal.read(4096):
                text += chunk
        except OSError:  # Linux's way to say that the other end is closed
            pass
    assert process.wait(timeout=30) == 0
    assert b"log_level: INFO" in text
    assert b"\x1b[2m# default\x1b[0m" in text


# graph

BEGINNINGS = {
    "tree": "shop (local)",
    "mermaid": "flowchart LR",
    "dot": 'digraph "shop" {',
    "json": "{",
    "svg": "<svg ",
}


@pytest.mark.parametrize("format", BEGINNINGS)
def test_a_graph_goes_to_stdout_or_into_a_file(folder: Path, tmp_path: Path, format: str) -> None:
    printed = shown(folder, "graph", "--format", format)
    assert printed.startswith(BEGINNINGS[format])
    file = tmp_path / "deep/graph"
    result = platform(folder, "graph", "--format", format, "--out", str(file))
    assert (result.returncode, result.stdout) == (0, "")
    assert f"wrote {file}" in result.stderr
    assert file.read_text() == printed


def test_the_picture_is_xml_and_shows_what_there_is(folder: Path) -> None:
    root = ElementTree.fromstring(shown(folder, "graph", "--format", "svg"))
    texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"shop", "orders", "sales", "client", "GET /", "save", "source", "sink", "effectively once"} <= texts


def test_as_data_a_consumer_says_what_it_guarantees(folder: Path) -> None:
    (save,) = [node for node in data(folder, "graph")["nodes"] if node["kind"] == "consumer"]
    assert save == {
        "key": "save", "kind": "consumer", "type": "main", "id": "app:save", "guarantee": "effectively once",
    }  # fmt: skip


def test_a_place_that_cannot_be_written_is_wrong_usage(folder: Path) -> None:
    result = platform(folder, "graph", "--out", "/dev/null/graph.txt")
    assert (result.returncode, result.stdout) == (2, "")
    assert "cannot be written" in result.stderr


@pytest.mark.parametrize(("command", "words"), [("gateway", "no routes to serve"), ("watcher", "nothing to watch")])
def test_a_part_without_work_says_so(tmp_path: Path, command: str, words: str) -> None:
    yaml = (
        "project: bare\nprimitives: {orders: {type: queue}}\nconsumers: {save: {source: orders, handler: app:save}}\n"
    )
    project(tmp_path, yaml, app=APP)
    assert platform(tmp_path, "apply", "--yes").returncode == 0
    app = Running(tmp_path, command=(command,))
    try:
        assert app.wait_for_line(r"ready in \d+\.\d s: (.*)")[1] == words
    finally:
        app.end()
