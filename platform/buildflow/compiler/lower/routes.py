"""Routes, services and mounts: what the gateway serves."""

from collections.abc import Iterable
from pathlib import Path

from buildflow.binding.columns import Unfit
from buildflow.binding.parameters import (
    bind,
    check_filled,
    check_middleware,
    check_query,
    check_route,
    path_parameters,
)
from buildflow.compiler.lower.rows import check_sink
from buildflow.compiler.lower.state import Lowering, handler_plan
from buildflow.compiler.references import NO_AUTH
from buildflow.compiler.routing import full_path
from buildflow.diagnostics import Diagnostic, closest
from buildflow.ir.runtime import CorsPlan, HandlerPlan, MiddlewarePlan, MountPlan, RoutePlan, ServicePlan
from buildflow.ir.signature import Signature
from buildflow.spec.project import Route, Service


def lower_service(key: str, service: Service, state: Lowering) -> ServicePlan:
    for number, middleware in enumerate(service.middleware):
        place = ("services", key, "middleware", number, "class")
        signature = state.signature(middleware.class_, *place)
        if signature and state.declaration.knows("services", key, "middleware", number, "with"):
            state.unfit(check_middleware(signature, middleware.with_), *place, about="")
    return ServicePlan(
        key=key,
        middleware=tuple(MiddlewarePlan(middleware=m.class_, arguments=m.with_) for m in service.middleware),
        cors=CorsPlan(**service.cors.model_dump()) if service.cors else None,
        max_request_size=service.limits.max_request_size,
        max_concurrent_requests=service.limits.max_concurrent_requests,
        replicas=service.replicas,
    )


def lower_mounts(state: Lowering) -> Iterable[MountPlan]:
    for path, folder in state.declaration.mounts.items():
        if not (state.sources.root / folder).is_dir():
            is_file = (state.sources.root / folder).is_file()
            message = f'"{folder}" is a file' if is_file else f'there is no folder "{folder}"'
            problem = Unfit(
                "BF204", message, "name its folder" if is_file else _folder_hint(state.sources.root, folder)
            )
            state.unfit([problem], "mounts", path, about="")
        yield MountPlan(path=path, folder=folder)


def _folder_hint(root: Path, folder: str) -> str:
    """The folder that is probably meant: the nearest one where the path first goes wrong."""
    there, parts = root, Path(folder).parts
    for index, part in enumerate(parts):
        if not (there / part).is_dir():
            beside = [p.name for p in there.iterdir() if p.is_dir()] if there.is_dir() else []
            near = closest(part, beside)
            return f'did you mean "{Path(*parts[:index], near).as_posix()}"?' if near else _FROM_HERE
        there /= part
    return _FROM_HERE


_FROM_HERE = "it starts at the folder of this file"


def lower_route(key: str, route: Route, state: Lowering) -> RoutePlan | None:
    service = state.declaration.services.get(route.service or "")
    auth = route.auth or (service.auth if service else None)
    auth = None if auth == NO_AUTH else auth
    state.used.update(k for k in (route.sink, auth) if k)
    method, _, path = key.partition(" ")
    path = full_path(state.declaration, route, path)
    handler = None
    if route.handler is None:
        _check_without_handler(key, route, path, state)
    elif (handler := _handler(key, route.handler, route, path, state)) is None:
        return None
    return RoutePlan(
        method=method,
        path=path,
        handler=handler,
        service=route.service,
        auth=auth,
        run_in=route.run_in,
        sink=route.sink,
        status=route.status,
        tags=tuple(route.tags),
        summary=route.summary,
        timeout=route.timeout or (service.limits.timeout if service else None),
    )


def _handler(key: str, handler: str, route: Route, path: str, state: Lowering) -> HandlerPlan | None:
    place = ("routes", key, "handler")
    signature = state.signature(handler, *place)
    if signature is None:
        return None
    if route.sink:
        check_sink(signature.returns, route.sink, handler, place, state)
    if "${" in key or not all(state.declaration.knows("routes", key, name) for name in ("path", "inject")):
        return None
    _check_status(key, route, signature, state)
    bound = bind(signature, state.names, explicit=route.inject, path=path_parameters(path), made=state.made)
    state.use(bound)
    state.unfit(
        [
            *bound.problems,
            *check_route(signature, bound, path),
            *check_filled(bound, state.names),
            *check_query(bound, state.names, path),
        ],
        *place,
        about=f"{handler}: ",
    )
    return handler_plan(signature, bound)


def _check_without_handler(key: str, route: Route, path: str, state: Lowering) -> None:
    """What is sent goes to the sink as it is: nothing else has a place to go to."""
    declaration, place = state.declaration, ("routes", key, "handler")
    if route.sink is None:
        if declaration.knows(*place) and declaration.knows("routes", key, "sink"):
            message = f'`handler` is missing in route "{key}"'
            state.found.append(Diagnostic("BF202", message, declaration.key_span("routes", key), _HANDLER_OR_SINK))
        return
    if route.inject:
        message = "`inject` is for a handler, and this route has none"
        span = declaration.key_span("routes", key, "inject")
        state.found.append(Diagnostic("BF204", message, span, "add a `handler`, or remove it"))
    for name in path_parameters(path) if declaration.knows("routes", key, "path") else ():
        message = f'nothing takes the path parameter "{name}"'
        state.unfit([Unfit("BF307", message, "add a `handler`, or send it in the body")], *place, about="")


_HANDLER_OR_SINK = "a function as `package.module:function`, or a `sink` that takes the body as it is"


def _check_status(key: str, route: Route, signature: Signature, state: Lowering) -> None:
    """Some statuses have no body. What a collector returns is for its sink.

    Source: https://www.rfc-editor.org/rfc/rfc9110#section-6.4.1
    """
    if route.sink is not None or any(place[:2] == ("routes", key) for place in state.declaration.unread):
        return  # an unknown key may be a misspelt `sink`
    has_none = route.status is not None and (route.status < 200 or route.status in (204, 205, 304))
    if has_none and signature.returns.kind not in ("unknown", "none", "named"):
        message = f"an answer {route.status} has no body, and {signature.name} returns {signature.returns.text}"
        problem = Unfit("BF204", message, "return nothing, or choose another status", signature.place)
        state.unfit([problem], "routes", key, "status", about="")
