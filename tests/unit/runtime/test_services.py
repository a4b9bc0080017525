"""Services: whose routes a request belongs to, and what stands before them: CORS, limits, middleware, auth."""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Cookie, Depends, FastAPI, Header, HTTPException, Request, WebSocket, WebSocketException
from fastapi.responses import StreamingResponse
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from buildflow.errors import ObjectNotFound
from buildflow.ir.runtime import CorsPlan, MiddlewarePlan, MountPlan, ServicePlan
from buildflow.runtime.gateway import Gateway
from buildflow.runtime.services import Services
from buildflow.testing import ProjectInvalid, app
from tests.harness import platform, project
from tests.unit.runtime.test_gateway import SIZE, Shop, ask, detail, echo, make_shop, served, until

SHOP, ELSEWHERE = "https://shop.example", "https://elsewhere.example"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    return make_shop(tmp_path, monkeypatch)


def cors(*origins: str, **options: Any) -> CorsPlan:
    given = {"methods": ("GET",), "headers": (), "credentials": False, "max_age": 600.0, **options}
    return CorsPlan(origins=origins, **given)


def service(key: str, *middleware: Any, **options: Any) -> ServicePlan:
    """A service; its middleware are names, or names and their arguments."""
    plans = [m if isinstance(m, tuple) else (m, {}) for m in middleware]
    return ServicePlan(
        key=key, middleware=tuple(MiddlewarePlan(middleware=name, arguments=a) for name, a in plans), **options
    )


@contextlib.contextmanager
def client_of(gateway: Gateway) -> Iterator[TestClient]:
    """A client in process, once the gateway is ready."""
    with TestClient(gateway, raise_server_exceptions=False, follow_redirects=False) as client:
        until(lambda: gateway.app is not None or bool(gateway.error))
        yield client


async def hello() -> str:
    return "hello"


async def talk(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("hello")
    await socket.close()


# whose route

ROUTES = [
    ("GET /open", "open"),
    ("GET /items/new", None),
    ("GET /items/{item_id}", "shop"),
    ("PUT /items/{item_id}", "open"),
    ("DELETE /items/{item_id:int}", "shop"),
    ("GET /items/late", "open"),
    ("POST /items/", "shop"),
    ("GET /files/{name:path}", "shop"),
    ("WS /open", "shop"),
    ("WS /chat", "open"),
    ("GET /quiet", "quiet"),
    ("GET /{page:path}", "open"),
]
BELONGS = [
    ("GET /open", "open"),
    ("POST /open", "open"),  # 405
    ("WS /open", "shop"),
    ("WS /chat", "open"),
    ("WS /none", None),
    ("GET /items/new", None),
    ("GET /items/1", "shop"),
    ("GET /items/late", "shop"),
    ("PUT /items/1", "open"),
    ("DELETE /items/1", "shop"),
    ("DELETE /items/x", "shop"),  # 405 of the first that matches
    ("OPTIONS /items/1", "shop"),
    ("OPTIONS /items/1 PUT", "open"),  # a preflight belongs to the route that it asks for
    ("OPTIONS /items/1 DELETE", "shop"),
    ("OPTIONS /items/1 TRACE", "shop"),
    ("OPTIONS /items/new GET", None),
    ("POST /items", "open"),  # 405: a route that matches stands before a redirection
    ("GET /files/a/b/c", "shop"),
    ("GET /quiet", None),
    ("GET /docs", None),
    ("GET /openapi.json", None),
    ("GET /anything", "open"),
    ("GET /open\n", "open"),
]


@pytest.mark.parametrize(("request_", "key"), BELONGS)
def test_a_request_belongs_to_the_service_of_the_route_that_answers_it(
    shop: Shop, request_: str, key: str | None
) -> None:
    shop.services += [service("open", cors=cors("*")), service("shop", cors=cors(SHOP)), service("quiet")]
    for route, owner in ROUTES:
        shop.route(route, hello, service=owner)
    assert found(shop, request_) == key


@pytest.mark.parametrize(
    ("request_", "key"),
    [("GET /static/a", None), ("POST /static/a", None), ("GET /api/static/a", "open"), ("POST /api", "open")],
)
def test_what_a_mount_serves_belongs_to_no_service(shop: Shop, request_: str, key: str | None) -> None:
    shop.services.append(service("open", max_concurrent_requests=1))
    shop.mounts.append(MountPlan(path="/static/", folder="."))
    shop.route("GET /api/{rest:path}", hello, service="open")
    shop.route("POST /static/a/", hello, service="open")
    shop.route("GET /api", hello, service="open")
    assert found(shop, request_) == key


def found(shop: Shop, request_: str) -> str | None:
    method, path, *asked = request_.split(" ")
    headers = [(b"origin", b"x"), (b"access-control-request-method", asked[0].encode())] if asked else []
    connections: Any = shop.connections
    nobody: Any = print
    services = Services(shop.plan(), connections, nobody)
    kind = {"type": "websocket"} if method == "WS" else {"type": "http", "method": method}
    front = services.of({**kind, "path": path, "headers": headers})
    return next((key for key, value in services.fronts.items() if value is front), None)


# CORS


def allowed(answer: Any) -> str | None:
    header: str | None = answer.headers.get("access-control-allow-origin")
    return header


def test_two_services_have_two_policies_and_other_routes_none(shop: Shop) -> None:
    shop.services += [
        service("open", cors=cors("*")),
        service("shop", cors=cors(SHOP, methods=("put", "GET"), headers=("X-One",), credentials=True, max_age=5.0)),
        service("plain"),
    ]
    shop.route("GET /items/{item_id}", hello, service="open")
    shop.route("PUT /items/{item_id}", hello, service="shop")
    shop.route("GET /plain", hello, service="plain")
    shop.route("GET /none", hello)
    with client_of(shop.gateway()) as http:
        of = {"origin": SHOP}
        assert allowed(http.get("/items/1", headers=of)) == "*"
        assert allowed(http.put("/items/1", headers=of)) == SHOP
        assert http.put("/items/1", headers=of).headers["access-control-allow-credentials"] == "true"
        assert allowed(http.put("/items/1", headers={"origin": ELSEWHERE})) is None
        assert allowed(http.get("/items/1")) is None, "there is no origin to allow"
        for path in ("/plain", "/none", "/docs", "/nowhere"):
            answer = http.get(path, headers=of)
            assert (allowed(answer), answer.headers.get("vary")) == (None, None)

        def preflight(path: str, method: str, origin: str = SHOP) -> Any:
            return http.options(path, headers={"origin": origin, "access-control-request-method": method})

        taken = preflight("/items/1", "PUT")
        assert (taken.status_code, allowed(taken), taken.headers["access-control-max-age"]) == (200, SHOP, "5")
        assert taken.headers["access-control-allow-methods"] == "PUT, GET"
        assert "X-One" in taken.headers["access-control-allow-headers"]
        assert allowed(preflight("/items/1", "GET", ELSEWHERE)) == "*"
        assert preflight("/items/1", "PUT", ELSEWHERE).status_code == 400
        assert preflight("/plain", "GET").status_code == 405
        assert preflight("/nowhere", "GET").status_code == 404


def test_a_route_that_answers_preflights_itself_goes_on_doing_so(shop: Shop) -> None:
    shop.services.append(service("small", max_request_size=10))
    shop.route("GET /a", hello, service="small")
    shop.route("OPTIONS /a", hello, service="small")
    with client_of(shop.gateway()) as http:
        asked = {"origin": SHOP, "access-control-request-method": "GET"}
        assert http.options("/a", headers=asked).json() == "hello"


def test_origins_may_be_known_after_apply_only(shop: Shop) -> None:
    shop.services.append(service("shop", cors=cors("${primitives.site.url}")))
    shop.route("GET /", hello, service="shop")
    with client_of(shop.gateway()) as http:
        assert allowed(http.get("/", headers={"origin": "the primitives site.url"})) == "the primitives site.url"


def refuse(request: HTTPConnection) -> None:
    raise HTTPException(401, "no", {"www-authenticate": "Bearer"})


async def slow() -> None:
    await asyncio.sleep(60)


async def broken() -> None:
    raise ZeroDivisionError


async def missing() -> None:
    raise ObjectNotFound("no such thing")


async def number(n: int) -> int:
    return n


ERRORS = [
    ("GET", "/private", b"", 401),
    ("GET", "/number?n=x", b"", 422),
    ("POST", "/echo", b"1" * (SIZE + 1), 413),
    ("POST", "/echo", [b"1" * SIZE, b"1"], 413),
    ("GET", "/slow", b"", 504),
    ("GET", "/broken", b"", 500),
    ("GET", "/missing", b"", 404),
    ("DELETE", "/echo", b"", 405),
    ("GET", "/number/?n=1", b"", 307),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), ERRORS)
def test_a_page_of_another_origin_can_read_what_went_wrong(
    shop: Shop, method: str, path: str, body: Any, status: int
) -> None:
    shop.services.append(service("shop", cors=cors(SHOP)))
    shop.dependency("nobody", "request", refuse)
    shop.route("GET /private", hello, service="shop", auth="nobody")
    shop.route("POST /echo", echo, service="shop")
    for function, options in ((slow, {"timeout": 0.02}), (broken, {}), (missing, {}), (number, {})):
        shop.route(f"GET /{function.__name__}", function, service="shop", **options)
    with served(shop.gateway()) as port:
        answer = ask(port, method, path, iter(body) if isinstance(body, list) else body, Origin=SHOP)
    assert (answer[0], answer[1].get("access-control-allow-origin")) == (status, SHOP)


@pytest.mark.parametrize("limited", ["gateway", "service"])
def test_a_page_of_another_origin_can_read_that_it_is_too_much(shop: Shop, limited: str) -> None:
    limits: dict[str, Any] = {"max_concurrent_requests": 1} if limited == "service" else {}
    shop.services.append(service("shop", cors=cors(SHOP), **limits))
    with full(shop, **({} if limits else {"max_concurrent_requests": 1})) as port:
        status, headers, _ = ask(port, "GET", "/", Origin=SHOP)
        asked = ask(port, "OPTIONS", "/", Origin=SHOP, Access_Control_Request_Method="GET")
    assert (status, headers["retry-after"], headers["access-control-allow-origin"]) == (503, "1", SHOP)
    assert asked[0] == 200, "a preflight is no work"


@contextlib.contextmanager
def full(shop: Shop, **options: Any) -> Iterator[int]:
    """A gateway with one request of the service `shop` under way."""
    entered, leave = threading.Event(), threading.Event()

    def wait() -> str:
        entered.set()
        assert leave.wait(10)
        return "done"

    shop.route("GET /", wait, service="shop")
    shop.route("GET /other", hello)
    shop.route("WS /chat", talk, service="shop")
    answers: list[int] = []
    with served(shop.gateway(**options)) as port:
        first = threading.Thread(target=lambda: answers.append(ask(port, "GET", "/")[0]))
        first.start()
        try:
            assert entered.wait(10)
            yield port
        finally:
            leave.set()
            first.join()
        assert ask(port, "GET", "/")[0] == 200
    assert answers == [200]


def test_a_page_of_another_origin_can_read_that_it_is_not_ready(shop: Shop) -> None:
    def never() -> str:
        raise OSError("no model")

    shop.services.append(service("shop", cors=cors(SHOP)))
    shop.dependency("model", "replica", never)
    shop.route("GET /", hello, service="shop")
    with client_of(shop.gateway()) as http:
        answer = http.get("/", headers={"origin": SHOP})
    assert (answer.status_code, answer.headers["retry-after"], allowed(answer)) == (503, "2", SHOP)


# limits

HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": "MTIzNDU2Nzg5MDEyMzQ1Ng==",
}


def test_a_service_that_is_full_leaves_room_for_the_others(shop: Shop) -> None:
    shop.services.append(service("shop", max_concurrent_requests=1))
    with full(shop) as port:
        status, headers, body = ask(port, "GET", "/")
        assert (status, headers["retry-after"]) == (503, "1")
        assert json.loads(body)["detail"] == "too many requests at once; try again"
        assert ask(port, "GET", "/other")[0] == 200
        assert ask(port, "GET", "/chat", **HANDSHAKE)[0] == 403
        assert b"buildflow_requests_refused_total 2\n" in ask(port, "GET", "/_platform/metrics")[2]


@pytest.mark.parametrize("limit", [SIZE // 10, SIZE * 3])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_service_has_its_own_request_size_instead_of_the_gateways(shop: Shop, limit: int, chunked: bool) -> None:
    shop.services.append(service("shop", max_request_size=limit))
    shop.route("POST /shop", echo, service="shop")
    shop.route("POST /other", echo)

    def post(path: str, size: int) -> Any:
        body = b"1" * size
        return ask(port, "POST", path, iter([body[:1], body[1:]]) if chunked else body)

    with served(shop.gateway()) as port:
        assert json.loads(post("/shop", limit)[2]) == {"size": limit}
        assert detail(post("/shop", limit + 1)) == (413, f"the request is larger than {limit:,} bytes")
        assert json.loads(post("/other", SIZE)[2]) == {"size": SIZE}
        assert detail(post("/other", SIZE + 1)) == (413, f"the request is larger than {SIZE:,} bytes")


# middleware

made: list[str] = []


class Named:
    """Says its name in a header and in the scope."""

    def __init__(self, app: Any, name: str) -> None:
        made.append(name)
        self.app, self.name = app, name

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope["names"] = [*scope.get("names", ()), self.name]

        async def named(message: Any) -> None:
            if message["type"] in ("http.response.start", "websocket.accept"):
                message["headers"] = [*message.get("headers", ()), (b"x-name", self.name.encode())]
            await send(message)

        await self.app(scope, receive, named)


async def names(request: HTTPConnection) -> list[str]:
    return request.scope.get("names", [])


def test_middleware_is_made_once_and_stands_around_exactly_its_routes(shop: Shop) -> None:
    named = shop.named(Named)
    outer, inner = (named, {"name": "outer"}), (named, {"name": "${secret.INNER}"})
    shop.services += [service("two", outer, inner), service("one", (named, {"name": "one"}))]
    for path, owner in (("/a", "two"), ("/b/{x}", "two"), ("/c", "one"), ("/d", None)):
        shop.route(f"GET {path}", names, service=owner)
    made.clear()
    with client_of(shop.gateway()) as http:
        assert made == ["the secret INNER", "outer", "one"]
        for path, expected in (("/a", made[1::-1]), ("/b/1", made[1::-1]), ("/c", ["one"]), ("/d", [])):
            answer = http.get(path)
            assert (answer.json(), answer.headers.get_list("x-name")) == (expected, expected[::-1])
        assert "x-name" not in http.get("/nowhere").headers
        assert len(made) == 3


def test_middleware_of_websockets(shop: Shop) -> None:
    async def names(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_json([*socket.scope["names"], dict(socket.session)])
        await socket.close()

    async def sign_in(request: Request) -> None:
        request.session["user"] = "ada"

    named = (shop.named(Named), {"name": "outer"})
    session = ("starlette.middleware.sessions:SessionMiddleware", {"secret_key": "${secret.KEY}"})
    shop.services.append(service("chat", named, session))
    shop.route("WS /chat", names, service="chat")
    shop.route("GET /sign-in", sign_in, service="chat")
    with client_of(shop.gateway()) as http:
        http.get("/sign-in")
        with http.websocket_connect("/chat") as connection:
            assert connection.receive_json() == ["outer", {"user": "ada"}]
            assert (b"x-name", b"outer") in (connection.extra_headers or [])


def test_https_only(shop: Shop) -> None:
    shop.services.append(service("secure", "starlette.middleware.httpsredirect:HTTPSRedirectMiddleware"))
    shop.route("GET /secure", hello, service="secure")
    shop.route("GET /open", hello)
    with client_of(shop.gateway()) as http:
        answer = http.get("/secure?a=b")
        assert (answer.status_code, answer.headers["location"]) == (307, "https://testserver/secure?a=b")
        assert http.get("/open").json() == "hello"


class Counting(BaseHTTPMiddleware):
    """Sees what handlers raise, as an app's middleware does."""

    async def dispatch(self, request: Request, call_next: Any) -> Any:
        try:
            return await call_next(request)
        except ZeroDivisionError:
            return JSONResponse({"detail": "caught"}, 418)


def test_middleware_sees_what_a_handler_raises(shop: Shop) -> None:
    shop.services.append(service("shop", shop.named(Counting)))
    shop.route("GET /broken", broken, service="shop")
    shop.route("GET /missing", missing, service="shop")
    shop.route("POST /echo", echo, service="shop")
    with served(shop.gateway()) as port:
        assert detail(ask(port, "GET", "/broken")) == (418, "caught")
        assert detail(ask(port, "GET", "/missing")) == (404, "no such thing")
        assert ask(port, "POST", "/echo", iter([b"1" * SIZE, b"1"]))[0] == 413
        assert json.loads(ask(port, "POST", "/echo", b"12")[2]) == {"size": 2}


class Breaks:
    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        raise HTTPException(429, "slowly") if scope["query_string"] else ZeroDivisionError


def test_middleware_that_fails_is_a_500_with_the_services_headers(shop: Shop) -> None:
    shop.services.append(service("shop", shop.named(Breaks), cors=cors("*")))
    shop.route("GET /", hello, service="shop")
    with client_of(shop.gateway()) as http:
        for path, status in (("/", 500), ("/?a", 429)):
            answer = http.get(path, headers={"origin": SHOP})
            assert (answer.status_code, allowed(answer)) == (status, "*")


@pytest.mark.parametrize(
    ("middleware", "words"),
    [
        (("nowhere:Middleware", {}), "nowhere:Middleware cannot be imported"),
        (("starlette.middleware.gzip:GZip", {}), 'has no "GZip"'),
        (("starlette.middleware.gzip:GZipMiddleware", {"size": 1}), "unexpected keyword argument 'size'"),
    ],
)
def test_middleware_that_cannot_be_made_keeps_the_gateway_closed(shop: Shop, middleware: Any, words: str) -> None:
    shop.services.append(service("shop", middleware))
    shop.route("GET /", hello, service="shop")
    gateway = shop.gateway()
    with client_of(gateway) as http:
        assert http.get("/").status_code == 503
    assert words in gateway.error


# auth

events: list[str] = []


def let_in(request: HTTPConnection) -> str:
    events.append("auth")
    if request.headers.get("x-user") is None:
        raise HTTPException(401, "who are you?", {"www-authenticate": "Bearer"})
    if request.headers["x-user"] == "bob":
        raise HTTPException(403, "not you")
    return request.headers["x-user"]


async def let_in_async(request: HTTPConnection) -> str:
    return let_in(request)


def let_in_with_clean_up(request: HTTPConnection) -> Iterator[str]:
    yield let_in(request)
    events.append("clean-up")


async def let_in_async_with_clean_up(request: HTTPConnection) -> AsyncIterator[str]:
    yield let_in(request)
    events.append("clean-up")


class LetIn:
    def __init__(self, request: HTTPConnection) -> None:
        self.name = let_in(request)


GUARDS = [let_in, let_in_async, let_in_with_clean_up, let_in_async_with_clean_up, LetIn]


@pytest.mark.parametrize("scope", ["request", "none"])
@pytest.mark.parametrize("guard", GUARDS)
def test_nobody_gets_past_a_dependency_that_raises(shop: Shop, guard: Any, scope: str) -> None:
    async def handler() -> str:
        events.append("handler")
        return "in"

    def collect(row: dict[str, Any]) -> dict[str, Any]:
        events.append("handler")
        return row

    def stream() -> StreamingResponse:
        events.append("handler")
        return StreamingResponse(iter([b"in"]))

    shop.dependency("user", scope, guard)
    shop.route("GET /", handler, auth="user")
    shop.route("GET /in-time", handler, auth="user", timeout=5)
    shop.route("GET /stream", stream, auth="user")
    shop.route("POST /rows", collect, auth="user", sink="sales")
    calls = [("GET", "/"), ("GET", "/in-time"), ("GET", "/stream"), ("POST", "/rows")]
    with client_of(shop.gateway()) as http:
        for method, path in calls:
            for user, status in ((None, 401), ("bob", 403), ("ada", 200)):
                events.clear()
                headers = {"x-user": user} if user else {}
                answer = http.request(method, path, headers=headers, json={"name": "a"} if method == "POST" else None)
                assert answer.status_code == status
                clean_up = ["clean-up"] if "clean_up" in guard.__name__ else []
                assert events == (["auth", "handler", *clean_up] if status == 200 else ["auth"])
                assert ("www-authenticate" in answer.headers) is (status == 401)
    assert len(shop.connections.store.rows) == 1


@pytest.mark.parametrize(("scope", "built"), [("request", 1), ("none", 2), ("replica", 0), ("global", 0)])
def test_a_handler_takes_the_same_value_that_let_it_in(shop: Shop, scope: str, built: int) -> None:
    def user() -> list[int]:
        events.append("built")
        return [len(events)]

    async def whole(user: list[int]) -> list[int]:
        return [*user]

    async def show(user: list[int], profile: list[int]) -> list[list[int]]:
        return [user, profile]

    shop.dependency("user", scope, user)
    shop.dependency("profile", "request", whole, "user")
    shop.route("GET /one", lambda user: user, "user", auth="user")
    shop.route("GET /", show, "user", "profile", auth="user")
    events.clear()
    with client_of(shop.gateway()) as http:
        before = len(events)
        http.get("/one")
        assert len(events) - before == built
        user_, profile = http.get("/").json()
    assert (user_ == profile) is (scope != "none")


def test_auth_may_need_other_dependencies(shop: Shop) -> None:
    def token(x_token: Annotated[str, Header()]) -> str:
        return x_token

    def user(token: str, users: dict[str, str]) -> str:
        if token not in users:
            raise HTTPException(403, "not you")
        return users[token]

    shop.dependency("users", "replica", lambda: {"1": "ada"})
    shop.dependency("token", "request", token)
    shop.dependency("user", "request", user, "token", "users")
    shop.route("GET /", hello, auth="user")
    with client_of(shop.gateway()) as http:
        assert [http.get("/", headers=h).status_code for h in ({"x-token": "1"}, {"x-token": "2"}, {})] == [
            200,
            403,
            422,
        ]


def test_a_replaced_one_lets_everybody_in(shop: Shop) -> None:
    shop.dependency("user", "request", let_in)
    shop.route("GET /", lambda user: user, "user", auth="user")
    with client_of(shop.gateway(replace={"user": "a fake"})) as http:
        assert http.get("/").json() == "a fake"


def close_it(socket: WebSocket) -> None:
    raise WebSocketException(1008, "not you")


@pytest.mark.parametrize(("guard", "code"), [(let_in, 401), (close_it, 1008)])
def test_a_websocket_is_refused_before_it_is_accepted(shop: Shop, guard: Any, code: int) -> None:
    shop.dependency("user", "request", guard)
    shop.route("WS /chat", talk, auth="user")
    hand_written = FastAPI()
    hand_written.websocket("/chat", dependencies=[Depends(guard)])(talk)
    with client_of(shop.gateway()) as http, TestClient(hand_written) as by_hand:
        for client in (http, by_hand):
            with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect("/chat"):
                pass
            assert (getattr(refused.value, "code", 401), getattr(refused.value, "status_code", 401)) == (code, 401)
        if code == 401:
            with http.websocket_connect("/chat", headers={"x-user": "ada"}) as connection:
                assert connection.receive_text() == "hello"


def test_a_websocket_that_is_refused_is_an_answer_of_http(shop: Shop) -> None:
    shop.dependency("user", "request", let_in)
    shop.dependency("nobody", "request", close_it)
    shop.route("WS /chat", talk, auth="user")
    shop.route("WS /never", talk, auth="nobody")
    with served(shop.gateway()) as port:
        assert ask(port, "GET", "/never", **HANDSHAKE)[0] == 403
        assert detail(ask(port, "GET", "/chat", **HANDSHAKE)) == (401, "who are you?")


# all of it, against the same by hand

GZIP = "starlette.middleware.gzip:GZipMiddleware"
SESSIONS = "starlette.middleware.sessions:SessionMiddleware"


async def current_user(request: Request, x_token: Annotated[str, Header()]) -> str:
    if x_token != "ada":
        raise HTTPException(403, "not you")
    request.session["user"] = x_token
    return x_token


async def show_item(item_id: int, last: Annotated[str, Cookie()] = "none") -> dict[str, Any]:
    return {"id": item_id, "last": last, "long": "long " * 200}


def put_item(item_id: int, item: dict[str, int]) -> dict[str, int]:
    return item | {"id": item_id}


ASKED = {"origin": SHOP, "access-control-request-headers": "x-token"}
REQUESTS: list[tuple[str, str, dict[str, str], Any]] = [
    ("GET", "/api/items/1", {"x-token": "ada"}, None),
    ("GET", "/api/items/1", {"x-token": "ada", "origin": SHOP, "cookie": "last=5"}, None),
    ("GET", "/api/items/1", {"x-token": "ada", "accept-encoding": "identity"}, None),
    ("GET", "/api/items/1", {"x-token": "bob", "origin": SHOP}, None),
    ("GET", "/api/items/1", {"origin": SHOP}, None),
    ("GET", "/api/items/x", {"x-token": "ada", "origin": ELSEWHERE}, None),
    ("GET", "/api/items/x", {}, None),
    ("PUT", "/api/items/1", {"x-token": "ada", "origin": SHOP}, {"a": 1}),
    ("PUT", "/api/items/1", {"x-token": "bob"}, {"a": "x"}),
    ("PUT", "/api/items/1", {"x-token": "ada"}, {"a": "x"}),
    ("GET", "/api/broken", {"x-token": "ada", "origin": SHOP}, None),
    ("GET", "/api/items/1/", {"x-token": "ada", "origin": SHOP}, None),
    ("OPTIONS", "/api/items/1", {**ASKED, "access-control-request-method": "PUT"}, None),
    ("OPTIONS", "/api/items/1", {**ASKED, "access-control-request-method": "DELETE"}, None),
    ("OPTIONS", "/api/items/1", {**ASKED, "access-control-request-method": "GET", "origin": ELSEWHERE}, None),
    ("OPTIONS", "/api/broken", {**ASKED, "access-control-request-method": "GET"}, None),
]
HANDLERS = {"GET /items/{item_id}": show_item, "PUT /items/{item_id}": put_item, "GET /broken": broken}


def by_hand() -> Any:
    """What FastAPI's pages tell one to write. CORS stands outside the app, so that a 500 has its headers, too."""
    made = FastAPI(title="shop")
    made.add_middleware(SessionMiddleware, secret_key="key", max_age=None)
    made.add_middleware(GZipMiddleware, minimum_size=100)
    router = APIRouter(prefix="/api", dependencies=[Depends(current_user)])
    for route, handler in HANDLERS.items():
        method, _, path = route.partition(" ")
        router.add_api_route(path, handler, methods=[method])
    made.include_router(router)
    return CORSMiddleware(
        made,
        allow_origins=[SHOP],
        allow_methods=["GET", "PUT"],
        allow_headers=["x-token"],
        allow_credentials=True,
        max_age=60,
    )


@pytest.fixture
def as_declared(shop: Shop) -> Gateway:
    policy = cors(SHOP, methods=("GET", "PUT"), headers=("x-token",), credentials=True, max_age=60.0)
    sessions = (SESSIONS, {"secret_key": "key", "max_age": None})
    shop.services.append(service("api", (GZIP, {"minimum_size": 100}), sessions, cors=policy))
    shop.dependency("user", "request", current_user)
    for route, handler in HANDLERS.items():
        shop.route(route.replace(" ", " /api"), handler, service="api", auth="user")
    return shop.gateway()


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda r: f"{r[0]} {r[1]} {r[2]}")
def test_the_answer_is_that_of_the_same_app_by_hand(as_declared: Gateway, request_: Any) -> None:
    method, path, headers, body = request_
    answers = []
    with client_of(as_declared) as ours, TestClient(by_hand(), raise_server_exceptions=False) as theirs:
        for client in (ours, theirs):
            found = client.request(method, path, headers=headers, json=body, follow_redirects=False)
            kept = sorted((k, without_time(v)) for k, v in found.headers.multi_items())
            answers.append((found.status_code, kept, found.content))
    assert answers[0] == answers[1]


def without_time(value: str) -> str:
    """A session's cookie is signed with the second of its making."""
    return value.partition(".")[0] if value.startswith("session=") else value


# what does not run yet


def test_what_would_be_ignored_is_refused(tmp_path: Path) -> None:
    project(tmp_path, NOT_YET, shop="def hello(): ...")
    for command in (["run"], ["gateway"], ["worker"], ["watcher"]):
        ended = platform(tmp_path, *command)
        assert (ended.returncode, ended.stdout) == (1, "")
        assert "buildflow.yaml:4:21" in ended.stderr
        assert "`services.api.replicas`" in ended.stderr
        assert "buildflow.yaml:6:46" in ended.stderr
        assert "2 keys of buildflow.yaml do not run in this version; nothing was started" in ended.stderr
    assert not (tmp_path / ".buildflow").exists()
    with pytest.raises(ProjectInvalid, match=r"yaml:4:21 .*`services.api.replicas`"), app(tmp_path / "buildflow.yaml"):
        pass


NOT_YET = """\
project: shop
stacks: {local: {provider: local}}
services:
  api: {prefix: /a, replicas: 2}
routes:
  GET /: {handler: shop:hello, service: api, run_in: worker}
"""
