"""Routes and mounts against each other: what answers the same requests, and what is never reached."""

import re

from buildflow.compiler.references import Resolution, check_auth, check_role
from buildflow.compiler.validate import Declaration
from buildflow.diagnostics import Diagnostic, Related, Severity, Span
from buildflow.primitives.base import Role
from buildflow.spec.project import Route

_PARAMETER = re.compile(r"\{\w+(?::(\w+))?\}")


def check_routes(state: Resolution) -> None:
    declaration = state.declaration
    patterns: dict[tuple[str, str], str] = {}
    for key, route in declaration.routes.items():
        if route.sink is not None:
            check_role(route.sink, Role.SINK, ("routes", key, "sink"), state)
        check_auth(route.auth, ("routes", key, "auth"), state)
        if route.service is not None and route.service not in declaration.services:
            _no_service(key, route.service, state)
        method, _, path = key.partition(" ")
        path = full_path(declaration, route, path)
        shape = _PARAMETER.sub(lambda match: f"{{{match[1] or 'str'}}}", path)
        first = patterns.setdefault((method, shape), key)
        span = declaration.key_span("routes", key)
        if first != key:
            related = (Related(f'"{first}"', declaration.key_span("routes", first)),)
            message = f'"{key}" and "{first}" answer the same requests'
            state.found.append(Diagnostic("BF218", message, span, "keep one of them", related))
        _reserved(path, span, state)
    _never_reached(patterns, state)


def full_path(declaration: Declaration, route: Route, path: str) -> str:
    """A route's path behind its service's prefix."""
    service = declaration.services.get(route.service or "")
    return f"{service.prefix}{path}" if service and service.prefix else path


def _no_service(key: str, name: str, state: Resolution) -> None:
    declaration = state.declaration
    if ("services", name) not in declaration.broken:
        message = f'there is no service "{name}"'
        hint = "declare it below `services:`"
        state.misnamed(message, name, declaration.services, hint, "routes", key, "service")


def _never_reached(patterns: dict[tuple[str, str], str], state: Resolution) -> None:
    """Routes answer in the file's order: one with a parameter answers for every literal one below it."""
    open_ones: dict[tuple[str, int], list[tuple[re.Pattern[str], str]]] = {}
    for (method, shape), key in patterns.items():
        depth = shape.count("/")
        if "{" not in shape:
            above = next((k for p, k in open_ones.get((method, depth), ()) if p.fullmatch(shape)), None)
            if above is not None:
                span = state.declaration.key_span("routes", key)
                related = (Related(f'"{above}"', state.declaration.key_span("routes", above)),)
                message = f'"{key}" is never reached: "{above}" stands above it and answers the same requests'
                hint = f"move it above {above}"
                severity = Severity.WARNING
                state.found.append(Diagnostic("BF224", message, span, hint, related, severity))
        elif "{path}" not in shape:
            open_ones.setdefault((method, depth), []).append((_as_pattern(shape), key))


_KINDS = {"str": "[^/]+", "int": "[0-9]+", "float": r"[0-9]+(\.[0-9]+)?", "uuid": "[0-9a-fA-F-]{32,36}"}
"""What a parameter of a path matches. Source: starlette.convertors"""


def _as_pattern(shape: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", shape)
    return re.compile("".join(_KINDS[p] if i % 2 else re.escape(p) for i, p in enumerate(parts)))


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
