"""One handler called with one event, outside the stack's processes: as they would call it, but nothing is leased or
acknowledged, and rows are written only when asked for."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from buildflow.errors import BuildflowError, DependencyFailed
from buildflow.ir.runtime import ConsumerPlan, Injection, RoutePlan, RuntimePlan
from buildflow.primitives.base import Element, Entry
from buildflow.primitives.element_ids import new_id
from buildflow.runtime.connections import Connections
from buildflow.runtime.delivery import ConsumerRunner
from buildflow.runtime.dependencies import Container
from buildflow.runtime.gateway import Gateway
from buildflow.runtime.process import Notify

Message = MutableMapping[str, Any]


def needed(plan: RuntimePlan, inject: Iterable[Injection]) -> tuple[list[str], list[str]]:
    """The dependencies that these injections need, in building order, and the primitives, those of the dependencies
    included."""
    dependencies: set[str] = set()
    primitives: dict[str, None] = {}
    of = {d.key: d.inject for d in plan.dependencies}
    waiting = list(inject)
    while waiting:
        injection = waiting.pop()
        if injection.kind == "primitive":
            primitives[injection.key] = None
        elif injection.key not in dependencies:
            dependencies.add(injection.key)
            waiting += of[injection.key]
    return [d.key for d in plan.dependencies if d.key in dependencies], list(primitives)


async def invoke_consumer(
    consumer: ConsumerPlan,
    connections: Connections,
    body: bytes,
    headers: Mapping[str, str],
    *,
    commit: bool,
) -> tuple[str, list[Any]]:
    """The element's id, which is a fresh one, and the rows that its handler returned; with `commit`, they are in the
    sinks. A handler that takes a batch gets the items of a JSON list, or one element."""
    plan = connections.plan
    container = Container(plan, connections)
    try:
        await container.open(needed(plan, consumer.handler.inject)[0])
        runner = ConsumerRunner(consumer, plan, connections, container)
        try:
            elements = [_element(one, headers) for one in (_items(body) if runner.batched else [body])]
            values = [runner._decode(element) for element in elements]
            rows = await runner._call(values if runner.batched else values[0])
            if commit and runner.sinks:
                runner.sinks.commit([Entry(elements[0].id, rows)])
        finally:
            runner.close()
    finally:
        await container.close()
    return elements[0].id, rows


def _element(body: bytes, headers: Mapping[str, str]) -> Element:
    return Element(id=new_id(), body=body, receipt="", headers=headers, sent_at=datetime.now(UTC))


def _items(body: bytes) -> list[bytes]:
    try:
        found = json.loads(body)
    except ValueError:
        return [body]
    if not isinstance(found, list):
        return [body]
    if not found:
        raise BuildflowError("the batch is empty: give a list of at least one element")
    return [json.dumps(item, ensure_ascii=False).encode() for item in found]


@dataclass
class Answer:
    """What a route answered."""

    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    async def take(self, message: Message) -> None:
        """ASGI's `send`."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in message.get("headers", ())}
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")


async def invoke_route(
    route: RoutePlan, connections: Connections, target: str, body: bytes, headers: Mapping[str, str]
) -> Answer:
    """A route's answer to one request, `target` being its path and query. Raises what the handler raises, and
    `DependencyFailed` where the gateway would take no requests."""
    plan = connections.plan
    auth = [Injection(parameter="auth", kind="dependency", key=route.auth)] if route.auth else []
    keys = needed(plan, [*route.inject, *auth])[0]
    alone = plan.model_copy(update={"routes": (route,), "mounts": (), "gateway_dependencies": tuple(keys)})
    said: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    gateway = Gateway(alone, connections, Container(alone, connections), _Told(said))
    answer = Answer()
    async with _lifespan(gateway):
        state, error = await said.get()
        if state == "failed":
            raise DependencyFailed(error)
        await gateway(_scope(route.method, target, body, headers), _Request(body), answer.take)
    return answer


class _Told(Notify):
    """Takes what a process tells its supervisor."""

    def __init__(self, said: "asyncio.Queue[tuple[str, str]]") -> None:
        super().__init__(None)
        self._said = said

    def __call__(self, state: str, error: str = "") -> None:
        self._said.put_nowait((state, error))


class _Request:
    """ASGI's `receive` of one request: its body, and then a client that waits."""

    def __init__(self, body: bytes) -> None:
        self._messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def __call__(self) -> Message:
        if not self._messages:
            await asyncio.Event().wait()
        return self._messages.pop()


@contextlib.asynccontextmanager
async def _lifespan(app: Gateway) -> AsyncIterator[None]:
    """An ASGI app's life around what is inside."""
    to_app: asyncio.Queue[Message] = asyncio.Queue()
    from_app: asyncio.Queue[Message] = asyncio.Queue()
    life = asyncio.create_task(app({"type": "lifespan", "asgi": {"version": "3.0"}}, to_app.get, from_app.put))
    await to_app.put({"type": "lifespan.startup"})
    await from_app.get()
    try:
        yield
    finally:
        await to_app.put({"type": "lifespan.shutdown"})
        await life


def _scope(method: str, target: str, body: bytes, headers: Mapping[str, str]) -> Message:
    path, _, query = target.partition("?")
    given = {"host": "invoke", "content-length": str(len(body)), **{k.lower(): v for k, v in headers.items()}}
    if body:
        given.setdefault("content-type", "application/json")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(k.encode("latin-1"), v.encode("latin-1")) for k, v in given.items()],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 80),
        "state": {},
    }


def route_of(routes: Sequence[RoutePlan], method: str, target: str) -> RoutePlan | None:
    """The route that answers a request: the first whose path fits, as in the gateway."""
    from starlette.routing import compile_path

    path = unquote(target.partition("?")[0])
    for route in routes:
        if route.method == method and compile_path(route.path)[0].match(path):
            return route
    return None
