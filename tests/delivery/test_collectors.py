"""Collectors under load: whatever is killed, each answer of 2xx is a row, exactly one."""

import contextlib
import http.client
import json
import signal
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.harness import Running, project, rows, running, status, wait_for

pytestmark = pytest.mark.slow

YAML = """
project: shop
primitives:
  sales: {type: table, columns: "app:Sale"}
  jobs: {type: queue, message: "app:Sale"}
  done: {type: table, columns: "app:Sale"}
routes:
  POST /sales: {handler: "app:take", sink: sales}
  POST /batches: {handler: "app:take_many", sink: sales}
  POST /jobs: {handler: "app:take", sink: jobs}
consumers:
  work: {source: jobs, handler: "app:work", sink: done}
"""

APP = """
from dataclasses import dataclass

@dataclass
class Sale:
    id: int
    name: str = ""

async def take(sale: Sale) -> Sale:
    return sale

def take_many(sales: list[Sale]) -> list[Sale]:
    return sales

def work(sale: Sale) -> Sale:
    return sale
"""

CLIENTS = 8


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return project(tmp_path, YAML, app=APP)


def post(app: Running, path: str, body: Any, **headers: str) -> tuple[int, Any]:
    place = urlsplit(app.url)
    with contextlib.closing(http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)) as connection:
        sent = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        connection.request("POST", path, body if isinstance(body, str) else json.dumps(body), sent)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


class Load:
    """Clients that send one sale after the other; what was answered with 2xx, and what is not known."""

    def __init__(self, app: Running, path: str) -> None:
        self.app, self.path = app, path
        self.accepted: list[int] = []
        self.unknown: list[int] = []
        self.stop = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(CLIENTS)]

    def _send(self, client: int) -> None:
        for number in range(client, 1_000_000, CLIENTS):
            if self.stop.is_set():
                return
            try:
                code, _ = post(self.app, self.path, {"id": number, "name": "x" * 50})
            except (OSError, http.client.HTTPException):
                self.unknown.append(number)
                self.stop.wait(0.05)  # the gateway comes back
                continue
            if code < 300:
                self.accepted.append(number)
            else:
                assert code == 503, "nothing else goes wrong"

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join()


def expect(load: Load, found: list[int]) -> None:
    assert len(found) == len(set(found)), "no row is written twice"
    assert set(load.accepted) <= set(found), "an answer of 2xx is a row"
    assert set(found) <= {*load.accepted, *load.unknown}


@pytest.mark.parametrize(("path", "table"), [("/sales", "sales"), ("/jobs", "done")])
def test_a_killed_gateway_has_stored_what_it_answered(folder: Path, path: str, table: str) -> None:
    with running(folder) as app:
        app.ready()
        with Load(app, path) as load:
            for kills in range(1, 4):
                wait_for(lambda kills=kills: len(load.accepted) > 150 * kills, words="requests are answered")
                app.kill("gateway")
        if path == "/jobs":
            wait_for(lambda: not any(c["backlog"] or c["in_flight"] for c in status(folder)["consumers"]))
        expect(load, [row["id"] for row in rows(folder, table)])
        assert load.unknown, "it was killed while it had something to do"


def test_a_run_that_ends_under_load_has_stored_what_it_answered(folder: Path) -> None:
    with running(folder) as app:
        app.ready()
        with Load(app, "/sales") as load:
            wait_for(lambda: len(load.accepted) > 200)
            assert app.stop(signal.SIGTERM) < 10
            load.stop.set()
        assert app._all() == []
    expect(load, [row["id"] for row in rows(folder, "sales")])


def test_a_request_repeated_under_its_key_writes_once(folder: Path) -> None:
    with running(folder) as app:
        app.ready()
        sales = [{"id": 1}, {"id": 2}]
        for _ in range(3):
            assert post(app, "/batches", sales, Idempotency_Key="monday") == (200, {"success": True})
        app.kill("gateway")
        wait_for(lambda: answers(app))
        assert post(app, "/batches", sales, Idempotency_Key="monday")[0] == 200
        assert post(app, "/batches", '{"id": 3}\n{"id": 4}', Content_Type="application/x-ndjson")[0] == 200
        assert sorted(row["id"] for row in rows(folder, "sales")) == [1, 2, 3, 4]


def answers(app: Running) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return bool(post(app, "/batches", [])[0] == 200)
    return False


def test_a_sink_of_messages_answers_with_the_ids_that_its_consumers_see(folder: Path) -> None:
    worker = APP.replace("def work(sale: Sale) -> Sale:\n    return sale", WORK)
    (folder / "app.py").write_text(worker)
    with running(folder) as app:
        app.ready()
        first = post(app, "/jobs", {"id": 1}, Idempotency_Key="one")
        assert post(app, "/jobs", {"id": 1}, Idempotency_Key="one") == first, "whoever takes it can tell"
        second = post(app, "/jobs", {"id": 2})
        assert (first[0], second[0]) == (202, 202)
        ids = [answer["id"] for _, answer in (first, second)]
        wait_for(lambda: not any(c["backlog"] or c["in_flight"] for c in status(folder)["consumers"]))
        assert sorted(row["name"] for row in rows(folder, "done")) == sorted(ids)


WORK = """
from buildflow.types import Message

def work(sale: Message[Sale]) -> Sale:
    return Sale(sale.data.id, sale.id)
"""


def test_what_a_handler_returns_is_refused_by_field(folder: Path) -> None:
    wrong = 'def take_many(sales: list[Sale]) -> list[dict]:\n    return [vars(s) | {"name": s.id} for s in sales]'
    (folder / "app.py").write_text(APP.replace(TAKE_MANY, wrong))
    with running(folder) as app:
        app.ready()
        code, answer = post(app, "/batches", [{"id": 1}, {"id": 2}])
        assert code == 422
        assert [(e["loc"], e["type"]) for e in answer["detail"]] == [
            (["body", n, "name"], "invalid_row") for n in range(2)
        ]
        assert rows(folder, "sales") == []


TAKE_MANY = "def take_many(sales: list[Sale]) -> list[Sale]:\n    return sales"


WITHOUT_HANDLERS = """
project: shop
primitives:
  sales: {type: table, columns: "app:Sale"}
  jobs: {type: queue, message: "app:Sale"}
  notes: {type: queue}
  done: {type: table, columns: "app:Sale"}
  noted: {type: table, columns: {text: string}}
dependencies:
  token: {type: bearer_token}
services:
  api: {prefix: /api, auth: token}
routes:
  POST /sales: {sink: sales}
  GET /sale: {sink: sales, status: 204}
  POST /guarded: {sink: sales, service: api}
  POST /jobs: {sink: jobs}
  POST /notes: {sink: notes}
consumers:
  work: {source: jobs, handler: "app:work", sink: done}
  note: {source: notes, handler: "app:note", sink: noted}
"""

NOTE = """
def note(text: str) -> dict:
    return {"text": text}
"""

FORM, LINES = "application/x-www-form-urlencoded", "application/x-ndjson"


def wrong(answer: tuple[int, Any]) -> list[tuple[list[Any], str]]:
    assert answer[0] == 422, answer
    return [(error["loc"], error["type"]) for error in answer[1]["detail"]]


def test_without_a_handler_the_body_is_the_rows(folder: Path) -> None:
    project(folder, WITHOUT_HANDLERS, app=APP + NOTE)
    success = (200, {"success": True})
    with running(folder) as app:
        app.ready()
        assert post(app, "/sales", {"id": 1}) == success
        assert post(app, "/sales", [{"id": 2}, {"id": 3, "name": "c"}]) == success
        assert post(app, "/sales", "id=4&name=d", Content_Type=FORM) == success
        assert post(app, "/sales", '{"id": 5}\n\n{"id": 6}\n', Content_Type=LINES) == success
        assert app.get("/sale?id=7") == b""
        assert post(app, "/api/guarded", {"id": 8})[0] == 401
        assert post(app, "/api/guarded", {"id": 8}, Authorization="Bearer x") == success
        stored = {row["id"]: row["name"] for row in rows(folder, "sales")}
        assert stored == {1: "", 2: "", 3: "c", 4: "d", 5: "", 6: "", 7: "", 8: ""}
        assert wrong(post(app, "/sales", [{"id": 9}, {"id": "ten", "colour": 1}])) == [
            (["body", 1, "id"], "int_parsing"),
            (["body", 1, "colour"], "extra_forbidden"),
        ]
        assert wrong(post(app, "/sales", "id=x", Content_Type=FORM)) == [(["body", "id"], "int_parsing")]
        lines = '{"id": 9}\n{"name": "a"}\n{"id": 10, "name": 1}'
        assert wrong(post(app, "/sales", lines, Content_Type=LINES)) == [
            (["body", 1, "id"], "missing"),
            (["body", 2, "name"], "string_type"),
        ]
        assert len(rows(folder, "sales")) == 8, "of what is refused, nothing is stored"


def test_without_a_handler_the_body_is_the_messages(folder: Path) -> None:
    project(folder, WITHOUT_HANDLERS, app=APP + NOTE)
    with running(folder) as app:
        app.ready()
        assert wrong(post(app, "/jobs", {"id": "seven"})) == [(["body", "id"], "int_parsing")]
        assert wrong(post(app, "/jobs", "name=a", Content_Type=FORM)) == [(["body", "id"], "missing")]
        code, answer = post(app, "/jobs", [{"id": 1}, {"id": 2, "name": "b"}])
        assert (code, len(set(answer["ids"]))) == (202, 2)
        assert post(app, "/jobs", "id=3", Content_Type=FORM)[0] == 202
        code, answer = post(app, "/notes", [{"any": ["thing"]}, 7])
        assert (code, len(answer["ids"])) == (202, 2), "a queue that does not say what its messages are takes all"
        wait_for(lambda: (len(rows(folder, "done")), len(rows(folder, "noted"))) == (3, 2))
        assert {row["id"]: row["name"] for row in rows(folder, "done")} == {1: "", 2: "b", 3: ""}
        notes = [json.loads(row["text"]) for row in rows(folder, "noted")]
        assert sorted(notes, key=str) == [7, {"any": ["thing"]}]
