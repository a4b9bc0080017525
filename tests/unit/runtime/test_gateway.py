"""The gateway over a real uvicorn: size, readiness, overload, injection, collectors, time limits, mounts."""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import types
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import Request, WebSocket
from fastapi.responses import HTMLResponse, StreamingResponse
from starlette.testclient import TestClient

from buildflow.errors import InvalidObjectName, InvalidRow, ObjectNotFound, ServiceUnavailable
from buildflow.ir.graph import Resource
from buildflow.ir.runtime import (
    DependencyPlan,
    HandlerPlan,
    Injection,
    MountPlan,
    OptionsPlan,
    RoutePlan,
    RuntimePlan,
    ServicePlan,
)
from buildflow.runtime.dependencies import Container
from buildflow.runtime.gateway import Gateway
from buildflow.spec.interpolation import resolve_references
from tests.unit.runtime.test_dependencies import FORMS
from tests.unit.runtime.test_dependencies import events as closed

SIZE = 1000
MODULE = "gateway_under_test"
IMAGES = Resource(key="images", type="bucket", provider="local", name="images", id="images", label="Bucket", spec={})


class Sink:
    """Holds rows; one named `bad` does not fit."""

    def __init__(self) -> None:
        self.rows: list[Any] = []

    def check(self, row: Any) -> None:
        if row["name"] == "bad":
            raise InvalidRow("bad is no name")

    def commit(self, writer: str, entries: list[Any]) -> None:
        self.rows += [(writer, row) for entry in entries for row in entry.rows]


class Connections:
    """What a gateway asks of its connections, without a Redis."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = Sink()

    def handle(self, key: str) -> str:
        return f"handle of {key}"

    def sink(self, key: str) -> Sink:
        assert key == "sales"
        return self.store

    def resolve(self, value: Any) -> Any:
        return resolve_references(value, lambda root, rest: f"the {root} {rest}")


class Shop:
    """A gateway made of functions, and what happened in it."""

    def __init__(self, root: Path, module: types.ModuleType) -> None:
        self.connections = Connections(root)
        self.module = module
        self.routes: list[RoutePlan] = []
        self.dependencies: list[DependencyPlan] = []
        self.services: list[ServicePlan] = []
        self.mounts: list[MountPlan] = []
        self.events: list[str] = []
        self.notes: list[tuple[str, str]] = []

    def route(self, route: str, function: Any, *inject: str, **options: Any) -> None:
        method, _, path = route.partition(" ")
        handler = HandlerPlan(function=self.named(function), inject=tuple(map(self._injection, inject)))
        self.routes.append(RoutePlan(method=method, path=path, handler=handler, **options))

    def dependency(self, key: str, scope: Any, factory: Any, *inject: str, **arguments: Any) -> None:
        named = factory if isinstance(factory, str) else self.named(factory)
        injections = tuple(map(self._injection, inject))
        plan = DependencyPlan(key=key, factory=named, scope=scope, arguments=arguments, inject=injections)
        self.dependencies.append(plan)

    def named(self, function: Any) -> str:
        name = f"f{len(vars(self.module))}"
        setattr(self.module, name, function)
        return f"{MODULE}:{name}"

    def _injection(self, key: str) -> Injection:
        kind: Any = "dependency" if key in {d.key for d in self.dependencies} else "primitive"
        return Injection(parameter=key, kind=kind, key=key)

    def plan(self, **options: Any) -> RuntimePlan:
        return RuntimePlan(
            project="shop",
            stack="test",
            provider="local",
            dir="",
            options=OptionsPlan(max_request_size=SIZE, **options),
            resources=(IMAGES,),
            services=tuple(self.services),
            routes=tuple(self.routes),
            mounts=tuple(self.mounts),
            dependencies=tuple(self.dependencies),
            gateway_dependencies=tuple(d.key for d in self.dependencies),
        )

    def gateway(self, *, replace: Any = None, **options: Any) -> Gateway:
        connections: Any = self.connections
        notify: Any = lambda state, error="": self.notes.append((state, error))  # noqa: E731
        plan = self.plan(**options)
        return Gateway(plan, connections, Container(plan, connections, replace=replace), notify)


def make_shop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    module = types.ModuleType(MODULE)
    monkeypatch.setitem(sys.modules, MODULE, module)
    return Shop(folder, module)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    return make_shop(tmp_path, monkeypatch)


@contextlib.contextmanager
def served(gateway: Gateway, *, ready: bool = True) -> Iterator[int]:
    """Under uvicorn, in a thread; the port."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        config = uvicorn.Config(gateway, log_config=None, lifespan="on", ws="websockets-sansio")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        port = listening.getsockname()[1]
        try:
            until(lambda: server.started and (not ready or gateway.app is not None or bool(gateway.error)))
            yield port
        finally:
            server.should_exit = True
            thread.join(10)


def until(what: Callable[[], bool]) -> None:
    waiting = threading.Event()
    for _ in range(1000):
        if what():
            return
        waiting.wait(0.01)
    raise AssertionError("it did not come")


def ask(port: int, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def detail(answer: tuple[int, dict[str, str], bytes]) -> tuple[int, Any]:
    return answer[0], json.loads(answer[2])["detail"]


async def echo(request: Request) -> dict[str, int]:
    return {"size": len(await request.body())}


async def taken(body: dict[str, Any]) -> dict[str, int]:
    return {"keys": len(body)}


# size


@pytest.mark.parametrize("path", ["/echo", "/json", "/nowhere"])
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_body_that_says_it_is_too_large_is_sent_whole_and_the_413_read(shop: Shop, path: str, method: str) -> None:
    for verb in ("POST", "DELETE"):
        shop.route(f"{verb} /echo", echo)
        shop.route(f"{verb} /json", taken)
    with served(shop.gateway()) as port:
        body = b"1" * (SIZE * 9)
        found = ask(port, method, path, body, Content_Type="application/json")
    assert detail(found) == (413, f"the request is larger than {SIZE:,} bytes")


@pytest.mark.parametrize("path", ["/echo", "/json"])
def test_a_body_that_says_nothing_of_its_size_is_counted(shop: Shop, path: str) -> None:
    shop.route("POST /echo", echo)
    shop.route("POST /json", taken)
    with served(shop.gateway()) as port:
        chunks = [b'{"a": "', *([b"1" * 100] * 90), b'"}']
        large = ask(port, "POST", path, iter(chunks), Content_Type="application/json")
        small = ask(port, "POST", path, iter([b'{"a":', b" 1}"]), Content_Type="application/json")
    assert detail(large) == (413, f"the request is larger than {SIZE:,} bytes")
    assert (small[0], list(json.loads(small[2]).values())) == (200, [8 if path == "/echo" else 1])


def test_a_body_of_exactly_the_limit_is_taken(shop: Shop) -> None:
    shop.route("POST /echo", echo)
    with served(shop.gateway()) as port:
        assert json.loads(ask(port, "POST", "/echo", b"1" * SIZE)[2]) == {"size": SIZE}
        chunked = ask(port, "POST", "/echo", iter([b"1" * 600, b"1" * 400]))
        assert json.loads(chunked[2]) == {"size": SIZE}
        assert ask(port, "POST", "/echo", b"1" * (SIZE + 1))[0] == 413


def test_a_connection_is_of_use_after_a_413(shop: Shop) -> None:
    shop.route("POST /echo", echo)
    with served(shop.gateway()) as port, contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as kept:
        for body, status in ((b"1" * 5 * SIZE, 413), (b"1", 200), (iter([b"1" * 700] * 3), 413), (b"1", 200)):
            kept.request("POST", "/echo", body)
            answer = kept.getresponse()
            answer.read()
            assert answer.status == status


# readiness and overload


def test_until_its_dependencies_are_built_it_answers_503(shop: Shop) -> None:
    go = threading.Event()

    async def slow() -> str:
        while not go.is_set():
            await asyncio.sleep(0.01)
        return "built"

    async def show(slow: str) -> str:
        return slow

    shop.dependency("slow", "replica", slow)
    shop.route("GET /", show, "slow")
    gateway = shop.gateway()
    with served(gateway, ready=False) as port:
        status, headers, body = ask(port, "GET", "/")
        assert (status, headers["retry-after"], json.loads(body)["detail"]) == (
            503,
            "2",
            "the gateway is not ready; try again",
        )
        assert ask(port, "GET", "/_platform/healthz")[0] == 200
        assert ask(port, "GET", "/_platform/readyz")[0] == 503
        assert gateway.describe()["state"] == "building"
        go.set()
        until(lambda: gateway.app is not None)
        assert ask(port, "GET", "/")[2] == b'"built"'
        assert ask(port, "GET", "/_platform/readyz")[0] == 200
    assert shop.notes == [("ready", "")]


def test_a_dependency_that_fails_is_tried_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("buildflow.runtime.gateway.FIRST_RETRY", 0.2)
    tries: list[int] = []

    def flaky() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise OSError("no model yet")
        return "built"

    async def show(flaky: str) -> str:
        return flaky

    shop.dependency("flaky", "replica", flaky)
    shop.route("GET /", show, "flaky")
    gateway = shop.gateway()
    with served(gateway) as port:
        found = ask(port, "GET", "/")
        assert found[0] == 503
        ready = ask(port, "GET", "/_platform/readyz")
        assert (ready[0], json.loads(ready[2])) == (503, {"status": "failed"})
        assert b"no model yet" not in found[2] + ready[2], "why is for status and the log, not for anybody"
        assert "no model yet" in gateway.describe()["error"]
        until(lambda: gateway.app is not None)
        assert ask(port, "GET", "/")[0] == 200
    assert [state for state, _ in shop.notes] == ["failed", "ready"]


def test_when_it_is_full_it_answers_503_and_says_when_to_come_back(shop: Shop) -> None:
    entered, leave = threading.Semaphore(0), threading.Event()

    def wait() -> str:
        entered.release()
        assert leave.wait(10)
        return "done"

    shop.route("GET /", wait)
    gateway = shop.gateway(max_concurrent_requests=2)
    with served(gateway) as port:
        answers: list[int] = []
        threads = [threading.Thread(target=lambda: answers.append(ask(port, "GET", "/")[0])) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in threads:
            assert entered.acquire(timeout=10)
        status, headers, _ = ask(port, "GET", "/")
        metrics = ask(port, "GET", "/_platform/metrics")[2].decode()
        leave.set()
        for thread in threads:
            thread.join()
        assert (status, headers["retry-after"], answers) == (503, "1", [200, 200])
        assert ask(port, "GET", "/")[0] == 200
    assert "buildflow_requests_refused_total 1\n" in metrics
    assert "buildflow_requests_active 2\n" in metrics
    assert "buildflow_ready 1\n" in metrics
    assert gateway.active == 0


def test_its_own_pages(shop: Shop) -> None:
    with served(shop.gateway()) as port:
        status, headers, body = ask(port, "GET", "/_platform/metrics")
        assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4")
        assert b"# TYPE buildflow_requests_total counter\n" in body
        assert json.loads(ask(port, "GET", "/_platform/healthz")[2]) == {"status": "alive"}
        assert ask(port, "GET", "/_platform/nothing")[0] == 404


# handlers


def test_primitives_and_long_lived_dependencies_are_there_by_name(shop: Shop) -> None:
    async def show(images: Any, model: str, size: int = 1) -> list[Any]:
        return [images, model, size]

    shop.dependency("model", "replica", lambda: "model")
    shop.route("GET /", show, "images", "model")
    with served(shop.gateway()) as port:
        assert json.loads(ask(port, "GET", "/?size=3")[2]) == ["handle of images", "model", 3]
        assert ask(port, "GET", "/?size=x")[0] == 422
        openapi = json.loads(ask(port, "GET", "/openapi.json")[2])
    assert [p["name"] for p in openapi["paths"]["/"]["get"]["parameters"]] == ["size"]


class Clock:
    """Something that no answer is made of by itself."""


def test_annotations_for_type_checkers_alone_are_no_failure(shop: Shop) -> None:
    async def show(images: Any, size: int) -> Any:
        return [images, size]

    show.__annotations__ = {"images": "OnlyForTypeCheckers", "size": "int", "return": "OnlyForTypeCheckers"}
    shop.route("GET /", show, "images")
    with served(shop.gateway()) as port:
        assert json.loads(ask(port, "GET", "/?size=3")[2]) == ["handle of images", 3]
        assert ask(port, "GET", "/?size=x")[0] == 422


def test_what_is_no_model_is_sent_as_it_is(shop: Shop) -> None:
    async def show(html: bool = False) -> HTMLResponse | Clock:
        return HTMLResponse("<p>") if html else Clock()

    shop.route("GET /", show)
    with served(shop.gateway()) as port:
        assert ask(port, "GET", "/?html=1")[2] == b"<p>"
        assert json.loads(ask(port, "GET", "/")[2]) == {}


@pytest.mark.parametrize("is_async", [True, False])
def test_a_request_scoped_dependency_is_closed_after_the_response(shop: Shop, is_async: bool) -> None:
    def session() -> Iterator[str]:
        shop.events.append("open")
        yield "session"
        shop.events.append("close")

    async def session_async() -> AsyncIterator[str]:
        for value in session():
            yield value

    def plain(session: str) -> str:
        shop.events.append("handler")
        return session

    def stream(session: str) -> StreamingResponse:
        def chunks() -> Iterator[bytes]:
            shop.events.append("first")
            yield b"1"
            shop.events.append("last")
            yield b"2"

        return StreamingResponse(chunks())

    shop.dependency("session", "request", session_async if is_async else session)
    shop.route("GET /", plain, "session")
    shop.route("GET /stream", stream, "session")
    with served(shop.gateway()) as port:
        assert ask(port, "GET", "/")[2] == b'"session"'
        until(lambda: len(shop.events) == 3)
        assert shop.events == ["open", "handler", "close"]
        shop.events.clear()
        assert ask(port, "GET", "/stream")[2] == b"12"
        until(lambda: len(shop.events) == 4)
        assert shop.events == ["open", "first", "last", "close"]


@pytest.mark.parametrize(("factory", "clean_up"), FORMS)
def test_every_form_of_a_request_scoped_factory(shop: Shop, factory: Any, clean_up: list[str]) -> None:
    async def show(thing: str) -> str:
        assert closed == []
        return thing

    closed.clear()
    shop.dependency("thing", "request", factory)
    shop.route("GET /", show, "thing")
    with served(shop.gateway()) as port:
        assert ask(port, "GET", "/")[2] == b'"value"'
    assert closed == clean_up


def test_a_request_scoped_dependency_is_closed_when_the_handler_fails(shop: Shop) -> None:
    def session() -> Iterator[str]:
        try:
            yield "session"
        finally:
            shop.events.append("close")

    def fail(session: str) -> None:
        raise ObjectNotFound(f"no such thing in {session}")

    shop.dependency("session", "request", session)
    shop.route("GET /", fail, "session")
    with served(shop.gateway()) as port:
        assert detail(ask(port, "GET", "/")) == (404, "no such thing in session")
    assert shop.events == ["close"]


@pytest.mark.parametrize(
    ("error", "status"), [(ObjectNotFound("no a.png"), 404), (InvalidObjectName("../a"), 400), (InvalidRow("no"), 422)]
)
def test_the_worlds_failures_are_answers(shop: Shop, error: Exception, status: int) -> None:
    async def fail() -> None:
        raise error

    shop.route("GET /", fail)
    with served(shop.gateway()) as port:
        assert detail(ask(port, "GET", "/")) == (status, str(error))


def test_a_service_that_is_out_of_reach_is_a_503_and_why_is_in_the_log(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        raise ServiceUnavailable("Redis at 10.0.0.5 does not answer")

    shop.route("GET /", fail)
    with served(shop.gateway()) as port:
        status, text = detail(ask(port, "GET", "/"))
    assert status == 503
    assert "10.0.0.5" not in text, "that is nothing to tell a client"
    assert "GET /: Redis at 10.0.0.5 does not answer" in caplog.text
    assert "Traceback" not in caplog.text


def test_a_bug_is_a_500_with_its_traceback_in_the_log(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> None:
        raise ZeroDivisionError("a bug")

    shop.route("GET /", broken)
    with served(shop.gateway()) as port:
        status, _, body = ask(port, "GET", "/")
    assert (status, body) == (500, b"Internal Server Error")
    assert "in broken" in caplog.text
    assert "ZeroDivisionError: a bug" in caplog.text


@pytest.mark.parametrize("is_async", [True, False])
def test_a_handler_over_its_time_is_a_504(shop: Shop, is_async: bool) -> None:
    leave = threading.Event()

    async def slow_async() -> None:
        await asyncio.sleep(60)

    def slow() -> None:
        leave.wait(10)

    shop.route("GET /", slow_async if is_async else slow, timeout=0.05)
    shop.route("GET /fast", lambda: 1, timeout=5)
    with served(shop.gateway()) as port:
        assert detail(ask(port, "GET", "/")) == (504, "no answer within 0.05 s")
        assert ask(port, "GET", "/fast")[2] == b"1"
        leave.set()


@pytest.mark.parametrize("is_async", [True, False])
def test_a_collector_answers_when_its_rows_are_stored(shop: Shop, is_async: bool) -> None:
    def collect(row: dict[str, Any]) -> Any:
        return [row, {"name": "second"}] if row["name"] != "none" else None

    async def collect_async(row: dict[str, Any]) -> Any:
        return collect(row)

    shop.route("POST /sales", collect_async if is_async else collect, sink="sales")
    with served(shop.gateway()) as port:
        post = lambda name: ask(port, "POST", "/sales", json.dumps({"name": name}), Content_Type="application/json")  # noqa: E731
        assert (post("first")[0], json.loads(post("none")[2])) == (200, {"success": True})
        assert shop.connections.store.rows == [
            ("POST /sales", {"name": "first"}),
            ("POST /sales", {"name": "second"}),
        ]
        refused = {"type": "invalid_row", "loc": ["body", 0], "msg": "bad is no name"}
        assert detail(post("bad")) == (422, [refused])
        assert len(shop.connections.store.rows) == 2


def test_a_route_has_its_status_and_its_words(shop: Shop) -> None:
    async def create() -> int:
        """Make one."""
        return 1

    shop.route("POST /", create, status=201, tags=("a",), summary="Creates")
    with served(shop.gateway()) as port:
        assert ask(port, "POST", "/")[0] == 201
        operation = json.loads(ask(port, "GET", "/openapi.json")[2])["paths"]["/"]["post"]
    assert (operation["summary"], operation["description"], operation["tags"]) == ("Creates", "Make one.", ["a"])


def test_websockets(shop: Shop) -> None:
    async def chat(socket: WebSocket, images: Any) -> None:
        await socket.accept()
        await socket.send_text(f"{await socket.receive_text()} {images}")
        await socket.close()

    shop.route("WS /chat", chat, "images")
    gateway = shop.gateway()
    with TestClient(gateway) as client:
        until(lambda: gateway.app is not None)
        with client.websocket_connect("/chat") as connection:
            connection.send_text("hello")
            assert connection.receive_text() == "hello handle of images"


def test_mounts(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "a.txt").write_text("a")
    (tmp_path / "secret.txt").write_text("secret")
    shop.mounts.append(MountPlan(path="/static", folder="site"))
    with served(shop.gateway()) as port:
        assert ask(port, "GET", "/static/a.txt")[2] == b"a"
        assert ask(port, "GET", "/static/../secret.txt")[0] == 404
        assert ask(port, "GET", "/static/%2e%2e/secret.txt")[0] == 404


def test_the_socket_of_a_supervisor_is_known_for_what_it_is(tmp_path: Path) -> None:
    """Taken for a unix socket, TCP_NODELAY stays off: answers wait 40 ms. It also knows no client then."""
    (tmp_path / "shop.py").write_text(CLIENT)
    plan = RuntimePlan(
        project="shop",
        stack="test",
        provider="local",
        dir="",
        state_url="redis://127.0.0.1:1/0",  # nobody listens: a gateway serves without its heartbeat
        routes=(RoutePlan(method="GET", path="/", handler=HandlerPlan(function="shop:client")),),
    )
    (tmp_path / "plan.json").write_text(plan.model_dump_json())
    with socket.create_server(("127.0.0.1", 0)) as listening:
        command = [sys.executable, "-m", "buildflow.runtime.gateway", "plan.json", "--fd", str(listening.fileno())]
        process = subprocess.Popen(
            command, cwd=tmp_path, pass_fds=[listening.fileno()], env={**os.environ, "PYTHONPATH": str(tmp_path)}
        )
        try:
            port = listening.getsockname()[1]
            until(lambda: ask(port, "GET", "/")[0] == 200)
            assert ask(port, "GET", "/")[2] == b'"127.0.0.1"'
        finally:
            process.terminate()
            assert process.wait(10) in (0, -signal.SIGTERM)


CLIENT = """\
from buildflow.requests import Request


def client(request: Request):
    return request.client.host
"""
