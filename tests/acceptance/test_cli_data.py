"""send, query, status and dlq, on an app that runs and on one that does not."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Running, platform, project, rows, running, status, wait_for

pytestmark = pytest.mark.xdist_group("cli-data")  # they share one running app

YAML = """
project: shop
primitives:
  orders: {type: queue}
  others: {type: queue}
  files: {type: bucket}
  sales: {type: table, columns: app:Sale}
routes:
  GET /: app:index
consumers:
  save:
    source: orders
    handler: app:save
    sink: sales
    retry: {attempts: 2, initial: 50ms}
  other: {source: others, handler: app:other}
"""

APP = """
from dataclasses import dataclass, field
from pathlib import Path

@dataclass
class Line:
    item: str
    amount: int = 1

@dataclass
class Sale:
    id: int
    at: str = "shop, main"
    lines: list[Line] = field(default_factory=list)

def index() -> dict: return {"up": True}
def other(order: dict) -> None: ...

def save(order: Sale) -> Sale:
    if order.at == "nowhere" and not Path("cured").exists():
        raise LookupError("no such shop")
    return order
"""


def run(folder: Path, *arguments: str, input: str = "", expect: int = 0) -> Any:
    result = platform(folder, *arguments, input=input)
    assert result.returncode == expect, f"{result.returncode}: {result.stdout}{result.stderr}"
    assert "Traceback" not in result.stderr
    return result


def data(folder: Path, *arguments: str, input: str = "") -> Any:
    return json.loads(run(folder, *arguments, input=input).stdout)


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Applied, never running."""
    folder = project(tmp_path_factory.mktemp("idle"), YAML, app=APP)
    run(folder, "apply", "--yes")
    return folder


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One that runs, with what was sent to it before it started."""
    folder = project(tmp_path_factory.mktemp("running"), YAML, app=APP)
    run(folder, "apply", "--yes")
    run(folder, "send", "orders", '{"id": 1}')
    with running(folder) as app:
        app.ready()
        yield app


# names that do not exist


@pytest.mark.parametrize(
    ("arguments", "words", "hint"),
    [
        (["send", "order", "{}"], 'there is no source "order"', "orders"),
        (["send", "files", "{}"], 'there is no source "files"', ""),
        (["query", "sale"], 'there is no table "sale"', "sales"),
        (["query", "orders"], 'there is no table "orders"', ""),
        (["query", "sales", "--sql", "delete from sales"], "reads only", ""),
        (["query", "sales", "--sql", "select 1; drop table sales"], "reads only", ""),
        (["query", "sales", "--sql", "select nope from sales"], "nope", ""),
        (["query", "sales", "--sql", "selec"], "DuckDB refuses this query", ""),
        (["dlq", "ls", "sav"], 'there is no consumer "sav"', "save"),
        (["dlq", "show", "nobody", "a"], 'there is no consumer "nobody"', ""),
        (["dlq", "show", "save", "zz"], 'no dead letter begins with "zz"', "platform dlq ls"),
        (["dlq", "replay", "nobody"], 'there is no consumer "nobody"', ""),
        (["dlq", "replay", "save", "zz"], 'no dead letter begins with "zz"', "platform dlq ls"),
    ],
)
def test_a_name_that_does_not_exist_ends_with_1_in_words(
    idle: Path, arguments: list[str], words: str, hint: str
) -> None:
    failed = run(idle, *arguments, expect=1)
    assert words in failed.stderr
    assert hint in failed.stderr
    assert failed.stdout == ""


def test_a_pool_that_does_not_exist_is_wrong_usage(idle: Path) -> None:
    assert "pools: main" in run(idle, "worker", "--pool", "nope", expect=2).stderr


# while nothing runs


def test_status_of_what_does_not_run(idle: Path) -> None:
    shown = run(idle, "status")
    assert "stack local is not running; start it with platform run" in shown.stderr
    assert "save" in shown.stdout
    found = data(idle, "status", "--json")
    assert (found["running"], found["ready"], found["processes"]) == (False, False, [])


def test_status_before_anything_was_applied(tmp_path: Path) -> None:
    yaml = YAML.replace("sink: sales\n", "sink: sales\n    dead_letter: graves\n").replace(
        "  sales:", "  graves: {type: table, columns: 'buildflow.types:DeadLetter'}\n  sales:"
    )
    project(tmp_path, yaml, app=APP)
    found = data(tmp_path, "status", "--json")
    assert [(c["consumer"], c["backlog"], c["dead_letters"]) for c in found["consumers"]] == [
        ("save", 0, 0), ("other", 0, 0),
    ]  # fmt: skip
    assert data(tmp_path, "dlq", "ls", "--json") == []
    assert 'stack "local" has changes that were not applied: orders, others, files, graves, sales' in (
        run(tmp_path, "status").stderr
    )
    for arguments, keys in {
        ("query", "sales"): "sales",
        ("send", "orders", "{}"): "orders",
        ("dlq", "ls", "save"): "orders, graves",
        ("dlq", "replay", "other"): "others",
    }.items():
        failed = run(tmp_path, *arguments, expect=1)
        assert f'stack "local" has changes that were not applied: {keys}\nhelp: platform apply\n' in failed.stderr


def test_send_takes_arguments_or_lines_and_is_durable_when_it_ends(idle: Path) -> None:
    sent = run(idle, "send", "others", "{}", "text")
    assert len(set(sent.stdout.split())) == 2
    assert "sent 2 to others" in sent.stderr
    lines = data(idle, "send", "others", "--json", input='{"a": 1}\n\n{"b": 2}\r\n{"c": "é"}')
    assert len({x["id"] for x in lines}) == 3
    assert status(idle)["consumers"][1]["backlog"] == 5
    assert run(idle, "send", "others", input="").stdout == ""


def test_query_of_an_empty_table(idle: Path) -> None:
    assert "0 rows" in run(idle, "query", "sales").stderr
    assert data(idle, "query", "sales", "--json") == []
    assert run(idle, "query", "sales", "--format", "csv").stdout == ""


# while it runs


def test_query_while_the_app_runs(app: Running) -> None:
    folder = app.folder
    run(folder, "send", "orders", '{"id": 2, "lines": [{"item": "tea"}]}', '{"id": 3, "at": "a \\"b\\""}')
    wait_for(lambda: len(rows(folder, "sales")) == 3)
    found = sorted(rows(folder, "sales"), key=lambda row: row["id"])
    assert found == [
        {"id": 1, "at": "shop, main", "lines": []},
        {"id": 2, "at": "shop, main", "lines": [{"item": "tea", "amount": 1}]},
        {"id": 3, "at": 'a "b"', "lines": []},
    ]
    assert len(data(folder, "query", "sales", "--json", "--limit", "2")) == 2
    assert data(folder, "query", "sales", "--limit", "0", "--json") == []
    counted = data(folder, "query", "sales", "--json", "--sql", "select count(*) as n, max(id) as last from sales")
    assert counted == [{"n": 3, "last": 3}]
    text = run(folder, "query", "sales", "--format", "csv", "--sql", "select * from sales order by id").stdout
    assert list(csv.reader(io.StringIO(text))) == [
        ["id", "at", "lines"],
        ["1", "shop, main", "[]"],
        ["2", "shop, main", '[{"item": "tea", "amount": 1}]'],
        ["3", 'a "b"', "[]"],
    ]
    shown = run(folder, "query", "sales")
    assert all(word in shown.stdout for word in ("id", "lines", "shop, main"))
    assert "3 rows" in shown.stderr


def test_status_while_the_app_runs(app: Running) -> None:
    found = wait_for(lambda: (s := status(app.folder))["ready"] and s)
    assert {p["kind"] for p in found["processes"]} == {"gateway", "worker"}
    assert all(p["state"] == "ready" for p in found["processes"])
    shown = run(app.folder, "status").stdout
    assert all(word in shown for word in ("gateway", "worker", "main", "ready", "save", "orders"))


@pytest.mark.slow
def test_dead_letters_from_listing_to_replay(app: Running) -> None:
    folder = app.folder
    before = len(rows(folder, "sales"))
    ids = run(folder, "send", "orders", '{"id": 7, "at": "nowhere"}', "{no json").stdout.split()
    letters = wait_for(lambda: len(found := data(folder, "dlq", "ls", "--all", "--json")) == 2 and found)
    by_id = {letter["id"]: letter for letter in letters}
    assert by_id[ids[0]]["error"] == "LookupError: no such shop"
    assert by_id[ids[0]]["attempts"] == 2
    assert by_id[ids[1]]["error"].startswith("Undecodable")
    assert by_id[ids[1]]["attempts"] == 1, "what cannot be decoded is given up at once"
    assert by_id[ids[1]]["payload"] == "{no json"
    assert data(folder, "dlq", "ls", "save", "--all", "--json") == letters
    assert data(folder, "dlq", "ls", "other", "--all", "--json") == []
    listed = run(folder, "dlq", "ls").stdout
    assert "LookupError: no such shop" in listed

    shown = run(folder, "dlq", "show", "save", ids[0][:10]).stdout
    assert "LookupError" in shown
    assert 'raise LookupError("no such shop")' in shown
    assert data(folder, "dlq", "show", "save", ids[0], "--json") == {**by_id[ids[0]], "replays": []}
    assert "is the beginning of 2 ids" in run(folder, "dlq", "show", "save", "", expect=1).stderr
    seen = next(c for c in status(folder)["consumers"] if c["consumer"] == "save")
    assert seen["dead_letters"] == 2
    assert seen["failed"] >= 3
    assert seen["last_error"]

    (folder / "cured").touch()
    replayed = run(folder, "dlq", "replay", "save", ids[0][:10])
    assert "sent 1 again to orders" in replayed.stderr
    wait_for(lambda: len(rows(folder, "sales")) == before + 1, words="the replayed one has its row")
    assert [x["id"] for x in data(folder, "dlq", "ls", "--all", "--json")] == [ids[1]]

    assert data(folder, "dlq", "replay", "save", "--json") == [{"id": ids[1]}]
    again = wait_for(lambda: data(folder, "dlq", "ls", "--all", "--json"), words="it dies again")
    assert [(x["id"], x["headers"]["buildflow-replays"]) for x in again] == [(ids[1], "1")]
