"""Built-in dependencies from YAML to answer: in routes, with what the API's documentation shows, and in consumers."""

import asyncio
import contextlib
import http.server
import json
import threading
import types
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.websockets import WebSocketDisconnect

from buildflow.errors import DependencyFailed
from buildflow.ir.runtime import DependencyPlan, Injection, RuntimePlan
from buildflow.runtime.dependencies import Container
from buildflow.testing import App, app
from tests.harness import platform, project, running, wait_for

YAML = """\
project: shop
primitives:
  orders: {type: queue}
  prices: {type: table, columns: {name: string, price: integer}}
dependencies:
  api_key: {type: header, name: X-Api-Key}
  language: {type: header, name: accept-language, required: false, default: en}
  referrer: {type: header, name: Referer, required: false}
  token: {type: bearer_token}
  perhaps: {type: bearer_token, required: false}
  http:
    type: http_client
    base_url: "${env.PRICES}"
    timeout: 5s
    headers: {X-Secret: "${secret.PRICES_KEY}"}
  user: {factory: built_ins:user, scope: request}
services:
  private: {prefix: /private, auth: token}
routes:
  GET /headers: built_ins:headers
  GET /key: {handler: built_ins:nothing, auth: api_key}
  GET /token: built_ins:token
  GET /perhaps: built_ins:perhaps
  GET /user: built_ins:whose
  GET /price/{name}: built_ins:price
  GET /page: {handler: built_ins:nothing, service: private}
  WS /chat: {handler: built_ins:chat, service: private}
consumers:
  ask: {source: orders, handler: built_ins:ask, sink: prices}
"""
HANDLERS = """\
from buildflow.exceptions import HTTPException
from buildflow.requests import WebSocket

def user(token, api_key):
    if token != "ada":
        raise HTTPException(403, "not you")
    return f"{token} with {api_key}"

def headers(api_key, language, referrer) -> list:
    return [api_key, language, referrer]

def token(token: str) -> str:
    return token

def perhaps(perhaps) -> dict:
    return {"token": perhaps}

def whose(user, token) -> list:
    return [user, token]

def nothing() -> None: ...

async def chat(socket: WebSocket, token, language):
    await socket.accept()
    await socket.send_json([token, language])
    await socket.close()

async def price(name: str, http) -> dict:
    return (await http.get(f"/{name}")).json()

async def ask(order: dict, http) -> dict:
    return (await http.get(f"/{order['name']}")).json()
"""


class Prices(http.server.BaseHTTPRequestHandler):
    """Says what a thing costs, to who knows the secret."""

    def do_GET(self) -> None:
        known = self.headers["X-Secret"] == "sesame"
        body = json.dumps({"name": self.path[1:], "price": 5 if known else 0}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None: ...


class PricesKeptOpen(Prices):
    """As most servers do, it keeps its connections."""

    protocol_version = "HTTP/1.1"


@contextlib.contextmanager
def prices(kind: type[Prices]) -> Iterator[dict[str, str]]:
    """The other server; what the environment has to say of it."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield {"PRICES": f"http://127.0.0.1:{server.server_port}", "PRICES_KEY": "sesame"}
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = project(tmp_path_factory.mktemp("shop"), YAML, built_ins=HANDLERS)
    with pytest.MonkeyPatch.context() as environment, prices(Prices) as variables:
        for name, value in variables.items():
            environment.setenv(name, value)
        with app(folder / "buildflow.yaml") as made:
            yield made


BEARER = {"Authorization": "Bearer ada"}
ANSWERS: list[tuple[str, dict[str, str], int, Any]] = [
    ("/headers", {"x-api-key": "k"}, 200, ["k", "en", None]),
    ("/headers", {"X-API-KEY": "k", "Accept-Language": "de", "Referer": "/a"}, 200, ["k", "de", "/a"]),
    ("/headers", {}, 422, "X-Api-Key"),
    ("/key", {"X-Api-Key": ""}, 200, None),
    ("/key", {}, 422, "X-Api-Key"),
    ("/token", BEARER, 200, "ada"),
    ("/token", {"Authorization": "bearer  ada "}, 200, "ada"),
    ("/token", {"Authorization": "Basic ada"}, 401, "Not authenticated"),
    ("/token", {"Authorization": "Bearer "}, 401, "Not authenticated"),
    ("/token", {}, 401, "Not authenticated"),
    ("/perhaps", BEARER, 200, {"token": "ada"}),
    ("/perhaps", {"Authorization": "Basic ada"}, 200, {"token": None}),
    ("/perhaps", {}, 200, {"token": None}),
    ("/user", {**BEARER, "X-Api-Key": "k"}, 200, ["ada with k", "ada"]),
    ("/user", {"Authorization": "Bearer bob", "X-Api-Key": "k"}, 403, "not you"),
    ("/private/page", BEARER, 200, None),
    ("/private/page", {}, 401, "Not authenticated"),
]


@pytest.mark.parametrize(("path", "headers", "status", "expected"), ANSWERS)
def test_a_route_gets_it_or_its_request_is_refused(
    shop: App, path: str, headers: dict[str, str], status: int, expected: Any
) -> None:
    shop.http.headers.pop("accept-language", None)
    answer = shop.http.get(path, headers=headers)
    assert answer.status_code == status
    if status == 422:
        assert answer.json()["detail"][0]["loc"] == ["header", expected]
    else:
        assert (answer.json()["detail"] if status >= 400 else answer.json()) == expected
    assert (answer.headers.get("www-authenticate") == "Bearer") is (status == 401)


def test_a_websocket_has_headers_and_a_token_too(shop: App) -> None:
    with shop.http.websocket_connect("/private/chat", headers={**BEARER, "accept-language": "de"}) as connection:
        assert connection.receive_json() == ["ada", "de"]
    with pytest.raises(WebSocketDisconnect), shop.http.websocket_connect("/private/chat"):
        pass


def test_the_documentation_of_the_api_shows_them(shop: App) -> None:
    document = shop.http.get("/openapi.json").json()
    operations = {path: methods["get"] for path, methods in document["paths"].items()}
    shown = {
        p["name"]: (p["in"], p["required"], p["schema"].get("default")) for p in operations["/headers"]["parameters"]
    }
    assert shown == {
        "X-Api-Key": ("header", True, None),
        "accept-language": ("header", False, "en"),
        "Referer": ("header", False, None),
    }
    assert document["components"]["securitySchemes"] == {"HTTPBearer": {"type": "http", "scheme": "bearer"}}
    for path in ("/token", "/perhaps", "/user", "/private/page"):
        assert operations[path]["security"] == [{"HTTPBearer": []}]
    assert "security" not in operations["/headers"]


def test_an_http_client_is_there_for_routes_and_consumers(shop: App) -> None:
    assert shop.http.get("/price/nut").json() == {"name": "nut", "price": 5}
    shop.send("orders", {"name": "bolt"})
    assert shop.rows("prices", at_least=1) == [{"name": "bolt", "price": 5}]


@pytest.mark.slow
def test_in_real_processes_they_are_the_same(tmp_path: Path) -> None:
    project(tmp_path, YAML, built_ins=HANDLERS)
    with prices(PricesKeptOpen) as variables, running(tmp_path, **variables) as run:
        run.ready()
        request = urllib.request.Request(f"{run.url}/user", headers={**BEARER, "X-Api-Key": "k"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert json.load(answer) == ["ada with k", "ada"]
        for name in ("nut", "bolt"):
            assert run.get_json(f"/price/{name}") == {"name": name, "price": 5}
            assert platform(tmp_path, "send", "orders", json.dumps({"name": name}), **variables).returncode == 0
        found = wait_for(lambda: len(read := rows_of(tmp_path, variables)) == 2 and read)
        assert sorted(row["name"] for row in found) == ["bolt", "nut"]
        assert {row["price"] for row in found} == {5}


def rows_of(folder: Path, variables: dict[str, str]) -> list[dict[str, Any]]:
    asked = platform(folder, "query", "prices", "--json", **variables)
    assert asked.returncode == 0, asked.stderr
    found: list[dict[str, Any]] = json.loads(asked.stdout)
    return found


def test_an_http_client_lives_as_long_as_its_process() -> None:
    container = container_of("http_client", "replica", base_url="http://shop", timeout=1.5, headers={})

    async def life() -> Any:
        await container.open(["it"])
        client = container.values["it"]
        assert (client.base_url.host, client.timeout.connect, client.is_closed) == ("shop", 1.5, False)
        await container.close()
        return client

    assert asyncio.run(life()).is_closed


@pytest.mark.parametrize(("name", "settings"), [("header", {"name": "X-Api-Key"}), ("bearer_token", {})])
def test_without_a_request_there_is_nothing_to_read_it_from(name: str, settings: dict[str, Any]) -> None:
    container = container_of(name, "request", **settings)

    async def take() -> None:
        async with contextlib.AsyncExitStack() as stack:
            await container.value(Injection(parameter="it", kind="dependency", key="it"), stack, {})

    with pytest.raises(DependencyFailed, match=f"`{name}` is read from a request, and only routes have one"):
        asyncio.run(take())


def container_of(built_in: str, scope: Any, **settings: Any) -> Container:
    plan = DependencyPlan(key="it", factory=f"buildflow.dependencies:{built_in}", scope=scope, arguments=settings)
    runtime = RuntimePlan(project="shop", stack="test", provider="local", dir="", dependencies=(plan,))
    connections: Any = types.SimpleNamespace(resolve=lambda value: value)
    return Container(runtime, connections)
