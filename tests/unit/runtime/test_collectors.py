"""Routes with a sink: what their bodies may be, what is answered, and how requests are committed together."""

import asyncio
import dataclasses
import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from fastapi import FastAPI, Request
from pydantic import BaseModel

from buildflow.errors import HandlerRejected, InvalidRow, ServiceUnavailable
from buildflow.ir.columns import Column
from buildflow.ir.graph import Resource
from buildflow.ir.runtime import HandlerPlan, RoutePlan, RuntimePlan
from buildflow.primitives.base import Entry
from buildflow.runtime import committer
from buildflow.runtime.committer import Committer, CommitterFull, RowsRefused
from buildflow.runtime.fast_routes import FastRoutes
from buildflow.runtime.web_app import make_app
from tests.unit.runtime.test_gateway import Connections, Shop, ask, make_shop, served, until

COLUMNS = (
    Column(name="name", kind="string"),
    Column(name="price", kind="float"),
    Column(name="count", kind="integer", nullable=True),
    Column(name="tags", kind="string", repeated=True, nullable=True),
    Column(name="sold", kind="timestamp", nullable=True),
    Column(name="paid", kind="boolean", has_default=True, default=False),
    Column(name="raw", kind="bytes", nullable=True),
    Column(name="place", kind="record", nullable=True, fields=(Column(name="city", kind="string"),)),
    Column(name="more", kind="json", nullable=True),
)


def resource(key: str, columns: Sequence[Column] = (), **spec: Any) -> Resource:
    return Resource(
        key=key, type="table", provider="local", name=key, id=key, label="", spec=spec, columns=tuple(columns)
    )


class Refused(InvalidRow):
    fields = ((("price",), "is negative"),)


class Store:
    """A sink that notes its commits; the next of them wait for `go`."""

    guarantee = "at least once"

    def __init__(self) -> None:
        self.commits: list[list[Entry]] = []
        self.writers: list[str] = []
        self.go = threading.Event()
        self.go.set()
        self.entered = threading.Semaphore(0)
        self.failure: Exception | None = None

    def check(self, row: Any) -> None:
        if self.price(row) < 0:
            raise Refused(f"{self.price(row)} is negative")

    def price(self, row: Any) -> float:
        return float(row["price"] if isinstance(row, dict) else row.price)

    def commit(self, writer: str, entries: Sequence[Entry], *, fresh: bool = False) -> None:
        self.entered.release()
        assert self.go.wait(10)
        if self.failure is not None:
            raise self.failure
        if any(self.price(row) == 666 for entry in entries for row in entry.rows):
            raise ZeroDivisionError("the culprit")
        self.commits.append(list(entries))
        self.writers.append(writer)

    @property
    def rows(self) -> list[Any]:
        return [row for commit in self.commits for entry in commit for row in entry.rows]

    def close(self) -> None: ...


class Transactional(Store):
    """One that refuses all for one of them."""

    guarantee = "effectively once"

    def commit(self, writer: str, entries: Sequence[Entry], *, fresh: bool = False) -> None:
        for entry in entries:
            for row in entry.rows:
                self.check(row)
        super().commit(writer, entries, fresh=fresh)


class Messages(Transactional):
    guarantee = "at least once"

    def message_ids(self, writer: str, entry: Entry) -> list[str]:
        return [hashlib.md5(f"{writer}{entry.id}{i}".encode()).hexdigest() for i in range(len(entry.rows))]


class Sale(BaseModel):
    name: str
    price: float


@dataclasses.dataclass
class Row:
    name: str
    price: float


async def one(sale: Sale) -> Row:
    return Row(sale.name, sale.price)


def several(sales: list[Sale]) -> Iterator[Row]:
    for sale in sales:
        yield Row(sale.name, sale.price)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    made = make_shop(tmp_path, monkeypatch)
    made.connections = Sinks(tmp_path)
    made.plan = lambda **options: planned(made, options)  # type: ignore[method-assign]
    return made


class Sinks(Connections):
    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.sinks: dict[str, Any] = {"sales": Store(), "jobs": Messages(), "rows": Transactional()}
        self.plan: Any = None

    def sink(self, key: str) -> Any:
        return self.sinks[key]


def sinks(shop: Shop) -> dict[str, Any]:
    connections: Any = shop.connections
    found: dict[str, Any] = connections.sinks
    return found


def planned(shop: Shop, options: dict[str, Any]) -> RuntimePlan:
    resources = (resource("sales", COLUMNS), resource("rows", COLUMNS), resource("jobs"))
    plan = Shop.plan(shop, **options)
    shop.connections.plan = plan = plan.model_copy(update={"resources": resources})  # type: ignore[attr-defined]
    return plan


def without_handler(shop: Shop, route: str, sink: str, **options: Any) -> None:
    """A route whose body is the rows."""
    method, _, path = route.partition(" ")
    plan = RoutePlan(method=method, path=path, handler=HandlerPlan(function=""), sink=sink, **options)
    shop.routes.append(plan.model_copy(update={"handler": None}))


def post(port: int, path: str, body: Any, kind: str = "application/json", **headers: str) -> tuple[int, Any]:
    sent = body if isinstance(body, str | bytes) else json.dumps(body)
    status, _, answer = ask(port, "POST", path, sent, Content_Type=kind, **headers)
    return status, json.loads(answer)


def places(answer: tuple[int, Any]) -> list[tuple[list[Any], str]]:
    assert answer[0] == 422, answer
    return [(error["loc"], error["type"]) for error in answer[1]["detail"]]


SUCCESS = (200, {"success": True})
NDJSON = "application/x-ndjson"
FORM = "application/x-www-form-urlencoded"


# bodies


def test_an_object_is_a_row_an_array_many_and_each_line_one(shop: Shop) -> None:
    without_handler(shop, "POST /sales", "sales")
    with served(shop.gateway()) as port:
        sale = {"name": "nut", "price": 1, "sold": "2026-01-02T03:04:05Z", "raw": "AAE=", "place": {"city": "Ulm"}}
        assert post(port, "/sales", sale) == SUCCESS
        assert post(port, "/sales", [{"name": "a", "price": 1}, {"name": "b", "price": 2}]) == SUCCESS
        assert post(port, "/sales", [], "application/vnd.sales+json; charset=utf-8") == SUCCESS
        lines = b'{"name": "c", "price": 3}\r\n\n{"name": "d", "price": 4}'
        assert post(port, "/sales", lines, NDJSON) == SUCCESS
    first, *rest = sinks(shop)["sales"].rows
    assert first == {**sale, "sold": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "raw": b"\0\1", "price": 1.0}
    assert [row["name"] for row in rest] == ["a", "b", "c", "d"]


def test_a_form_is_a_row_of_text_that_becomes_what_the_columns_are(shop: Shop) -> None:
    without_handler(shop, "POST /sales", "sales")
    without_handler(shop, "GET /sales", "sales")
    values = [("name", ""), ("price", "1.5"), ("count", ""), ("tags", "x"), ("tags", "y"), ("paid", "true")]
    parts = "".join(f'--b\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in values)
    with served(shop.gateway()) as port:
        assert post(port, "/sales", urlencode(values), FORM) == SUCCESS
        assert post(port, "/sales", f"{parts}--b--\r\n", "multipart/form-data; boundary=b") == SUCCESS
        assert ask(port, "GET", f"/sales?{urlencode(values)}")[0] == 200
        assert places(post(port, "/sales", "price=dear&colour=red", FORM)) == [
            (["body", "name"], "missing"),
            (["body", "price"], "float_parsing"),
            (["body", "colour"], "extra_forbidden"),
        ]
    row = {"name": "", "price": 1.5, "tags": ["x", "y"], "paid": True}
    assert sinks(shop)["sales"].rows == [row] * 3


def test_each_wrong_field_is_named(shop: Shop) -> None:
    without_handler(shop, "POST /sales", "sales")
    with served(shop.gateway()) as port:
        assert places(post(port, "/sales", {"price": "dear", "place": {}})) == [
            (["body", "name"], "missing"),
            (["body", "price"], "float_parsing"),
            (["body", "place", "city"], "missing"),
        ]
        good, bad = {"name": "a", "price": 1}, {"name": None, "price": 2, "count": 2**63}
        wrong = [(["body", 1, "name"], "string_type"), (["body", 1, "count"], "less_than")]
        assert places(post(port, "/sales", [good, bad])) == wrong
        lines = "\n".join(map(json.dumps, [good, bad]))
        assert places(post(port, "/sales", f"{lines}\n{{", NDJSON)) == [*wrong, (["body", 2], "json_invalid")]
        assert places(post(port, "/sales", "{")) == [(["body"], "json_invalid")]
        assert places(post(port, "/sales", "7")) == [(["body"], "dict_type")]
        assert len(places(post(port, "/sales", "[" + "7," * 150 + "7]"))) == 100
        status, answer = post(port, "/sales", "a", "text/plain")
        assert (status, "application/x-ndjson" in answer["detail"]) == (415, True)
    assert sinks(shop)["sales"].rows == []


def test_what_the_sink_refuses_is_named_in_the_same_form(shop: Shop) -> None:
    for sink in ("sales", "rows"):
        shop.route(f"POST /one/{sink}", one, sink=sink)
        shop.route(f"POST /several/{sink}", several, sink=sink)
    sales = [{"name": "a", "price": price} for price in (1, -1, 2, -3)]
    with served(shop.gateway()) as port:
        for sink in ("sales", "rows"):
            refused = {"type": "invalid_row", "loc": ["body", "price"], "msg": "is negative"}
            assert post(port, f"/one/{sink}", sales[1]) == (422, {"detail": [refused]})
            wrong = [(["body", 1, "price"], "invalid_row"), (["body", 3, "price"], "invalid_row")]
            assert places(post(port, f"/several/{sink}", sales)) == wrong
            assert places(post(port, f"/several/{sink}", [{"name": 1}]))[0] == (["body", 0, "name"], "string_type")
    assert not any(sink.commits for sink in sinks(shop).values())


def test_a_handler_takes_lines_as_a_list(shop: Shop) -> None:
    shop.route("POST /several", several, sink="sales")
    with served(shop.gateway()) as port:
        lines = '{"name": "a", "price": 1}\n\n{"name": "b", "price": 2}\n'
        assert post(port, "/several", lines, NDJSON) == SUCCESS
        assert places(post(port, "/several", f"{lines}{{}}", NDJSON))[0] == (["body", 2, "name"], "missing")
    assert sinks(shop)["sales"].rows == [Row("a", 1), Row("b", 2)]


def test_a_sink_of_messages_gives_202_and_their_ids(shop: Shop) -> None:
    without_handler(shop, "POST /jobs", "jobs")
    shop.route("POST /one", one, sink="jobs", status=200)
    shop.route("POST /several", several, sink="jobs")
    with served(shop.gateway()) as port:
        answers = [
            post(port, "/jobs", {"price": 1}),
            post(port, "/jobs", [{"price": 2}, {"price": 3}]),
            post(port, "/one", {"name": "a", "price": 4}),
            post(port, "/several", [{"name": "a", "price": 5}]),
        ]
        assert post(port, "/several", []) == (202, {"ids": []})
    jobs = sinks(shop)["jobs"]
    ids = [jobs.message_ids(w, e) for w, entries in zip(jobs.writers, jobs.commits, strict=True) for e in entries]
    assert answers == [
        (202, {"id": ids[0][0]}),
        (202, {"ids": ids[1]}),
        (200, {"id": ids[2][0]}),
        (202, {"ids": ids[3]}),
    ]
    assert len({id for entry in ids for id in entry}) == 5


def test_an_idempotency_key_is_the_entrys_id(shop: Shop) -> None:
    shop.route("POST /one", one, sink="sales")
    shop.route("POST /jobs", one, sink="jobs")
    shop.route("POST /rows", one, sink="rows")
    sale = {"name": "a", "price": 1}
    with served(shop.gateway()) as port:
        first = post(port, "/jobs", sale, Idempotency_Key="key-1")
        assert first == post(port, "/jobs", sale, Idempotency_Key="key-1")
        assert first != post(port, "/jobs", sale, Idempotency_Key="key-2")
        for path in ("/one", "/rows"):
            assert post(port, path, sale, Idempotency_Key="mine") == post(port, path, sale) == SUCCESS
        assert post(port, "/one", sale, Idempotency_Key="k" * 256)[0] == 400
        openapi = json.loads(ask(port, "GET", "/openapi.json")[2])
    mine, other = ([e.id for c in sinks(shop)[k].commits for e in c] for k in ("sales", "rows"))
    assert (mine[0], len(mine[1])) == ("mine", 32)
    assert other == ["mine", ""], "a transactional sink need not remember what nobody will repeat"
    parameters = openapi["paths"]["/one"]["post"]["parameters"]
    assert [p["name"] for p in parameters] == ["Idempotency-Key"]


def test_a_handler_may_take_the_request_itself(shop: Shop) -> None:
    async def read(request: Request) -> dict[str, Any]:
        return {"price": len(await request.body()), "path": request.url.path}

    shop.route("POST /read", read, sink="sales")
    with served(shop.gateway()) as port:
        assert post(port, "/read", "four", "text/plain", Idempotency_Key="k") == SUCCESS
    ((entry,),) = sinks(shop)["sales"].commits
    assert entry == Entry("k", [{"price": 4, "path": "/read"}])


def test_the_api_page_shows_the_columns(shop: Shop) -> None:
    without_handler(shop, "POST /sales", "sales")
    with served(shop.gateway()) as port:
        openapi = json.loads(ask(port, "GET", "/openapi.json")[2])
    content = openapi["paths"]["/sales"]["post"]["requestBody"]["content"]
    assert set(content["application/x-ndjson"]["schema"]["properties"]) == {c.name for c in COLUMNS}
    assert content["application/x-ndjson"]["schema"]["required"] == ["name", "price"]
    for reference in references(content):
        assert pointed(openapi, reference), reference
    assert list(references(content)), "a nested record is a definition"


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from (v for k, v in node.items() if k == "$ref")
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from references(inner)


def pointed(document: Any, reference: str) -> Any:
    for part in reference.removeprefix("#/").split("/"):
        document = document[part.replace("~1", "/").replace("~0", "~")]
    return document


def test_values_of_a_path_are_not_lost_in_silence(shop: Shop) -> None:
    without_handler(shop, "POST /sales/{shop}", "sales")
    gateway = shop.gateway()
    with pytest.raises(HandlerRejected, match="no handler that takes what its path holds"):
        make_app(gateway.plan, gateway.connections, gateway.container)


def test_collectors_of_simple_bodies_are_answered_without_fastapi(shop: Shop) -> None:
    shop.route("POST /one", one, sink="sales")
    without_handler(shop, "POST /sales", "sales")
    gateway = shop.gateway()
    routes = FastRoutes(make_app(gateway.plan, gateway.connections, gateway.container))
    assert routes.static["POST", "/one"] is not None
    assert routes.static["POST", "/sales"] is not None


# answers


def test_a_sink_out_of_reach_is_a_503_and_its_failure_a_500(shop: Shop) -> None:
    shop.route("POST /one", one, sink="sales")
    store = sinks(shop)["sales"]
    with served(shop.gateway()) as port:
        store.failure = ServiceUnavailable("Redis at 10.0.0.1 does not answer")
        status, headers, body = ask(port, "POST", "/one", '{"name":"a","price":1}', Content_Type="application/json")
        assert (status, headers["retry-after"]) == (503, "1")
        assert json.loads(body) == {"detail": "the sink cannot be reached; try again"}
        store.failure = ZeroDivisionError("a bug")
        status, _, body = ask(port, "POST", "/one", '{"name":"a","price":1}', Content_Type="application/json")
        assert (status, body) == (500, b"Internal Server Error")


def test_when_too_much_waits_it_answers_503_at_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer, "MOST_ROWS", 2)
    shop.route("POST /one", one, sink="sales")
    store = sinks(shop)["sales"]
    store.go.clear()
    answers: list[tuple[int, Any]] = []
    sale = {"name": "a", "price": 1}
    with served(shop.gateway()) as port:
        threads = [threading.Thread(target=lambda: answers.append(post(port, "/one", sale))) for _ in range(4)]
        for thread in threads:
            thread.start()
        until(lambda: any(status == 503 for status, _ in answers))
        assert store.entered.acquire(timeout=10)
        status, headers, body = ask(port, "POST", "/one", json.dumps(sale), Content_Type="application/json")
        assert (status, headers["retry-after"]) == (503, "1")
        assert json.loads(body) == {"detail": "too much waits to be stored; try again"}
        store.go.set()
        for thread in threads:
            thread.join()
        assert post(port, "/one", sale) == SUCCESS
    assert answers.count(SUCCESS) == len(store.rows) - 1 >= 1


def test_what_was_accepted_is_committed_before_the_end(shop: Shop) -> None:
    shop.route("POST /one", one, sink="sales")
    store = sinks(shop)["sales"]
    gateway = shop.gateway()
    collectors = make_app(gateway.plan, gateway.connections, gateway.container)

    async def live() -> None:
        async with collectors.router.lifespan_context(FastAPI()):
            route: Any = next(r for r in collectors.routes if getattr(r, "path", "") == "/one")
            request = Request({"type": "http", "headers": []})
            store.go.clear()
            waits = asyncio.create_task(route.endpoint(sale=Sale(name="a", price=1), buildflow_request=request))
            await asyncio.to_thread(store.entered.acquire)
            waits.cancel()  # its client is gone
            store.go.set()

    asyncio.run(live())
    assert store.rows == [Row("a", 1)]


# group commit


def gathered(store: Store, prices: Sequence[float], *, writers: Sequence[str] = ("w",)) -> list[Any]:
    """What becomes of entries that queue while another one is committed."""

    async def all_at_once() -> list[Any]:
        committing = Committer(store)
        store.go.clear()
        first = asyncio.create_task(committing.commit("first", Entry("0", [Row("first", 0)]), 1))
        await asyncio.to_thread(store.entered.acquire)
        entries = [Entry(str(i), [Row(f"r{i}", price)]) for i, price in enumerate(prices, 1)]
        rest = [
            asyncio.create_task(committing.commit(writers[i % len(writers)], entry, 1))
            for i, entry in enumerate(entries)
        ]
        await asyncio.sleep(0)
        store.go.set()
        await first
        outcomes = await asyncio.gather(*rest, return_exceptions=True)
        await asyncio.to_thread(committing.close)
        return outcomes

    return asyncio.run(all_at_once())


@pytest.mark.parametrize("store", [Store(), Transactional()])
def test_what_queues_while_a_commit_runs_is_committed_together(store: Store) -> None:
    assert gathered(store, [1] * 5) == [None] * 5
    assert [len(commit) for commit in store.commits] == [1, 5]


def test_each_writer_has_a_commit_of_its_own() -> None:
    store = Store()
    assert gathered(store, [1, 2, 3], writers=["a", "b"]) == [None] * 3
    assert list(zip(store.writers, map(len, store.commits), strict=True)) == [("first", 1), ("a", 2), ("b", 1)]


@pytest.mark.parametrize("store", [Store(), Transactional()])
def test_only_who_has_a_bad_row_fails(store: Store) -> None:
    outcomes = gathered(store, [1, -2, 3])
    assert outcomes[::2] == [None, None]
    assert isinstance(outcomes[1], RowsRefused)
    assert [(number, str(reason)) for number, reason in outcomes[1].rows] == [(0, "-2.0 is negative")]
    assert [row.price for row in store.rows] == [0, 1, 3]


def test_when_a_commit_fails_each_is_tried_alone() -> None:
    store = Store()
    outcomes = gathered(store, [1, 666, 3])
    assert outcomes[::2] == [None, None]
    assert isinstance(outcomes[1], ZeroDivisionError)
    assert [row.price for row in store.rows] == [0, 1, 3]


def test_what_may_have_been_written_all_or_nothing_is_not_tried_again() -> None:
    """A transactional sink that fails though it has nothing against any row: its commit may have come through."""
    store = Transactional()
    assert [type(outcome) for outcome in gathered(store, [1, 666, 3])] == [ZeroDivisionError] * 3
    assert [row.price for row in store.rows] == [0]


@pytest.mark.parametrize("kind", [Store, Transactional])
def test_a_sink_out_of_reach_is_asked_once(kind: type[Store]) -> None:
    class Gone(kind):  # type: ignore[misc, valid-type]
        tries = 0

        def commit(self, writer: str, entries: Sequence[Entry], *, fresh: bool = False) -> None:
            super().commit(writer, entries, fresh=fresh)
            if writer != "first":
                self.tries += 1
                raise ServiceUnavailable

    store = Gone()
    assert [type(outcome) for outcome in gathered(store, [1, 2, 3])] == [ServiceUnavailable] * 3
    assert store.tries == 1


def test_the_queue_is_bounded_in_bytes_but_for_one() -> None:
    async def fill() -> None:
        store = Store()
        committing = Committer(store)
        await committing.commit("w", Entry("0", [Row("huge", 1)]), 2 * committer.MOST_BYTES)
        store.go.clear()
        waits = asyncio.create_task(committing.commit("w", Entry("1", [Row("a", 1)]), 10))
        await asyncio.to_thread(store.entered.acquire)
        with pytest.raises(CommitterFull):
            await committing.commit("w", Entry("2", [Row("b", 1)]), committer.MOST_BYTES)
        store.go.set()
        await waits
        assert len(store.rows) == 2

    asyncio.run(fill())
