"""Simple JSON routes, answered with nothing between the server and the handler.

FastAPI reads the signatures and makes the app, and stays the authority. What it found is compiled here, once, for
routes whose parameters are simple: path and query scalars, at most one JSON body. Such a request is found by its
path, validated by FastAPI's own fields and answered with the bytes that FastAPI's answer would have. Everything
else goes to the app as it came: other routes, a request that is wrong in any way, what a handler raises. A handler
is called once, whichever way its request goes.
"""

import datetime
import decimal
import enum
import inspect
import itertools
import json
import re
import types
import typing
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Literal, Union
from urllib.parse import parse_qsl

from fastapi import FastAPI, params
from fastapi.datastructures import DefaultPlaceholder
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import ResponseValidationError
from fastapi.routing import APIRoute
from fastapi.utils import is_body_allowed_for_status_code
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Mount, NoMatchFound, Route, WebSocketRoute

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
PathMatch = Callable[[str], re.Match[str] | None]

BARE_REQUEST = "buildflow_request"
"""A parameter of the gateway's own endpoints: the request as it came, without what FastAPI puts into its scope."""
OUTCOME = "buildflow.outcome"
"""In a scope: what a handler raised, or a response that streams, for the app to treat like its own."""
JSON_TYPES = frozenset((b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8"))
"""Content types that mean JSON without being parsed. FastAPI decides about any other."""


class FastRoutes:
    """The ASGI app before FastAPI's, for requests (scopes of type `http`)."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self.static: dict[tuple[str, str], FastRoute | None] = {}
        """By method and path. None is a route that is not simple: the app's."""
        self.patterns: dict[str, list[tuple[PathMatch, FastRoute | None]]] = {}
        if not _observed(app):
            self._compile(app.router.routes)
        app.router.routes.insert(0, _Outcome())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route, path_values = self._find(scope)
        arguments = None if route is None else route.arguments(path_values, scope["query_string"])
        if arguments is not None and route is not None and route.body is not None:
            receive, parsed = await _read_json(scope, receive)
            if not route.body.validated({"body": parsed}, arguments):
                arguments = None
        if route is None or arguments is None:
            await self.app(scope, receive, send)
            return
        if route.bare_request:
            arguments[BARE_REQUEST] = Request(scope, receive)
        try:
            outcome = await route.call(arguments)
        except Exception as exc:
            await self._hand_over(exc, scope, receive, send)
            return
        if isinstance(outcome, bytes):
            length = (b"content-length", str(len(outcome)).encode())
            headers = [length, (b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": route.status, "headers": headers})
            await send({"type": "http.response.body", "body": outcome})
        elif type(outcome).__call__ is Response.__call__ and outcome.background is None:
            await outcome(scope, receive, send)
        else:
            await self._hand_over(outcome, scope, receive, send)

    def _find(self, scope: Scope) -> tuple["FastRoute | None", Mapping[str, str]]:
        method, path = scope["method"], scope["path"]
        if scope.get("root_path") or path.endswith("\n"):  # a pattern's end matches before a last newline, too
            return None, {}
        route = self.static.get((method, path), MISSING)
        if route is not MISSING:
            return route, {}
        for match, candidate in self.patterns.get(method, ()):
            if found := match(path):
                return candidate, found.groupdict()
        return None, {}

    async def _hand_over(self, outcome: Exception | Response, scope: Scope, receive: Receive, send: Send) -> None:
        scope[OUTCOME] = outcome
        await self.app(scope, receive, send)

    def _compile(self, routes: Iterable[BaseRoute]) -> None:
        """In the app's order, which is its precedence, as far as it is known here how a route matches."""
        http = [r for r in routes if not isinstance(r, WebSocketRoute)]
        known = list(itertools.takewhile(lambda r: isinstance(r, Route | Mount), http))
        fast = {id(r): compile_route(r) for r in known if isinstance(r, APIRoute)}
        for method in {m for r in known for m in getattr(r, "methods", None) or ()}:
            before: list[Any] = []
            patterns = self.patterns[method] = []
            for route in known:
                if method not in (getattr(route, "methods", None) or (method,)):
                    continue
                before.append(route)
                if isinstance(route, Mount) or (isinstance(route, Route) and route.param_convertors):
                    patterns.append((route.path_regex.match, fast.get(id(route))))
                elif isinstance(route, Route) and not any(r.path_regex.match(route.path) for r in before[:-1]):
                    self.static[method, route.path] = fast.get(id(route))


class _Outcome(BaseRoute):
    """The app's first route: it takes what a handler raised, or a response that streams, so that the app's exception
    handlers, middleware and log treat it like that of any other route."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return (Match.FULL if OUTCOME in scope else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        outcome = scope[OUTCOME]
        if isinstance(outcome, Exception):
            raise outcome
        await outcome(scope, receive, send)

    def url_path_for(self, name: str, /, **path_params: Any) -> Any:
        raise NoMatchFound(name, path_params)


@dataclass(frozen=True, slots=True)
class Field:
    """One parameter: FastAPI's field, and what stands in for a value that is not there."""

    name: str
    alias: str
    validate: Callable[..., tuple[Any, Any]]
    required: bool
    default: Any = None

    def validated(self, received: Mapping[str, Any], arguments: dict[str, Any]) -> bool:
        """Put its value into `arguments`; False when FastAPI has to say what is wrong."""
        value = received.get(self.alias, MISSING)
        if value is MISSING:
            arguments[self.name] = self.default
            return not self.required
        arguments[self.name], errors = self.validate(value, {}, loc=())
        return not errors


MISSING: Any = object()


@dataclass(frozen=True, slots=True)
class FastRoute:
    """One route, bound to its handler."""

    endpoint: Callable[..., Any]
    is_async: bool
    path: tuple[Field, ...]
    query: tuple[Field, ...]
    body: Field | None
    bare_request: bool
    response: Any
    """FastAPI's field for what the handler returns, or None."""
    status: int
    label: str

    def arguments(self, path_values: Mapping[str, str], query: bytes) -> dict[str, Any] | None:
        """What the handler is called with but for the body; None when something does not validate."""
        arguments: dict[str, Any] = {}
        for field in self.path:
            if not field.validated(path_values, arguments):
                return None
        if self.query:
            received = parse_query(query)
            for field in self.query:
                if not field.validated(received, arguments):
                    return None
        return arguments

    async def call(self, arguments: dict[str, Any]) -> bytes | Response:
        if self.is_async:
            return self.render(await self.endpoint(**arguments))
        return await run_in_threadpool(self._call_in_thread, arguments)

    def _call_in_thread(self, arguments: dict[str, Any]) -> bytes | Response:
        return self.render(self.endpoint(**arguments))

    def render(self, returned: Any) -> bytes | Response:
        """The body of the answer, as FastAPI's `serialize_response` makes it."""
        if isinstance(returned, Response):
            return returned
        if self.response is None:
            return to_json(returned)
        value, errors = self.response.validate(returned, {}, loc=("response",))
        if errors:
            code = inspect.unwrap(self.endpoint).__code__
            raise ResponseValidationError(
                errors=errors,
                body=returned,
                endpoint_ctx={
                    "function": self.endpoint.__name__,
                    "path": self.label,
                    "file": code.co_filename,
                    "line": code.co_firstlineno,
                },
            )
        rendered: bytes = self.response.serialize_json(value)
        return rendered


# compiling

_NOT_SIMPLE = (
    "dependencies",
    "header_params",
    "cookie_params",
    "websocket_param_name",
    "http_connection_param_name",
    "response_param_name",
    "background_tasks_param_name",
    "security_scopes_param_name",
)
_OPTIONS = (
    "response_model_include",
    "response_model_exclude",
    "response_model_exclude_unset",
    "response_model_exclude_defaults",
    "response_model_exclude_none",
    "max_body_size",
    "_embed_body_fields",
)
_SCALARS = (
    str,
    int,
    float,
    bool,
    Any,
    type(None),
    uuid.UUID,
    decimal.Decimal,
    datetime.datetime,
    datetime.date,
    datetime.time,
    datetime.timedelta,
)


def _observed(app: FastAPI) -> bool:
    """Whether something wants to see every request: middleware, a limit of the app's own, OpenTelemetry."""
    telemetry = getattr(app, "_native_telemetry", None)
    limit = getattr(app, "max_body_size", None)
    return bool(app.user_middleware or limit is not None or (telemetry is not None and telemetry.enabled()))


def compile_route(route: APIRoute) -> FastRoute | None:
    """A route as FastAPI read it, or None when it is not simple."""
    dependant = route.dependant
    bodies = dependant.body_params
    endpoint = route.endpoint
    path = [_scalar(f) for f in dependant.path_params]
    query = [_scalar(f) for f in dependant.query_params]
    if (
        any(getattr(dependant, name, None) for name in _NOT_SIMPLE)
        or dependant.request_param_name not in (None, BARE_REQUEST)
        or any(getattr(route, name, None) for name in _OPTIONS)
        or not route.response_model_by_alias
        or not isinstance(route.response_class, DefaultPlaceholder)
        or (route.response_field is not None and not hasattr(route.response_field, "serialize_json"))
        or not is_body_allowed_for_status_code(route.status_code)
        or not _is_plain_function(endpoint)
        or not inspect.isfunction(route.app)  # something stands around the route: a service's middleware
        or any(type(c).__name__ not in ("StringConvertor", "PathConvertor") for c in route.param_convertors.values())
        or None in path
        or None in query
        or len(bodies) > 1
        or any(isinstance(f.field_info, params.Form) for f in bodies)
    ):
        return None
    return FastRoute(
        endpoint=endpoint,
        is_async=any(inspect.iscoroutinefunction(f) for f in (endpoint, inspect.unwrap(endpoint))),
        path=tuple(f for f in path if f),
        query=tuple(f for f in query if f),
        body=Field(bodies[0].name, "body", bodies[0].validate, required=True) if bodies else None,
        bare_request=dependant.request_param_name is not None,
        response=route.response_field,
        status=route.status_code or 200,
        label=f"{' '.join(sorted(route.methods or ()))} {route.path_format}",
    )


def _is_plain_function(endpoint: Any) -> bool:
    if not inspect.isfunction(endpoint):
        return False
    inner = inspect.unwrap(endpoint)
    return inspect.isfunction(inner) and not any(
        inspect.isgeneratorfunction(f) or inspect.isasyncgenfunction(f) for f in (endpoint, inner)
    )


def _scalar(field: Any) -> Field | None:
    """A path or query parameter of one plain value, or None when it is more than that."""
    info = field.field_info
    if (
        not _is_scalar(info.annotation)
        or not (info.validation_alias is None or isinstance(info.validation_alias, str))
        or getattr(field, "config", None)
        or info.default_factory is not None
        or info.validate_default
    ):
        return None
    required = info.is_required()
    default = None if required else info.default
    if not isinstance(default, (str, int, float, enum.Enum, type(None), *_SCALARS[6:])):
        return None
    return Field(field.name, field.validation_alias or field.alias, field.validate, required, default)


def _is_scalar(annotation: Any) -> bool:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _is_scalar(typing.get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return all(_is_scalar(a) for a in typing.get_args(annotation))
    if origin is Literal or annotation in _SCALARS:
        return True
    return isinstance(annotation, type) and issubclass(annotation, enum.Enum)


# reading and writing


def parse_query(query: bytes) -> dict[str, str]:
    """A query's values as Starlette's `QueryParams` has them: of several with one name, the last."""
    text = query.decode("latin-1")
    if "%" in text or "+" in text:
        return dict(parse_qsl(text, keep_blank_values=True))
    values = {}
    for part in text.split("&"):
        if part:
            name, _, value = part.partition("=")
            values[name] = value
    return values


async def _read_json(scope: Scope, receive: Receive) -> tuple[Receive, Any]:
    """The body as JSON, or MISSING; and a `receive` that gives again what was read."""
    kind = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
    if kind.lower() not in JSON_TYPES:
        return receive, MISSING
    seen: deque[Message | Exception] = deque()
    chunks = []
    more = True
    while more:
        try:
            message = await receive()
        except Exception as exc:
            seen.append(exc)
            return _again(seen, receive), MISSING
        seen.append(message)
        if message["type"] != "http.request":
            return _again(seen, receive), MISSING
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
    try:
        parsed = json.loads(chunks[0] if len(chunks) == 1 else b"".join(chunks))
    except (ValueError, RecursionError):
        return _again(seen, receive), MISSING
    return _again(seen, receive), parsed


def _again(seen: deque[Message | Exception], receive: Receive) -> Receive:
    async def received() -> Message:
        if not seen:
            return await receive()
        message = seen.popleft()
        if isinstance(message, Exception):
            raise message
        return message

    return received


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_ATOMS = frozenset((str, int, float, bool, type(None)))


def to_json(value: Any) -> bytes:
    """What `JSONResponse(jsonable_encoder(value))` holds; most values are JSON already and need no copy."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", by_alias=True)
    return _encode(value if _is_json(value) else jsonable_encoder(value)).encode()


def _is_json(value: Any) -> bool:
    kind = type(value)
    if kind in _ATOMS:
        return True
    if kind is dict:
        # jsonable_encoder leaves out keys that SQLAlchemy puts into its objects
        return all(type(k) is str and not k.startswith("_sa") and _is_json(v) for k, v in value.items())
    return kind is list and all(_is_json(v) for v in value)
