"""Routes and mounts against each other: what answers the same requests, and what is never reached."""

from buildflow.compiler.references import Resolution, check_auth, check_role
from buildflow.compiler.route_paths import PathShape, shape_of
from buildflow.compiler.validate import Declaration
from buildflow.diagnostics import Diagnostic, Related, Severity, Span
from buildflow.primitives.base import Role
from buildflow.spec.project import Route


def check_routes(state: Resolution) -> None:
    declaration = state.declaration
    answered: dict[tuple[str, PathShape], str] = {}
    for key, route in declaration.routes.items():
        if route.sink is not None:
            check_role(route.sink, Role.SINK, ("routes", key, "sink"), state)
        check_auth(route.auth, ("routes", key, "auth"), state)
        if route.service is not None and route.service not in declaration.services:
            _no_service(key, route.service, state)
        method, _, path = key.partition(" ")
        _prefix_twice(key, route, state)
        path = full_path(declaration, route, path)
        first = answered.setdefault((method, shape_of(path)), key)
        span = declaration.key_span("routes", key)
        if first != key:
            related = (Related("the other one", declaration.key_span("routes", first)),)
            message = f'"{key}" and "{first}" answer the same requests'
            state.found.append(Diagnostic("BF218", message, span, "keep one of them", related))
        _reserved(path, span, state)
        if method == "WS":
            _websocket(key, route, state)
        elif method == "GET" and path in _DOCUMENTATION:
            hint = "choose another path"
            message = f"the API's documentation is at {path}: this route is never reached"
            state.found.append(Diagnostic("BF218", message, span, hint))
    _never_reached(answered, state)


_DOCUMENTATION = ("/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect")
"""FastAPI's own pages."""


def _websocket(key: str, route: Route, state: Resolution) -> None:
    for name in route.model_fields_set & {"sink", "status", "timeout", "run_in"}:
        hint = "remove it: a handler of a websocket sends and receives by itself"
        span = state.declaration.key_span("routes", key, name)
        state.found.append(Diagnostic("BF204", f"a websocket has no `{name}`", span, hint))


def full_path(declaration: Declaration, route: Route, path: str) -> str:
    """A route's path behind its service's prefix."""
    service = declaration.services.get(route.service or "")
    return f"{service.prefix}{path}" if service and service.prefix else path


def _prefix_twice(key: str, route: Route, state: Resolution) -> None:
    """A path that begins with the prefix that is put before it."""
    service = state.declaration.services.get(route.service or "")
    method, _, path = key.partition(" ")
    if service and service.prefix and f"{path}/".startswith(f"{service.prefix}/"):
        message = f'"{key}" is served at {service.prefix}{path}: the prefix of its service is put before it'
        hint = f"write `{method} {path.removeprefix(service.prefix) or '/'}`"
        span = state.declaration.key_span("routes", key)
        state.found.append(Diagnostic("BF227", message, span, hint, severity=Severity.WARNING))


def _no_service(key: str, name: str, state: Resolution) -> None:
    declaration = state.declaration
    if ("services", name) not in declaration.broken:
        message = f'there is no service "{name}"'
        hint = "declare it below `services:`"
        state.misnamed(message, name, declaration.services, hint, "routes", key, "service")


def _never_reached(routes: dict[tuple[str, PathShape], str], state: Resolution) -> None:
    """Routes answer in the file's order: one with a parameter answers for what it takes of those below it."""
    above: dict[tuple[str, str], list[tuple[PathShape, str]]] = {}
    for (method, shape), key in routes.items():
        candidates = [*above.get((method, shape.start), ()), *(above.get((method, ""), ()) if shape.start else ())]
        answering = next((k for open_one, k in candidates if open_one.answers_for(shape)), None)
        if answering is not None:
            span = state.declaration.key_span("routes", key)
            related = (Related("this one answers first", state.declaration.key_span("routes", answering)),)
            message = f'"{key}" is never reached: "{answering}" stands above it and answers the same requests'
            hint = f"move it above {answering}"
            state.found.append(Diagnostic("BF224", message, span, hint, related, Severity.WARNING))
        if shape.is_open:
            above.setdefault((method, shape.start), []).append((shape, key))


def check_mounts(state: Resolution) -> None:
    for path in state.declaration.mounts:
        span = state.declaration.key_span("mounts", path)
        if not path.startswith("/"):
            state.found.append(Diagnostic("BF206", f'"{path}" is no path: it has to begin with /', span, f'"/{path}"'))
        _reserved(path, span, state)


def _reserved(path: str, span: Span, state: Resolution) -> None:
    if path == "/_platform" or path.startswith("/_platform/"):
        message = "the gateway keeps /_platform/ for itself"
        state.found.append(Diagnostic("BF218", message, span, "choose another path"))
