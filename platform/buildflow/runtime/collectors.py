"""Collectors: routes with a `sink`. They answer when the sink has the rows, committed together with those of other
requests.

    body -> (handler) -> rows -> Committer -> sink -> 2xx

Without a handler the body is the rows, see `bodies`; with one, what it returns. The answer is `{"success": true}`, or
where the sink takes messages 202 and their ids: `{"id": ...}` for one, `{"ids": [...]}` for a list. A row that the
sink does not take is a 422 that names its fields, in FastAPI's form. When too much waits for the sink, or it cannot
be reached, the answer is 503 with `Retry-After`.

A client that repeats a request with the same `Idempotency-Key` header (1 to 255 characters) does not write twice into
a sink that is effectively once; any other gets the same message ids again, by which their receiver can tell. Keys are
the route's: two clients that choose the same one are taken for one.
"""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from buildflow.errors import HandlerRejected, InvalidRow, ServiceUnavailable
from buildflow.ir.runtime import RoutePlan
from buildflow.primitives.base import Entry, flatten
from buildflow.primitives.element_ids import new_id
from buildflow.runtime.bodies import JSON_LINES, MOST_ERRORS, WITHOUT_BODY, Bodies, body_of, content_type
from buildflow.runtime.committer import Committer, CommitterFull, RowsRefused
from buildflow.runtime.connections import Connections
from buildflow.runtime.fast_routes import BARE_REQUEST
from buildflow.runtime.functions import evaluated_signature

BODY_SIZE = "buildflow.body_size"
"""In a scope: the bytes of the request's body, as far as they are known."""
LONGEST_KEY = 255
RETRY_AFTER = "1"

KEY_HEADER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Repeat a request with the same key, and its rows are written once.",
    "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY},
}


class Collectors:
    """The collectors of one app: a committer for each of their sinks."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._committers: dict[str, Committer] = {}

    def collector(self, route: RoutePlan) -> "Collector":
        assert route.sink is not None
        if route.sink not in self._committers:
            self._committers[route.sink] = Committer(self._connections.sink(route.sink))
        return Collector(route, self._committers[route.sink])

    def bodies(self, route: RoutePlan) -> Bodies:
        """Raises `HandlerRejected` for a path that has values which would go nowhere."""
        assert route.sink is not None
        if "{" in route.path:
            words = f"{route.method} {route.path} has no handler that takes what its path holds"
            raise HandlerRejected(words, hint="give it a handler, or send those values in the body")
        return Bodies(self._connections.plan.resource(route.sink))

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """At its end all that was accepted is committed."""
        try:
            yield
        finally:
            for committer in self._committers.values():
                await run_in_threadpool(committer.close)


class Collector:
    """One route's rows on their way to its sink."""

    def __init__(self, route: RoutePlan, committer: Committer) -> None:
        self.writer = f"{route.method} {route.path}"
        self._committer = committer
        self._message_ids = committer.message_ids
        self.status = route.status or (202 if self._message_ids else 200)

    def around(self, endpoint: Any) -> Any:
        """A handler's endpoint whose answer is given when what it returned is stored."""
        is_async = inspect.iscoroutinefunction(endpoint)
        signature = evaluated_signature(endpoint)
        parameters = list(signature.parameters.values())
        own = next((p.name for p in parameters if _is_request(p.annotation)), None)
        if own is None:
            parameters.append(_BARE)
        parameters.sort(key=lambda p: p.kind)

        async def collect(**arguments: Any) -> Any:
            request = arguments.pop(BARE_REQUEST) if own is None else arguments[own]
            returned = await endpoint(**arguments) if is_async else await run_in_threadpool(endpoint, **arguments)
            if isinstance(returned, Iterator):  # a handler's own code still
                returned = await run_in_threadpool(list, returned)
            return await self.store(returned, request)

        signature = signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)
        return _endpoint(collect, signature, getattr(endpoint, "__name__", "collect"), endpoint.__doc__)

    def of_bodies(self, bodies: Bodies) -> Any:
        """The endpoint of a route without a handler."""

        async def collect(**arguments: Any) -> Any:
            request = arguments[BARE_REQUEST]
            return await self.store(await bodies.read(request), request)

        return _endpoint(collect, inspect.Signature([_BARE]), self.writer, "")

    def openapi(self, bodies: Bodies | None, method: str, path: str) -> dict[str, Any]:
        """What FastAPI cannot read from the endpoint's signature."""
        if bodies is None or method in WITHOUT_BODY:
            return {"parameters": [KEY_HEADER]}
        place = f"#/paths/{path.replace('~', '~0').replace('/', '~1')}/{method.lower()}/requestBody/content"
        schema = bodies.schema(f"{place}/application~1json/schema/$defs/{{model}}")
        return {"parameters": [KEY_HEADER], "requestBody": schema}

    async def store(self, returned: Any, request: Request) -> Any:
        """The answer, once the rows are durable."""
        rows = list(flatten(returned))
        entry = Entry(self._id(request), rows)
        many = not (len(rows) == 1 and rows[0] is returned)
        if rows:
            try:
                await self._committer.commit(self.writer, entry, request.scope.get(BODY_SIZE, 0))
            except InvalidRow as exc:
                raise RequestValidationError(list(_refusals(exc, many))) from exc
            except ServiceUnavailable as exc:
                full = isinstance(exc, CommitterFull)
                words = "too much waits to be stored; try again" if full else "the sink cannot be reached; try again"
                return JSONResponse({"detail": words}, 503, {"Retry-After": RETRY_AFTER})
        if self._message_ids is None:
            return {"success": True}
        ids = list(self._message_ids(self.writer, entry)) if rows else []
        return {"ids": ids} if many else {"id": ids[0]}

    def _id(self, request: Request) -> str:
        key = next((value for name, value in request.scope["headers"] if name == b"idempotency-key"), None)
        if key is None:
            return "" if self._committer.transactional else new_id()
        if not 0 < len(key) <= LONGEST_KEY:
            raise HTTPException(400, f"an Idempotency-Key has 1 to {LONGEST_KEY} characters")
        return str(key, "latin-1")


def _endpoint(call: Callable[..., Awaitable[Any]], signature: inspect.Signature, name: str, doc: str | None) -> Any:
    endpoint: Any = call
    endpoint.__signature__ = signature
    endpoint.__name__ = name
    endpoint.__doc__ = doc
    return endpoint


_BARE = inspect.Parameter(BARE_REQUEST, inspect.Parameter.KEYWORD_ONLY, annotation=Request)


def _is_request(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Request)


def _refusals(exc: InvalidRow, many: bool) -> Iterator[dict[str, Any]]:
    """What the sink has against rows, in FastAPI's form."""
    rows = exc.rows if isinstance(exc, RowsRefused) else [(None, exc)]
    for number, reason in rows[:MOST_ERRORS]:
        place = ("body",) if number is None or not many else ("body", number)
        for path, words in reason.fields or [((), str(reason))]:
            yield {"type": "invalid_row", "loc": (*place, *path), "msg": words}


def lines_as_array(app: ASGIApp) -> ASGIApp:
    """Before a route whose handler takes a body: lines of JSON arrive as a JSON array, for a `list[T]`."""

    async def converted(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        if content_type(request) not in JSON_LINES:
            await app(scope, receive, send)
            return
        lines = [line for line in (await body_of(request)).splitlines() if line.strip()]
        body = b"[" + b",".join(lines) + b"]"
        kept = [(k, v) for k, v in scope["headers"] if k not in (b"content-type", b"content-length")]
        length = str(len(body)).encode()
        headers = [*kept, (b"content-type", b"application/json"), (b"content-length", length)]
        messages = iter([{"type": "http.request", "body": body}])

        async def received() -> Any:
            return next(messages, None) or await receive()

        await app({**scope, "headers": headers}, received, send)

    return converted
