"""What a service's routes share: CORS and limits before the app, middleware around each of its routes.

    Gateway -> Services.of(request) -> Front: CORS -> limits -> app -> Middleware -> auth -> handler

A request belongs to the service of the route that will answer it, whatever its prefix.
"""

import functools
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from buildflow.errors import HandlerRejected
from buildflow.ir.runtime import CorsPlan, MiddlewarePlan, OptionsPlan, RuntimePlan, ServicePlan
from buildflow.runtime.connections import Connections
from buildflow.runtime.functions import load

ROUTE = "buildflow.route"
"""In a scope: the app of the route that comes behind the service's middleware."""
WEBSOCKET = "WS"
"""The method of a websocket's route in a plan."""
ANY = "*"
"""The method of a mount: it takes all."""


class Take(Protocol):
    """The rest of the gateway: what answers a request, within its service's limits."""

    def __call__(self, scope: Scope, receive: Receive, send: Send, service: "Front") -> Awaitable[None]: ...


class Front:
    """A service before the app. Its CORS headers are on every answer, those that refuse a request included.

    Its request size stands in the place of the gateway's own; its number of requests is a part of the gateway's.
    """

    def __init__(self, plan: ServicePlan, options: OptionsPlan, connections: Connections, take: Take) -> None:
        self.max_request_size = plan.max_request_size or options.max_request_size
        self.limit = plan.max_concurrent_requests or options.max_concurrent_requests
        self.active = 0
        self.has_cors = plan.cors is not None
        self.app: ASGIApp = functools.partial(take, service=self)
        if plan.cors is not None:
            self.app = _cors(plan.cors, self.app, connections)


def _cors(plan: CorsPlan, app: ASGIApp, connections: Connections) -> ASGIApp:
    return CORSMiddleware(
        app,
        allow_origins=connections.resolve(list(plan.origins)),
        allow_methods=[m.upper() for m in plan.methods],
        allow_headers=plan.headers,
        allow_credentials=plan.credentials,
        max_age=int(plan.max_age),
    )


@dataclass(frozen=True, slots=True)
class _Entry:
    """What one route, page or mount matches."""

    method: str
    path: str
    match: Callable[[str], re.Match[str] | None]
    front: Front | None


class Services:
    """The services that stand before the app, found by the routes of a plan."""

    def __init__(self, plan: RuntimePlan, connections: Connections, take: Take) -> None:
        services = [s for s in plan.services if _stands_before(s)]
        self.fronts = {s.key: Front(s, plan.options, connections, take) for s in services}
        self._entries = list(_entries(plan, self.fronts)) if self.fronts else []
        self._http = [e for e in self._entries if e.method != WEBSOCKET]
        methods = {e.method for e in self._entries}
        self._by_method = {m: [e for e in self._entries if e.method in (m, ANY)] for m in methods}
        self._patterns = {m: [e for e in found if "{" in e.path] for m, found in self._by_method.items()}
        plain = [e for e in self._entries if "{" not in e.path]
        self._plain = {(e.method, e.path): self._scan(e.method, e.path) for e in plain}

    def of(self, scope: Scope) -> Front | None:
        """The service of a request; None where nothing of it stands before the app."""
        if scope["type"] == "websocket":
            return self._find(WEBSOCKET, scope["path"])
        if scope["method"] == "OPTIONS" and (asked := _preflight_of(scope)):
            front = self._find(asked, scope["path"])
            if front is not None and front.has_cors:
                return front
        return self._find(scope["method"], scope["path"])

    def _find(self, method: str, path: str) -> Front | None:
        """As `_scan`, with little work for the requests that a route answers."""
        if (method, path) in self._plain:
            return self._plain[method, path]
        for entry in self._patterns.get(method, ()):
            if entry.match(path):
                return entry.front
        return self._scan(method, path)

    def _scan(self, method: str, path: str) -> Front | None:
        """As Starlette's router finds a route: the first that matches, else the first that would with another
        method (its answer is 405), else the one that the answer redirects to."""
        matching = self._by_method.get(method) or self._by_method.get(ANY, [])
        first = next((e for e in matching if e.match(path)), None)
        if first is None and method != WEBSOCKET:
            other = path.rstrip("/") if path.endswith("/") else f"{path}/"
            first = next((e for p in (path, other) for e in self._http if e.match(p)), None)
        return first.front if first else None


def _stands_before(plan: ServicePlan) -> bool:
    return any(part is not None for part in (plan.cors, plan.max_request_size, plan.max_concurrent_requests))


def _entries(plan: RuntimePlan, fronts: Mapping[str, Front]) -> Iterator[_Entry]:
    """In the app's order, which is its precedence: FastAPI's own pages, routes, mounts."""
    for page in FastAPI().routes:
        yield from (_entry(method, getattr(page, "path", ""), None) for method in ("GET", "HEAD"))
    for route in plan.routes:
        yield _entry(route.method, route.path, fronts.get(route.service or ""))
    for mount in plan.mounts:
        yield _entry(ANY, f"{mount.path.rstrip('/')}/{{path:path}}", None)


def _entry(method: str, path: str, front: Front | None) -> _Entry:
    return _Entry(method, path, compile_path(path)[0].match, front)


def _preflight_of(scope: Scope) -> str:
    """The method that a preflight asks for."""
    headers = dict(scope["headers"])
    asked: bytes = headers.get(b"access-control-request-method", b"") if b"origin" in headers else b""
    return asked.decode("latin-1")


class Middleware:
    """A service's middleware, made once; each of the service's routes is behind it."""

    def __init__(self, plans: Sequence[MiddlewarePlan], connections: Connections) -> None:
        self.app: ASGIApp = _to_the_route
        for plan in reversed(plans):
            self.app = _made(plan, self.app, connections)

    def around(self, route: ASGIApp) -> ASGIApp:
        return _Behind(self.app, route)


@dataclass(frozen=True, slots=True)
class _Behind:
    middleware: ASGIApp
    route: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[ROUTE] = self.route
        await self.middleware(scope, receive, send)


async def _to_the_route(scope: Scope, receive: Receive, send: Send) -> None:
    await scope[ROUTE](scope, receive, send)


def _made(plan: MiddlewarePlan, app: ASGIApp, connections: Connections) -> ASGIApp:
    """Raises `HandlerRejected`, in words, where the class cannot be imported or takes other arguments."""
    middleware = load(plan.middleware)
    arguments = connections.resolve(plan.arguments)
    try:
        made: ASGIApp = middleware(app, **arguments)
    except Exception as exc:
        raise HandlerRejected(f"middleware {plan.middleware} raised {type(exc).__name__}: {exc}") from exc
    return made
