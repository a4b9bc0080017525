"""The gateway: a FastAPI app made from the plan, under uvicorn.

Whatever can be known before the first request is done then: handlers are imported and checked, long-lived
dependencies built, each route bound once. `Gateway` stands before the app: services, readiness, size and overload.

    python -m buildflow.runtime.gateway PLAN [--host H --port P | --fd N] [--notify FD]
"""

import argparse
import asyncio
import contextlib
import json
import logging
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from buildflow.ir.runtime import RuntimePlan, ServicePlan
from buildflow.runtime.collectors import BODY_SIZE
from buildflow.runtime.connections import Connections
from buildflow.runtime.dependencies import Container
from buildflow.runtime.fast_routes import FastRoutes
from buildflow.runtime.metrics import Sample, as_text, delivery_samples
from buildflow.runtime.process import Heartbeat, Notify, in_words, read_plan, set_up_logging
from buildflow.runtime.services import Front, Services
from buildflow.runtime.web_app import make_app as make_app

log = logging.getLogger("buildflow.gateway")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

FIRST_RETRY, LONGEST_RETRY = 1.0, 60.0
DRAIN_FACTOR = 10
"""How much of a body that is too large is still read, so that the client can read the answer: times the limit."""


class Gateway:
    """The ASGI app. Until its dependencies are built it answers 503 and says why."""

    def __init__(self, plan: RuntimePlan, connections: Connections, container: Container, notify: Notify) -> None:
        self.plan = plan
        self.connections = connections
        self.container = container
        self.notify = notify
        self._app: FastAPI | None = None
        self._routes: FastRoutes | None = None
        self._services: Services | None = None
        self.error = ""
        self.requests = 0
        self.active = 0
        self.refused = 0
        self._limit = plan.options.max_concurrent_requests
        self._no_service = Front(ServicePlan(key=""), plan.options, connections, self._take)
        self._lifespan: contextlib.AsyncExitStack = contextlib.AsyncExitStack()

    @property
    def app(self) -> FastAPI | None:
        """The app, once there is one; setting it opens the gateway."""
        return self._app

    @app.setter
    def app(self, app: FastAPI) -> None:
        self._find_services()
        self._routes = FastRoutes(app)
        self._app = app

    def _find_services(self) -> None:
        """Before there is an app, so that its absence is told with a service's CORS headers, too."""
        if self._services is None:
            services = Services(self.plan, self.connections, self._take)
            self._services = services if services.fronts else None

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if scope["path"].startswith("/_platform/"):
            await self._platform(scope, receive, send)
            return
        service = None if self._services is None else self._services.of(scope)
        if service is None:
            await self._take(scope, receive, send, self._no_service)
        else:
            await service.app(scope, receive, send)

    async def _take(self, scope: MutableMapping[str, Any], receive: Receive, send: Send, service: Front) -> None:
        """Answer a request, or refuse it where it is more than the gateway or its service takes."""
        app, routes = self._app, self._routes
        if app is None or routes is None:
            # why is for `status` and the log: a failure's words may hold what only its owner should read
            await _answer(send, scope, 503, "the gateway is not ready; try again", retry_after=2)
            return
        if self.active >= self._limit or service.active >= service.limit:
            self.refused += 1
            await _answer(send, scope, 503, "too many requests at once; try again", retry_after=1)
            return
        self.requests += 1
        self.active += 1
        service.active += 1
        try:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            length, size = _body_length(scope["headers"]), service.max_request_size
            if length is None:
                await self._counted(routes, size, scope, receive, send)
            elif length <= size:
                scope[BODY_SIZE] = length
                await routes(scope, receive, send)
            else:
                await self._drain(receive, size)
                await _answer(send, scope, 413, _too_large(size))
        finally:
            self.active -= 1
            service.active -= 1

    async def _counted(
        self, app: FastRoutes, size: int, scope: MutableMapping[str, Any], receive: Receive, send: Send
    ) -> None:
        """A body of unknown length: past `size` reading it fails, and whatever the app and middleware make of that,
        the answer is 413."""
        seen, begun = 0, False

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            scope[BODY_SIZE] = seen
            if seen > size:
                if message.get("more_body"):
                    await self._drain(receive, size)
                raise HTTPException(413, _too_large(size))
            return message

        async def answered(message: Message) -> None:
            nonlocal begun
            if begun or seen <= size:
                begun = True
                await send(message)

        try:
            await app(scope, counted, answered)
        except Exception:
            if begun or seen <= size:
                raise
        if seen > size and not begun:
            await _answer(send, scope, 413, _too_large(size))

    async def _drain(self, receive: Receive, size: int) -> None:
        """Read a body that will be refused, so that the client gets to read why instead of a reset connection."""
        seen = 0
        while seen < max(size, self.plan.options.max_request_size) * DRAIN_FACTOR:
            message = await receive()
            seen += len(message.get("body", b""))
            if message["type"] != "http.request" or not message.get("more_body"):
                return

    # the gateway's own pages

    async def _platform(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        page = scope["path"].removeprefix("/_platform/")
        if page == "healthz":
            await JSONResponse({"status": "alive"})(scope, receive, send)
        elif page == "readyz":
            ready = self.app is not None
            status = "ready" if ready else "failed" if self.error else "building"
            await JSONResponse({"status": status}, 200 if ready else 503)(scope, receive, send)
        elif page == "metrics":
            await _send(send, 200, await self._metrics(), b"text/plain; version=0.0.4")
        else:
            await _answer(send, scope, 404, "Not Found")

    async def _metrics(self) -> bytes:
        samples = [
            Sample("buildflow_requests_total", "counter", self.requests),
            Sample("buildflow_requests_refused_total", "counter", self.refused),
            Sample("buildflow_requests_active", "gauge", self.active),
            Sample("buildflow_ready", "gauge", int(self.app is not None)),
        ]
        if self.plan.consumers:
            samples += await run_in_threadpool(delivery_samples, self.connections)
        return as_text(samples)

    # a life

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        building = asyncio.create_task(self._build()) if self.app is None else None
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if building is not None:
            building.cancel()
            await asyncio.gather(building, return_exceptions=True)
        await self._lifespan.aclose()
        await self.container.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _build(self) -> None:
        """Build the dependencies and the app; tried until it works. Requests get 503 meanwhile."""
        delay = FIRST_RETRY
        while True:
            try:
                self._find_services()
                await self.container.open(self.plan.gateway_dependencies)
                app = make_app(self.plan, self.connections, self.container)
                await self._lifespan.enter_async_context(app.router.lifespan_context(app))
            except Exception as exc:
                self.error = in_words(exc)
                self.notify("failed", self.error)
                log.error("the gateway takes no requests: %s; trying again in %g s", self.error, delay)
                await asyncio.sleep(delay)
                delay = min(delay * 2, LONGEST_RETRY)
            else:
                self.error = ""
                self.app = app
                self.notify("ready")
                return

    def describe(self) -> dict[str, Any]:
        state = "ready" if self.app else "failed" if self.error else "building"
        return {"state": state, "error": self.error, "requests": self.requests, "active": self.active}


def _too_large(size: int) -> str:
    return f"the request is larger than {size:,} bytes"


def _body_length(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """The bytes of a request's body as its headers say; None when they do not (a chunked one)."""
    length: int | None = 0
    for name, value in headers:
        if name == b"transfer-encoding":
            return None
        if name == b"content-length":
            length = int(value) if value.isdigit() else None
    return length


async def _answer(
    send: Send, scope: MutableMapping[str, Any], status: int, words: str, *, retry_after: int | None = None
) -> None:
    """A short JSON answer in FastAPI's form; a websocket is closed."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1013})
        return
    headers = [(b"retry-after", str(retry_after).encode())] if retry_after else []
    await _send(send, status, json.dumps({"detail": words}).encode(), b"application/json", headers)


async def _send(
    send: Send, status: int, body: bytes, kind: bytes, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    all_headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *(headers or [])]
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": body})


def main() -> None:
    parser = argparse.ArgumentParser(prog="buildflow.runtime.gateway")
    parser.add_argument("plan", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--fd", type=int, default=None)
    parser.add_argument("--notify", type=int, default=None)
    arguments = parser.parse_args()
    plan = read_plan(arguments.plan)
    set_up_logging("gateway", plan.options.log_level)
    connections = Connections(plan, Path.cwd())
    notify = Notify(arguments.notify)
    gateway = Gateway(plan, connections, Container(plan, connections, threads=True), notify)
    heartbeat = notify.heartbeat = Heartbeat("gateway", connections, gateway.describe).start()
    config = uvicorn.Config(
        gateway,
        host=arguments.host,
        port=arguments.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
        ws_max_size=plan.options.max_request_size,
        lifespan="on",
    )
    # not uvicorn's own `fd`: it takes the socket for a unix one, so that TCP_NODELAY stays off and answers wait 40 ms
    sockets = None if arguments.fd is None else [socket.socket(fileno=arguments.fd)]
    for signum in (signal.SIGTERM, signal.SIGINT):
        # uvicorn ends on them, and then raises them once more: what is below has to run all the same
        signal.signal(signum, lambda *_: None)
    started = time.monotonic()
    try:
        uvicorn.Server(config).run(sockets)
    finally:
        heartbeat.stop()
        connections.close()
        log.debug("the gateway ends after %.0f s", time.monotonic() - started)


if __name__ == "__main__":
    main()
