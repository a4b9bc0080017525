"""plan, apply and destroy: what they show, ask, refuse and do."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import pytest
import redis

from tests.harness import PLATFORM, environment, platform, project, rows, running, status, wait_for

YAML = """
project: shop
primitives:
  files: {type: bucket}
  pictures: {type: bucket}
  arrivals: {type: file_change_stream, bucket: files}
  orders: {type: queue}
  sales: {type: table, columns: app:Sale}
"""

SALE = """
from dataclasses import dataclass
@dataclass
class Sale:
    item: str
    amount: int
"""

TREE = """\
Primitives to create:
├── LocalBucket
│   └── file://.buildflow/local/buckets/shop-local-files
│   └── file://.buildflow/local/buckets/shop-local-pictures
├── LocalFileChangeStream
│   └── files.arrivals
├── RedisQueue
│   └── redis://shop-local-orders
└── DuckDBTable
    └── .buildflow/local/tables.duckdb:sales
"""
QUESTION = "Would you like to apply these changes?\n"
PROMPT = 'Enter "y (yes)" to confirm, "n (no) to reject": '


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return project(tmp_path, YAML, app=SALE)


def run(folder: Path, *arguments: str, input: str = "", expect: int = 0) -> Any:
    result = platform(folder, *arguments, input=input)
    assert result.returncode == expect, f"{result.returncode}: {result.stdout}{result.stderr}"
    assert "Traceback" not in result.stderr
    return result


def apply(folder: Path, *more: str, expect: int = 0) -> Any:
    return run(folder, "apply", "--yes", *more, expect=expect)


def columns(folder: Path, *fields: str) -> None:
    """Declare the row type anew."""
    lines = [f"    {field}" for field in fields]
    (folder / "app.py").write_text(
        "\n".join(["from dataclasses import dataclass", "@dataclass", "class Sale:", *lines])
    )


def insert(folder: Path, *values: tuple[Any, ...]) -> None:
    with duckdb.connect(folder / ".buildflow/local/tables.duckdb") as connection:
        for row in values:
            connection.execute(f"INSERT INTO sales VALUES ({', '.join('?' * len(row))})", list(row))


def recorded(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((folder / ".buildflow/local/state.json").read_text())
    return dict(state["resources"])


# asking


def test_apply_shows_the_walkthroughs_tree_asks_and_does_it_once(folder: Path) -> None:
    declined = run(folder, "apply", input="n\n", expect=4)
    assert declined.stdout == TREE, "stdout is the tree alone"
    assert QUESTION + PROMPT in declined.stderr
    assert "✗ Changes rejected." in declined.stderr
    assert not (folder / ".buildflow/local/state.json").exists()
    assert not (folder / ".buildflow/local/buckets").exists()

    planned = run(folder, "plan", "--exit-code", expect=3)
    assert planned.stdout == TREE

    asked_again = run(folder, "apply", input="perhaps\n\nY\n")
    assert asked_again.stderr.count(PROMPT) == 3
    assert asked_again.stderr.count(QUESTION) == 1
    assert "✓ Changes applied." in asked_again.stderr
    assert list(recorded(folder)) == ["files", "pictures", "arrivals", "orders", "sales"]

    again = run(folder, "apply", expect=0)
    assert again.stdout == ""
    assert "nothing to do" in again.stderr
    assert PROMPT not in again.stderr
    assert "nothing to do" in run(folder, "plan", "--exit-code").stderr


@pytest.mark.parametrize(
    ("answer", "code"), [("y\n", 0), ("yes\n", 0), ("YES\n", 0), ("no\n", 4), ("N\n", 4), ("", 4), ("what\n", 4)]
)
def test_answers(tmp_path: Path, answer: str, code: int) -> None:
    project(tmp_path, "project: shop\nprimitives: {files: {type: bucket}}\n")
    run(tmp_path, "apply", input=answer, expect=code)
    assert (tmp_path / ".buildflow/local/buckets/shop-local-files").exists() is (code == 0)


def test_confirmation_can_be_disabled_in_the_file(tmp_path: Path) -> None:
    project(tmp_path, "project: shop\noptions: {require_confirmation: false}\nprimitives: {files: {type: bucket}}\n")
    applied = run(tmp_path, "apply")
    assert "Confirmation disabled." in applied.stderr
    assert PROMPT not in applied.stderr
    assert "Confirmation disabled." in run(tmp_path, "destroy").stderr


def test_a_plan_says_what_each_binding_promises(folder: Path) -> None:
    consumers = """
consumers:
  sell: {source: orders, handler: app:sell, sink: sales}
  store: {source: arrivals, handler: app:store, sink: [{to: sales}, {to: pictures}]}
  look: {source: queue, handler: app:look}
"""
    text = (folder / "buildflow.yaml").read_text().replace("  sales:", "  queue: {type: queue}\n  sales:")
    (folder / "buildflow.yaml").write_text(text + consumers)
    with (folder / "app.py").open("a") as file:
        file.write("\ndef sell(order: dict) -> Sale: ...\ndef store(event) -> Sale: ...\ndef look(job: dict): ...\n")
    assert run(folder, "plan").stdout.endswith(
        "\nBindings:\n├── sell: orders -> app:sell -> sales, effectively once\n"
        "├── store: arrivals -> app:store -> sales, pictures, at least once\n"
        "└── look: queue -> app:look, at least once\n"
    )
    promised = {b["consumer"]: b["guarantee"] for b in json.loads(run(folder, "plan", "--json").stdout)["bindings"]}
    assert promised == {"sell": "effectively once", "store": "at least once", "look": "at least once"}
    tree = run(folder, "graph").stdout
    assert "sell  -> app:sell  (effectively once)" in tree


def test_as_data(folder: Path) -> None:
    created = {"action": "create", "key": "orders", "type": "RedisQueue", "id": "redis://shop-local-orders",
               "fields": [], "data_loss": None}  # fmt: skip
    planned = json.loads(run(folder, "plan", "--json").stdout)
    assert planned.pop("bindings") == []
    assert (planned["project"], planned["stack"], len(planned["changes"])) == ("shop", "local", 5)
    assert created in planned["changes"]
    asked = run(folder, "apply", "--json", expect=4)
    assert asked.stdout == "", "nothing was done, and the talk is on stderr"
    assert TREE in asked.stderr, "whoever is asked sees what about"
    assert json.loads(apply(folder, "--json").stdout) == planned
    assert json.loads(apply(folder, "--json").stdout)["changes"] == []
    destroyed = json.loads(run(folder, "destroy", "--yes", "--json").stdout)
    assert {c["action"] for c in destroyed["changes"]} == {"destroy"}


# destroy


def test_destroy_leaves_nothing_behind(folder: Path) -> None:
    project(folder, YAML + "consumers: {save: {source: orders, handler: app:save, sink: sales}}\n")
    with (folder / "app.py").open("a") as file:
        file.write("\ndef save(order: dict) -> Sale: return Sale(**order)\n")
    apply(folder)
    insert(folder, ("tea", 1), ("milk", 2))
    run(folder, "send", "orders", "{}", "{}", "{}")
    client = stack_redis(folder)
    client.hset("shop-local:dead:save", "a#0", json.dumps(DEAD))
    shown = run(folder, "destroy", input="no\n", expect=4)
    assert "Primitives to destroy:" in shown.stdout
    assert "    .buildflow/local/tables.duckdb:sales\n│       DATA LOSS: 2 rows" in shown.stdout.replace("└── ", "    ")
    assert "DATA LOSS: 3 messages" in shown.stdout
    assert "DATA LOSS: 1 of save" in shown.stdout
    assert len(recorded(folder)) == 5

    run(folder, "destroy", "--yes")
    assert recorded(folder) == {}
    assert list((folder / ".buildflow/local/buckets").iterdir()) == []
    with duckdb.connect(folder / ".buildflow/local/tables.duckdb") as connection:
        tables = connection.execute("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'main'").fetchall()
    assert tables == []
    assert stack_redis(folder).keys("*") == []
    assert "nothing to destroy" in run(folder, "destroy").stderr
    apply(folder)


DEAD = {"id": "a", "consumer": "save", "source": "orders", "error": "E", "traceback": "", "attempts": 5,
        "payload": "e30=", "headers": "{}", "sent_at": "2026-01-01T00:00:00+00:00",
        "dead_at": "2026-01-01T00:00:00+00:00"}  # fmt: skip


def stack_redis(folder: Path) -> redis.Redis:
    """A client of the stack's own Redis, which the guard keeps for a moment after a command."""
    from buildflow.providers.redis_service import attach

    service = attach(folder / ".buildflow/local")
    _kept.append(service)
    return service.client()


_kept: list[Any] = []


@pytest.fixture(autouse=True)
def _let_go() -> Any:
    yield
    while _kept:
        _kept.pop().close()


@pytest.mark.slow
def test_destroy_leaves_nothing_of_a_stack_that_ran(folder: Path) -> None:
    yaml = "\nroutes: {GET /: app:save}\nconsumers: {save: {source: arrivals, handler: app:save, sink: orders}}\n"
    project(folder, YAML + yaml, app=SALE + "\ndef save(event: dict) -> dict: return {}\n")
    with running(folder) as app:
        app.ready()
        (folder / ".buildflow/local/buckets/shop-local-files/new").write_text("new")
        wait_for(lambda: status(folder)["consumers"][0]["done"] == 1)
        app.stop()
    (folder / ".buildflow/local/buckets/shop-local-files/new").unlink()
    run(folder, "destroy", "--yes")
    assert recorded(folder) == {}
    assert stack_redis(folder).keys("*") == []


def test_a_stack_that_runs_is_not_destroyed_and_keeps_its_plan(folder: Path) -> None:
    yaml = YAML + "routes: {GET /: app:index}\n"
    project(folder, yaml, app=SALE + "\ndef index() -> dict: return {}\n")
    with running(folder) as app:
        app.ready()
        (gateway,) = wait_for(lambda: [p for p in status(folder)["processes"] if p["kind"] == "gateway"])
        refused = run(folder, "destroy", "--yes", expect=1)
        assert 'error: stack "local" is running (gateway ' in refused.stderr
        assert f"gateway {gateway['pid']}" in refused.stderr
        assert "; end it first" in refused.stderr
        assert refused.stdout == ""
        assert len(recorded(folder)) == 5
        (folder / "buildflow.yaml").write_text(yaml.replace("routes:", "  more: {type: queue}\nroutes:"))
        applied = apply(folder)
        assert f"gateway {gateway['pid']}" in applied.stderr
        assert "keeps its old plan until it is started again" in applied.stderr
        assert "more" in recorded(folder)
        app.stop()
    assert "old plan" not in run(folder, "destroy", "--yes").stderr
    assert recorded(folder) == {}


def test_a_bucket_with_content_is_refused_by_name_and_nothing_else_is_destroyed(folder: Path) -> None:
    apply(folder)
    picture = folder / ".buildflow/local/buckets/shop-local-pictures/cat.png"
    picture.write_bytes(b"cat")
    insert(folder, ("tea", 1))
    refused = run(folder, "destroy", "--yes", expect=1)
    assert "shop-local-pictures holds 1 object" in refused.stderr
    assert "force_destroy: true" in refused.stderr
    assert "shop-local-files" not in refused.stderr
    assert picture.exists()
    assert len(recorded(folder)) == 5
    assert rows(folder, "sales") == [{"item": "tea", "amount": 1}]

    without = (folder / "buildflow.yaml").read_text().replace("  pictures: {type: bucket}\n", "")
    (folder / "buildflow.yaml").write_text(without)
    for flags in ([], ["--allow-data-loss"]):
        assert "holds 1 object" in apply(folder, *flags, expect=1).stderr
    assert picture.exists()

    forced = "  pictures: {type: bucket, force_destroy: true}\n"
    (folder / "buildflow.yaml").write_text(without.replace("  arrivals", forced + "  arrivals"))
    apply(folder)
    run(folder, "destroy", "--yes")
    assert not picture.exists()
    assert recorded(folder) == {}


def test_what_the_file_no_longer_declares_is_deleted(folder: Path) -> None:
    apply(folder)
    text = (folder / "buildflow.yaml").read_text()
    (folder / "buildflow.yaml").write_text(text.replace("  pictures: {type: bucket}\n", ""))
    planned = run(folder, "plan")
    assert planned.stdout == (
        "Primitives to destroy:\n└── LocalBucket\n    └── file://.buildflow/local/buckets/shop-local-pictures\n"
    )
    apply(folder)
    assert "pictures" not in recorded(folder)
    assert not (folder / ".buildflow/local/buckets/shop-local-pictures").exists()


def test_a_key_that_becomes_another_type_is_deleted_and_created(folder: Path) -> None:
    apply(folder)
    text = (folder / "buildflow.yaml").read_text()
    (folder / "buildflow.yaml").write_text(text.replace("pictures: {type: bucket}", "pictures: {type: queue}"))
    planned = run(folder, "plan").stdout
    assert "Primitives to create:\n└── RedisQueue\n    └── redis://shop-local-pictures" in planned
    assert "Primitives to destroy:\n└── LocalBucket" in planned
    apply(folder)
    assert recorded(folder)["pictures"]["type"] == "queue"
    assert not (folder / ".buildflow/local/buckets/shop-local-pictures").exists()


# tables


@pytest.fixture
def table(tmp_path: Path) -> Path:
    project(tmp_path, "project: shop\nprimitives: {sales: {type: table, columns: app:Sale}}\n", app=SALE)
    apply(tmp_path)
    insert(tmp_path, ("tea", 1))
    return tmp_path


def test_a_nullable_or_defaulted_field_is_added_and_rows_stay(table: Path) -> None:
    columns(table, "item: str", "amount: int", "note: str | None = None", "shop: str = 'main'")
    planned = run(table, "plan").stdout
    assert planned.startswith("Primitives to update:\n└── DuckDBTable\n    └── .buildflow/local/tables.duckdb:sales\n")
    assert "        columns.note: added\n        columns.shop: added" in planned
    assert "DATA LOSS" not in planned
    apply(table)
    assert rows(table, "sales") == [{"item": "tea", "amount": 1, "note": None, "shop": "main"}]
    assert "nothing to do" in apply(table).stderr


@pytest.mark.parametrize(
    ("fields", "words", "after"),
    [
        (["item: str"], '"amount"', [{"item": "tea"}]),
        (["item: str", "amount: str | None"], '"amount"', [{"item": "tea", "amount": None}]),
        (["item: str", "amount: int", "shop: str"], '"shop"', []),
    ],
    ids=["a removed field", "a changed type", "a new required field"],
)
def test_a_change_that_loses_data_is_refused_by_name(
    table: Path, fields: list[str], words: str, after: list[dict[str, Any]]
) -> None:
    columns(table, *fields)
    refused = apply(table, expect=1)
    assert words in refused.stderr
    assert "--allow-data-loss" in refused.stderr
    assert "DATA LOSS" in refused.stdout
    started = run(table, "run", "--apply", "--port", "0", expect=1)
    assert words in started.stderr
    columns(table, "item: str", "amount: int")
    assert rows(table, "sales") == [{"item": "tea", "amount": 1}], "the table is untouched"
    assert "nothing to do" in apply(table).stderr
    columns(table, *fields)
    apply(table, "--allow-data-loss")
    assert rows(table, "sales") == after


# two at once, and one that is killed


def test_a_second_apply_says_that_it_waits_for_which_process_and_goes_on(folder: Path) -> None:
    def start(*more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*PLATFORM, "apply", *more], cwd=folder, env=environment(), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    with start() as first:
        assert first.stderr is not None
        assert first.stdin is not None
        while first.stderr.read(1) != "?":
            assert first.poll() is None
        with start("--yes") as second:
            assert second.stderr is not None
            words = f"another command (process {first.pid}) is changing this stack; waiting for it"
            assert words in second.stderr.readline()
            assert second.poll() is None
            first.stdin.write("y\n")
            first.stdin.close()
            assert "nothing to do" in second.stderr.read()
            assert second.wait() == 0
        assert "Changes applied" in first.stderr.read()
        assert first.wait() == 0


def test_the_next_apply_finishes_one_that_was_killed_between_resources(folder: Path) -> None:
    killer = """
    import os, signal
    import buildflow.provision.state as states
    save = states.save
    def save_and_die(folder, state):
        save(folder, state)
        if len(state.resources) == int(os.environ["DIE_AFTER"]):
            os.kill(os.getpid(), signal.SIGKILL)
    states.save = save_and_die
    """
    (folder / "hook").mkdir()
    project(folder / "hook", "", sitecustomize=killer)
    path = os.pathsep.join([str(folder / "hook"), environment()["PYTHONPATH"]])
    for made in (1, 3):
        died = platform(folder, "apply", "--yes", PYTHONPATH=path, DIE_AFTER=str(made))
        assert died.returncode == -signal.SIGKILL, died.stderr
        assert len(recorded(folder)) == made
        started = run(folder, "run", "--port", "0", expect=1)
        assert 'stack "local" has changes that were not applied' in started.stderr
    finished = apply(folder)
    assert "RedisQueue" in finished.stdout
    assert "LocalBucket" not in finished.stdout, "what was made is not made again"
    assert "nothing to do" in apply(folder).stderr


def test_a_resource_that_was_made_but_not_recorded_is_adopted(folder: Path) -> None:
    apply(folder)
    (folder / ".buildflow/local/buckets/shop-local-files/kept").write_text("kept")
    insert(folder, ("tea", 1))
    (folder / ".buildflow/local/state.json").unlink()
    apply(folder)
    assert (folder / ".buildflow/local/buckets/shop-local-files/kept").read_text() == "kept"
    assert rows(folder, "sales") == [{"item": "tea", "amount": 1}]


def test_what_vanished_is_created_again(folder: Path) -> None:
    apply(folder)
    (folder / ".buildflow/local/buckets/shop-local-files").rmdir()
    assert "shop-local-files" in run(folder, "plan").stdout
    apply(folder)
    assert (folder / ".buildflow/local/buckets/shop-local-files").is_dir()


def test_a_state_that_cannot_be_read_is_told_in_words(folder: Path) -> None:
    apply(folder)
    (folder / ".buildflow/local/state.json").write_text("{")
    failed = run(folder, "plan", expect=1)
    assert "state.json cannot be read" in failed.stderr
    assert "help: " in failed.stderr


def test_a_folder_that_is_none_is_told_in_words(folder: Path) -> None:
    (folder / ".buildflow").write_text("a file where the stack's folder should be")
    failed = run(folder, "apply", "--yes", expect=1)
    assert failed.stderr.startswith("error: ")
    assert ".buildflow" in failed.stderr


def test_a_missing_unmanaged_resource_is_a_failure(tmp_path: Path) -> None:
    project(tmp_path, "project: shop\nprimitives: {files: {type: bucket, managed: false}}\n")
    assert "does not exist" in apply(tmp_path, expect=1).stderr


def test_what_is_not_managed_is_found_and_let_go_of(tmp_path: Path) -> None:
    (tmp_path / ".buildflow/local/buckets/shop-local-files").mkdir(parents=True)
    project(tmp_path, "project: shop\nprimitives: {files: {type: bucket, managed: false}}\n")
    assert "not managed: it stays as it is" in run(tmp_path, "plan").stdout
    assert "found LocalBucket" in apply(tmp_path).stderr
    assert "let go of LocalBucket" in run(tmp_path, "destroy", "--yes").stderr
    assert (tmp_path / ".buildflow/local/buckets/shop-local-files").is_dir()


# a plan in a file


def test_a_plan_in_a_file_is_made_unasked_and_only_once(folder: Path) -> None:
    planned = run(folder, "plan", "--out", "shop.plan")
    assert planned.stdout == TREE
    assert (folder / "shop.plan").stat().st_mode & 0o777 == 0o600
    applied = run(folder, "apply", "shop.plan")
    assert QUESTION not in applied.stderr
    assert list(recorded(folder)) == ["files", "pictures", "arrivals", "orders", "sales"]
    again = run(folder, "apply", "shop.plan", expect=1)
    assert "the stack is not any more what the plan was made for" in again.stderr
    assert "platform plan --out" in again.stderr


def test_a_plan_of_another_declaration_is_refused(folder: Path) -> None:
    run(folder, "plan", "--out", "shop.plan")
    (folder / "buildflow.yaml").write_text(YAML.replace("orders: {type: queue}", "orders: {type: queue, lease: 5s}"))
    refused = run(folder, "apply", "shop.plan", expect=1)
    assert "buildflow.yaml or its handlers are not any more what the plan was made for" in refused.stderr
    assert not (folder / ".buildflow/local/state.json").exists()


def test_a_plan_is_given_its_values_again(folder: Path) -> None:
    (folder / "buildflow.yaml").write_text(YAML + "  more: {type: queue, name: '${var.name}'}\nvariables: {name: a}\n")
    run(folder, "plan", "--set", "var.name=other", "--out", "shop.plan")
    assert "var.name=..." in run(folder, "apply", "shop.plan", expect=1).stderr
    assert not (folder / ".buildflow/local/state.json").exists()
    run(folder, "apply", "shop.plan", "--set", "var.name=other")
    assert recorded(folder)["more"]["name"] == "other"


def test_what_is_no_plan_is_said(folder: Path) -> None:
    assert "there is no plan none.plan" in run(folder, "apply", "none.plan", expect=1).stderr
    (folder / "text.plan").write_text("{}")
    assert "is no plan of this version" in run(folder, "apply", "text.plan", expect=1).stderr


# what others changed


def test_refresh_shows_what_is_gone_and_apply_brings_it_back(folder: Path) -> None:
    apply(folder)
    assert "no drift" in run(folder, "refresh").stderr
    (folder / ".buildflow/local/buckets/shop-local-files").rmdir()
    found = json.loads(run(folder, "refresh", "--json").stdout)["drift"]
    assert [(d["key"], d["gone"]) for d in found] == [("files", True)]
    assert "files" not in recorded(folder)
    assert "LocalBucket" in run(folder, "plan", "--exit-code", expect=3).stdout
    apply(folder)
    assert (folder / ".buildflow/local/buckets/shop-local-files").is_dir()


# what is bound


def test_a_plan_names_the_bindings_that_change_with_it(folder: Path) -> None:
    def declare(handler: str, lease: str) -> None:
        consumers = f"consumers:\n  save: {{source: orders, handler: app:{handler}, sink: sales}}\n"
        (folder / "buildflow.yaml").write_text(YAML.replace("type: queue", f"type: queue, lease: {lease}") + consumers)

    (folder / "app.py").write_text(SALE + "def first(order: dict) -> Sale: ...\ndef second(order: dict) -> Sale: ...\n")
    declare("first", "30s")
    assert "Bindings that change" not in apply(folder).stdout, "all is new at first"
    declare("second", "30s")
    assert "nothing to do" in run(folder, "plan").stderr
    declare("second", "20s")
    lines = run(folder, "plan").stdout
    assert "consumer save: orders -> app:first -> sales => orders -> app:second -> sales" in lines
    planned = json.loads(run(folder, "plan", "--json").stdout)
    assert len(planned["binding_changes"]) == 1
    apply(folder)
    assert json.loads(run(folder, "plan", "--json").stdout)["binding_changes"] == []
