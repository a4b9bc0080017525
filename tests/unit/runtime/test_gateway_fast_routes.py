"""Simple routes answer byte for byte what FastAPI answers, and their handlers are called once."""

import asyncio
import dataclasses
import datetime
import enum
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from fastapi import (
    BackgroundTasks,
    Body,
    Cookie,
    Depends,
    FastAPI,
    Form,
    Header,
    HTTPException,
    Query,
    Request,
    Response,
)
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel, Field
from starlette.background import BackgroundTask
from starlette.staticfiles import StaticFiles

from buildflow.runtime.fast_routes import FastRoutes, compile_route, parse_query, to_json

Messages = list[dict[str, Any]]
calls: list[str] = []


class Colour(enum.StrEnum):
    RED = "red"


class Order(BaseModel):
    id: int
    price: float = Field(alias="cost", default=1.5)
    when: datetime.date | None = None
    either: int | str = 0


@dataclasses.dataclass
class Pair:
    left: int
    right: str = "r"


class Odd(Exception):
    pass


class Around:
    """A middleware of one route."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        calls.append("around")
        await self.app(scope, receive, send)


def noted(function: Any) -> Any:
    """Notes each call, and is transparent as decorators are."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        calls.append(function.__name__)
        return function(*args, **kwargs)

    return call


def make_app(folder: Path) -> FastAPI:
    app = FastAPI(title="shop")

    @app.exception_handler(Odd)
    async def odd(request: Request, exc: Exception) -> JSONResponse:
        return JSONResponse({"odd": str(exc), "path": request.url.path}, 418)

    def route(path: str, method: str = "GET", **options: Any) -> Callable[[Any], Any]:
        return lambda function: app.add_api_route(path, noted(function), methods=[method], **options)

    @route("/hello")
    async def hello() -> Any:
        return {"hello": "wörld", "n": [1, 2.5, True, None], "nested": {"a": {"b": "c"}}}

    @route("/plain")
    async def plain():
        return {1: (1, 2), "when": datetime.date(2026, 1, 2), "_sa_state": 1, "colour": Colour.RED, "set": {3}}

    @route("/sync")
    def sync() -> dict[str, int]:
        return {"a": 1}

    @route("/model")
    def model() -> Order:
        return Order(id=1, cost=1e16)

    @route("/model-unannotated")
    async def model_unannotated():
        return Order(id=1, cost=1e16)

    @route("/wrong-answer")
    async def wrong_answer() -> Order:
        return {"id": "no number"}  # type: ignore[return-value]

    @route("/not-json")
    async def not_json():
        return {"a": float("nan")}

    @route("/nothing")
    async def nothing() -> None:
        return None

    @route("/text")
    async def text() -> str:
        return "text"

    @route("/created", "POST", status_code=201)
    async def created() -> dict[str, int]:
        return {"id": 1}

    @route("/empty", "DELETE", status_code=204)
    async def empty() -> None:
        return None

    @route("/items/first")
    async def first() -> str:
        return "first"

    @route("/items/{item_id}")
    async def item(item_id: int, q: str | None = None, big: bool = False, size: Annotated[int, Query(ge=1)] = 3) -> Any:
        return [item_id, q, big, size]

    @route("/items/never")
    async def never() -> str:
        return "an earlier route takes it"

    @route("/items/{item_id}/{colour}")
    def coloured(
        item_id: Annotated[float, PathParameter(le=100)], colour: Colour, kind: Literal["a", "b"] = "a"
    ) -> Any:
        return [item_id, colour, kind]

    @route("/whole/{number:int}")
    async def whole(number: int) -> int:
        return number

    @route("/files/{name:path}")
    async def files(name: str, at: datetime.datetime | None = None, alias: str = Query("x", alias="as")) -> Any:
        return [name, at, alias]

    @route("/many")
    async def many(q: Annotated[list[int], Query()]) -> Any:
        return q

    @route("/required")
    async def required(q: str, untyped="u") -> Any:
        return [q, untyped]

    @route("/orders", "POST")
    async def order(order: Order, dry: bool = False) -> Any:
        return [order.model_dump(), type(order.either).__name__, dry]

    @route("/orders", "PUT")
    def put(order: Order) -> Order:
        return order

    @route("/pairs", "POST")
    async def pairs(pairs: list[Pair]) -> list[Pair]:
        return pairs

    @route("/maybe", "POST")
    async def maybe(order: Order | None = None) -> Any:
        return order

    @route("/embedded", "POST")
    async def embedded(number: Annotated[int, Body(embed=True)]) -> int:
        return number

    @route("/two", "POST")
    async def two(one: Order, other: Pair) -> Any:
        return [one, other]

    @route("/anything", "POST")
    async def anything(value: Any = Body()) -> Any:  # noqa: B008
        return value

    @route("/form", "POST")
    async def form(a: Annotated[str, Form()]) -> str:
        return a

    @route("/header")
    async def header(x_one: Annotated[str, Header()], two: Annotated[str, Cookie()] = "2") -> Any:
        return [x_one, two]

    @route("/request")
    async def request(request: Request, response: Response, tasks: BackgroundTasks) -> str:
        response.headers["x-one"] = "1"
        return request.url.path

    @route("/not-found")
    async def not_found() -> None:
        raise HTTPException(404, "no such thing", {"x-why": "so"})

    @route("/odd")
    def raises_odd() -> None:
        raise Odd("5")

    @route("/broken")
    async def broken() -> None:
        raise ZeroDivisionError

    @route("/html")
    async def html() -> HTMLResponse:
        return HTMLResponse("<p>", headers={"x-one": "1"})

    @route("/no-content")
    async def no_content() -> Response:
        return Response(status_code=204)

    @route("/background")
    def background() -> Response:
        return PlainTextResponse("then", background=BackgroundTask(calls.append, "background"))

    @route("/background-breaks")
    async def background_breaks() -> Response:
        return PlainTextResponse("then", background=BackgroundTask(lambda: 1 / 0))

    @route("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(iter([b"a", b"b"]))

    @route("/stream-breaks")
    async def stream_breaks() -> StreamingResponse:
        def chunks() -> Iterator[bytes]:
            yield b"a"
            raise Odd("midway")

        return StreamingResponse(chunks())

    @route("/file")
    async def file() -> FileResponse:
        return FileResponse(folder / "a.txt")

    @route("/no-file")
    async def no_file() -> FileResponse:
        return FileResponse(folder / "none.txt")

    async def only_ada(request: Request) -> None:
        calls.append("only_ada")
        if request.headers.get("authorization") != "Bearer ada":
            raise HTTPException(401, "who are you?", {"www-authenticate": "Bearer"})

    @route("/private", dependencies=[Depends(only_ada)])
    async def private(q: int = 0) -> int:
        return q

    @route("/private", "POST", dependencies=[Depends(only_ada)])
    def private_order(order: Order) -> Order:
        return order

    @route("/around")
    async def around() -> str:
        return "seen from around"

    added = app.router.routes[-1]
    added.app = Around(added.app)  # type: ignore[attr-defined]
    app.mount("/static", StaticFiles(directory=folder))

    @route("/static/behind-the-mount")
    async def behind() -> str:
        return "never"

    return app


JSON = {"content-type": "application/json"}
REQUESTS: list[tuple[str, str, dict[str, str], bytes]] = [
    *((verb, path, {}, b"") for path in ("/hello", "/items/5", "/no") for verb in ("GET", "HEAD", "OPTIONS", "PUT")),
    *(
        ("GET", path, {}, b"")
        for path in (
            "/hello/", "/hello?ignored=1", "/hello\n", "/docs", "/openapi.json", "/plain", "/sync", "/model",
            "/model-unannotated", "/wrong-answer", "/not-json", "/nothing", "/text", "/items/first", "/items/never",
            "/items/five", "/items/5?q=a", "/items/5?q=a&q=b", "/items/5?q=", "/items/5?q", "/items/5?&&q=a;b&=c",
            "/items/5?q=a%20b+c%FF", "/items/5?q=a=b", "/items/5?q=\xe9", "/items/5?big=yes&size=7", "/items/5?big=7",
            "/items/5?size=0", "/items/5?size=", "/items/5/", "/items/1.5/red", "/items/1.5/blue", "/items/101/red",
            "/items/1/red?kind=b", "/items/1/red?kind=c", "/whole/12", "/whole/-1", "/whole/" + "9" * 5000,
            "/items/" + "9" * 5000, "/files/a/b.txt", "/files/", "/files/x?at=2026-01-02T03:04:05Z&as=y&alias=z",
            "/files/x?at=soon", "/many?q=1&q=2", "/many", "/required", "/required?q=1&untyped=2", "/header", "/request",
            "/not-found", "/odd", "/broken", "/html", "/no-content", "/background", "/background-breaks", "/stream",
            "/stream-breaks", "/file", "/no-file", "/static/a.txt", "/static/behind-the-mount", "/orders",
        )
    ),
    ("GET", "/header", {"x-one": "1", "cookie": "two=3"}, b""),
    *(
        ("GET", path, headers, b"")
        for path in ("/private", "/private?q=1", "/private?q=x", "/around")
        for headers in ({}, {"authorization": "Bearer ada"}, {"authorization": "Bearer bob"})
    ),
    *(
        ("POST", "/private", {**JSON, **headers}, body)
        for headers in ({}, {"authorization": "Bearer ada"})
        for body in (b'{"id": 1}', b'{"id": "x"}', b"{")
    ),
    ("POST", "/created", {}, b""),
    ("POST", "/created", JSON, b"ignored"),
    ("DELETE", "/empty", {}, b""),
    *(
        ("POST", "/orders", headers, body)
        for headers in (JSON, {}, {"content-type": "application/json; charset=UTF-8"}, {"content-type": "text/plain"},
                        {"content-type": "application/vnd.shop+json"}, {"content-type": "APPLICATION/JSON"})
        for body in (
            b'{"id": 1}', b'{"id": "2", "cost": "3", "extra": 1}', b'{"id": 1, "id": 2, "either": "5"}', b'{"id": "x"}',
            b'{"id": 1, "when": "2026-01-02"}', b'{"id": 1, "cost": NaN}', b'{"id": 1, "cost": 1e999}', b"[]", b"null",
            b"", b"{", b'{"id": 1} x', b'\xef\xbb\xbf{"id": 1}', b'{"id": \xff}', '{"id": 1}'.encode("utf-16"),
            b'{"id": ' + b"9" * 5000 + b"}", b"[" * 100_000,
        )
    ),
    ("POST", "/orders?dry=1", JSON, b'{"id": 1}'),
    ("POST", "/orders?dry=perhaps", JSON, b'{"id": "x"}'),
    ("PUT", "/orders", JSON, b'{"id": 1, "cost": 0.1}'),
    ("PUT", "/orders", JSON, b'{"cost": 0.1}'),
    ("POST", "/pairs", JSON, b'[{"left": 1}, {"left": "2", "right": "x"}]'),
    ("POST", "/pairs", JSON, b'[{"left": 1}, {}]'),
    *(("POST", "/maybe", JSON, body) for body in (b"", b"null", b'{"id": 1}', b"1")),
    *(("POST", "/embedded", JSON, body) for body in (b'{"number": 1}', b"1")),
    ("POST", "/two", JSON, b'{"one": {"id": 1}, "other": {"left": 1}}'),
    *(("POST", "/anything", JSON, body) for body in (b"1", b'"a"', b'{"_sa": 1, "b": [[]]}', b"", b"Infinity")),
    ("POST", "/form", {"content-type": "application/x-www-form-urlencoded"}, b"a=b"),
]  # fmt: skip


async def ask(app: Any, method: str, target: str, headers: dict[str, str], body: bytes, chunk: int = 7) -> Any:
    """One request as a server makes it, its body in chunks; the messages, what was raised, what was called."""
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode("latin-1"),
        "root_path": "",
        "scheme": "http",
        "headers": [(b"host", b"shop"), *((k.encode(), v.encode()) for k, v in headers.items())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    pieces = [body[i : i + chunk] for i in range(0, len(body), chunk)][:200] or [b""]
    pieces[-1] += body[200 * chunk :]
    coming = [
        {"type": "http.request", "body": piece, "more_body": number < len(pieces)}
        for number, piece in enumerate(pieces, 1)
    ]
    sent: Messages = []
    raised = ""
    del calls[:]

    async def receive() -> Any:
        if coming:
            return coming.pop(0)
        await asyncio.sleep(3600)
        return None

    async def send(message: Any) -> None:
        sent.append(message)

    try:
        await app(scope, receive, send)
    except Exception as exc:  # noqa: BLE001 - it is compared
        raised = f"{type(exc).__name__}: {exc}"
    return sent, raised, list(calls)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("static")
    (made / "a.txt").write_text("a")
    return made


@pytest.fixture(scope="module")
def both(folder: Path) -> tuple[FastRoutes, FastAPI]:
    return FastRoutes(make_app(folder)), make_app(folder)


def a_name(request: tuple[str, str, dict[str, str], bytes]) -> str:
    method, target, headers, body = request
    return f"{method} {target[:40]!a} {headers.get('content-type', '')} {body[:30]!r}"


@pytest.mark.parametrize("request_", REQUESTS, ids=map(a_name, REQUESTS))
def test_the_answer_is_that_of_fastapi(both: tuple[FastRoutes, FastAPI], request_: Any) -> None:
    fast, plain = both
    ours, theirs = asyncio.run(ask(fast, *request_)), asyncio.run(ask(plain, *request_))
    assert ours == theirs


def test_which_routes_are_fast(both: tuple[FastRoutes, FastAPI]) -> None:
    fast = {r.path for r in both[1].routes if hasattr(r, "dependant") and compile_route(r) is not None}  # type: ignore[arg-type]
    assert {"/hello", "/sync", "/items/{item_id}", "/items/{item_id}/{colour}", "/orders", "/pairs", "/html"} <= fast
    slow = {
        "/many",
        "/embedded",
        "/two",
        "/form",
        "/header",
        "/request",
        "/empty",
        "/whole/{number:int}",
        "/private",
        "/around",
    }
    assert not slow & fast


def test_a_request_that_fastapi_would_not_see_takes_the_fast_way(both: tuple[FastRoutes, FastAPI]) -> None:
    fast = both[0]
    app, fast.app = fast.app, None  # type: ignore[assignment]
    try:
        for request in (
            ("GET", "/hello", {}, b""),
            ("GET", "/items/5?q=a", {}, b""),
            ("POST", "/orders", JSON, b'{"id": 1}'),
            ("GET", "/html", {}, b""),
        ):
            sent, raised, _ = asyncio.run(ask(fast, *request))
            assert (sent[0]["status"], raised) == (200, "")
    finally:
        fast.app = app


def test_a_route_behind_a_mount_or_an_earlier_pattern_is_never_taken(both: tuple[FastRoutes, FastAPI]) -> None:
    assert ("GET", "/static/behind-the-mount") not in both[0].static
    assert ("GET", "/items/never") not in both[0].static
    assert both[0].static["GET", "/docs"] is None


def test_an_app_that_looks_at_every_request_is_left_alone(folder: Path) -> None:
    app = make_app(folder)
    app.add_middleware(lambda inner: inner)  # type: ignore[arg-type]
    fast = FastRoutes(app)
    assert not fast.static
    assert not fast.patterns


def test_under_a_root_path_the_app_decides(both: tuple[FastRoutes, FastAPI]) -> None:
    assert both[0]._find({"method": "GET", "path": "/hello", "root_path": "/api"})[0] is None
    assert both[0]._find({"method": "GET", "path": "/hello"})[0] is not None


def test_openapi_is_that_of_fastapi(both: tuple[FastRoutes, FastAPI]) -> None:
    assert both[0].app.openapi() == both[1].openapi()


def test_a_client_that_leaves_while_it_sends_calls_no_handler(both: tuple[FastRoutes, FastAPI]) -> None:
    async def leave(app: Any) -> Any:
        scope = {
            "type": "http", "method": "POST", "path": "/orders", "query_string": b"", "root_path": "",
            "headers": [(b"content-type", b"application/json")], "asgi": {"spec_version": "2.3"},
        }  # fmt: skip
        messages = [{"type": "http.request", "body": b'{"id"', "more_body": True}, {"type": "http.disconnect"}]
        sent: Messages = []

        async def receive() -> Any:
            return messages.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        del calls[:]
        await app(scope, receive, send)
        return sent, list(calls)

    assert asyncio.run(leave(both[0])) == asyncio.run(leave(both[1]))
    assert not calls


def test_an_answer_that_does_not_fit_says_so_in_the_log(both: tuple[FastRoutes, FastAPI]) -> None:
    _, ours, _ = asyncio.run(ask(both[0], "GET", "/wrong-answer", {}, b""))
    assert "wrong_answer" in ours
    assert Path(__file__).name in ours


@pytest.mark.parametrize("query", ["a=1", "a=1&a=2", "&&a", "=b", "a=%41+b&c=%", "a=b=c", "a;b=c", "\xe9=\xe9", ""])
def test_a_query_is_read_as_starlette_reads_it(query: str) -> None:
    from starlette.datastructures import QueryParams

    raw = query.encode("latin-1")
    assert parse_query(raw) == dict(QueryParams(raw))


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, 2.5, "ü\u2028", True, None, {"b": {}}]}, [], "text", 5, None, {1: "one"}, {None: 1, True: 2},
        {"_sa_instance": 1, "a": 1}, (1, 2), {"a": {1}}, Colour.RED, {Colour.RED: Colour.RED}, Order(id=1),
        [Order(id=1)],
        Pair(1), {"when": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)}, Path("/a"), b"bytes", 10**30, 1e16,
    ],
)  # fmt: skip
def test_json_is_what_fastapi_writes(value: Any) -> None:
    from fastapi.encoders import jsonable_encoder

    assert to_json(value) == JSONResponse(jsonable_encoder(value)).body
