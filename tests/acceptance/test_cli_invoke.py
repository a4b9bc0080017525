"""invoke: one handler with one event, on a stack that is applied and does not run."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.harness import platform, project, rows, status

pytestmark = pytest.mark.xdist_group("cli-invoke")  # they share one applied stack

YAML = """
project: desk
primitives:
  orders: {type: queue}
  crates: {type: queue}
  letters: {type: queue}
  others: {type: queue}
  files: {type: bucket}
  uploads: {type: file_change_stream, bucket: files}
  nightly: {type: schedule, every: 1d}
  sales: {type: table, columns: desk:Sale}
  refused: {type: queue}
dependencies:
  till: {factory: desk:till, scope: replica}
  lamp: {factory: desk:lamp, scope: request}
  broken: {factory: desk:broken, scope: replica}
routes:
  GET /: desk:index
  POST /orders/{id}: desk:order
  GET /fails: desk:fails
  GET /page: desk:page
  POST /sales: {handler: desk:collected, sink: sales}
consumers:
  sell: {source: orders, handler: desk:sell, sinks_of_two}
  many: {source: crates, handler: desk:many}
  letter: {source: letters, handler: desk:letter}
  measure: {source: uploads, handler: desk:measure}
  sweep: {source: nightly, handler: desk:sweep}
  cannot: {source: others, handler: desk:cannot}
""".replace("sinks_of_two", "sink: [{to: sales, when: {at: shop}}, {to: refused, when: {at: nowhere}}]")

MODULE = """
import asyncio, os
from contextlib import contextmanager
from dataclasses import dataclass
from buildflow.types import FileChangeEvent, Message, Queue, Tick

@dataclass
class Sale:
    id: int
    at: str = "shop"

@contextmanager
def till():
    print("till opened")
    yield "till"
    print("till closed")

def lamp():
    yield "lamp"

def broken():
    raise OSError("no model here")

async def sell(sale: Sale, till, lamp):
    await asyncio.sleep(0)
    print("selling at", till, lamp, os.environ.get("FROM_ENV_FILE"))
    if sale.at == "":
        check(sale)
    return [sale, Sale(sale.id + 1, sale.at)]

def check(sale):
    try:
        int(sale.at)
    except ValueError as exc:
        raise LookupError("no such shop") from exc

def many(sales: list[Sale]) -> None:
    return {"ids": [sale.id for sale in sales], "blob": b"\\xff"}

def letter(letter: Message[dict]) -> dict:
    return {"attributes": letter.attributes, "attempt": letter.attempt, "data": letter.data}

def measure(event: FileChangeEvent) -> dict:
    size = len(event.blob) if event.event_type == "created" else 0
    return {"path": event.file_path, "type": event.event_type, "size": size}

def sweep(tick: Tick) -> dict:
    return {"schedule": tick.schedule, "time": tick.time}

def cannot(order: dict, broken) -> None: ...

def index() -> dict: return {"up": True}

def order(id: int, sale: Sale, till, loud: bool = False) -> dict:
    return {"id": id, "at": sale.at.upper() if loud else sale.at, "till": till}

def fails() -> dict:
    raise RuntimeError("not today")

def page() -> str:
    from buildflow.responses import HTMLResponse
    return HTMLResponse("<p>hé</p>")

def collected(sale: Sale) -> Sale: return sale
"""


def run(folder: Path, *arguments: str, input: str = "", expect: int = 0) -> Any:
    result = platform(folder, *arguments, input=input)
    assert result.returncode == expect, f"{result.returncode}: {result.stdout}{result.stderr}"
    assert "Traceback" not in result.stderr
    return result


def invoke(folder: Path, *arguments: str, input: str = "") -> Any:
    return json.loads(run(folder, "invoke", *arguments, input=input).stdout)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = project(tmp_path_factory.mktemp("desk"), YAML, desk=MODULE)
    (folder / ".env").write_text("FROM_ENV_FILE=set\n")
    run(folder, "apply", "--yes")
    return folder


def test_nothing_is_taken_and_nothing_written_unless_asked_for(desk: Path) -> None:
    run(desk, "send", "orders", '{"id": 99}')
    done = run(desk, "invoke", "sell", '{"id": 1}')
    assert json.loads(done.stdout) == [{"id": 1, "at": "shop"}, {"id": 2, "at": "shop"}]
    assert "2 rows; nothing was written: `--commit` writes to sales, refused" in done.stderr
    assert "till opened\nselling at till lamp set\ntill closed\n" in done.stderr, "its own print is talk, not data"
    assert rows(desk, "sales") == []
    orders = next(c for c in status(desk)["consumers"] if c["consumer"] == "sell")
    assert (orders["backlog"], orders["in_flight"]) == (1, 0)


def test_commit_writes_where_rows_belong_each_time_anew(desk: Path) -> None:
    before = len(rows(desk, "sales"))
    for _ in range(2):
        said = run(desk, "invoke", "sell", '{"id": 7}', "--commit").stderr
        assert "2 rows written to sales, refused, as element " in said
    assert len(rows(desk, "sales")) == before + 4
    run(desk, "invoke", "sell", '{"id": 7, "at": "nowhere"}', "--commit")
    assert len(rows(desk, "sales")) == before + 4


@pytest.mark.parametrize(
    ("arguments", "returned"),
    [
        (["many", '[{"id": 1}, {"id": 2}]'], [{"ids": [1, 2], "blob": "_w=="}]),
        (["many", '{"id": 3}'], [{"ids": [3], "blob": "_w=="}]),
        (["letter", '{"a": 1}', "-a", "kind=vip", "--attribute", "x=a=b"],
         [{"attributes": {"kind": "vip", "x": "a=b"}, "attempt": 1, "data": {"a": 1}}]),
        (["measure", "a/cat.png"], [{"path": "a/cat.png", "type": "created", "size": 4}]),
        (["measure", '{"file_path": "gone.png", "event_type": "deleted"}'],
         [{"path": "gone.png", "type": "deleted", "size": 0}]),
        (["sweep", '{"time": "2026-01-02T06:00:00Z"}'], [{"schedule": "nightly", "time": "2026-01-02T06:00:00Z"}]),
    ],
)  # fmt: skip
def test_events_of_every_source(desk: Path, arguments: list[str], returned: Any) -> None:
    folder = desk / ".buildflow/local/buckets/desk-local-files/a"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cat.png").write_bytes(b"meow")
    assert invoke(desk, *arguments) == returned


def test_an_event_comes_from_a_file_from_stdin_or_is_a_tick(desk: Path) -> None:
    (desk / "event.json").write_text('{"id": 5, "at": "here"}\n')
    expected = [{"attributes": {}, "attempt": 1, "data": {"id": 5, "at": "here"}}]
    assert invoke(desk, "letter", "--from", "event.json") == expected
    assert invoke(desk, "letter", "-", input='{"id": 5, "at": "here"}\n') == expected
    assert invoke(desk, "sweep")[0]["schedule"] == "nightly"


def test_from_another_folder(desk: Path, tmp_path: Path) -> None:
    event = tmp_path / "event.json"
    event.write_text('{"id": 5}')
    found = invoke(
        tmp_path, "letter", "--from", "event.json", "--file", os.path.relpath(desk / "buildflow.yaml", tmp_path)
    )
    assert found[0]["data"] == {"id": 5}


def test_a_failure_is_told_with_the_project_s_own_lines(desk: Path) -> None:
    failed = run(desk, "invoke", "sell", '{"id": 1, "at": ""}', expect=1)
    assert failed.stdout == ""
    assert "error: desk:sell raised LookupError: no such shop\n" in failed.stderr
    assert 'raise LookupError("no such shop") from exc' in failed.stderr
    assert "because of ValueError: invalid literal" in failed.stderr
    assert "int(sale.at)" in failed.stderr
    assert "buildflow/" not in failed.stderr
    assert "till closed" in failed.stderr, "what was opened is closed"


@pytest.mark.parametrize(
    ("arguments", "words", "hint"),
    [
        (["sel", "{}"], 'there is no consumer "sel"', '"sell"'),
        (["sell", '{"id": "x"}'], 'the element cannot be decoded: "id": input should be a valid integer', ""),
        (["sell", "{no json"], "the element cannot be decoded", ""),
        (["sell", '{"id": 1, "at": "mars"}'], "meets no `when`", ""),
        (["many", "[]"], "the batch is empty", ""),
        (["measure", "no/such.png"], "no/such.png", ""),
        (["cannot", "{}"], 'dependency "broken" (desk:broken) raised OSError: no model here', ""),
        (["GET /nope"], 'no route answers "GET /nope"', "GET /page"),
        (["POST /sales", '{"id": 1}'], '"POST /sales" is a collector', "--commit"),
        (["GET /fails"], "desk:fails raised RuntimeError: not today", ""),
    ],
)
def test_what_fails_ends_with_1_in_words(desk: Path, arguments: list[str], words: str, hint: str) -> None:
    failed = run(desk, "invoke", *arguments, expect=1)
    assert words in failed.stderr
    assert hint in failed.stderr
    assert failed.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sell"], "the event is missing"),
        (["sell", "{}", "--from", "x"], "given twice"),
        (["sell", "--from", "no-such-file"], "cannot be read"),
        (["sell", "{}", "-a", "x"], "is not name=value"),
    ],
)
def test_wrong_usage_ends_with_2(desk: Path, arguments: list[str], words: str) -> None:
    assert words in " ".join(run(desk, "invoke", *arguments, expect=2).stderr.replace("│", "").split())


def test_a_route_answers_as_in_the_gateway(desk: Path) -> None:
    assert invoke(desk, "GET /") == {"up": True}
    assert invoke(desk, "post /orders/4?loud=1", '{"id": 1}') == {"id": 4, "at": "SHOP", "till": "till"}
    page = run(desk, "invoke", "GET /page")
    assert page.stdout == "<p>hé</p>\n"
    assert "200 from desk:page, text/html" in page.stderr
    whole = json.loads(run(desk, "invoke", "POST /orders/four", "{}", "--json", expect=1).stdout)
    assert whole["status"] == 422
    assert {tuple(e["loc"]) for e in whole["body"]["detail"]} == {("path", "id"), ("body", "id")}


def test_a_collector_s_row_is_in_its_sink_with_commit(desk: Path) -> None:
    before = len(rows(desk, "sales"))
    run(desk, "invoke", "POST /sales", '{"id": 1000}', "--commit")
    assert [row for row in rows(desk, "sales") if row["id"] == 1000] == [{"id": 1000, "at": "shop"}]
    assert len(rows(desk, "sales")) == before + 1


def test_what_was_not_applied_is_named(tmp_path: Path) -> None:
    project(tmp_path, YAML, desk=MODULE)
    assert invoke(tmp_path, "letter", "{}"), "it needs nothing of the stack"
    for arguments, key in ((["measure", "x"], "files"), (["sell", '{"id": 1}', "--commit"], "sales, refused")):
        failed = run(tmp_path, "invoke", *arguments, expect=1)
        assert f'stack "local" has changes that were not applied: {key}\n' in failed.stderr
