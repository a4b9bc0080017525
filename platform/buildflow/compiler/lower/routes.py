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
from buildflow.diagnostics import closest
from buildflow.ir.runtime import CorsPlan, MiddlewarePlan, MountPlan, RoutePlan, ServicePlan
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
    place = ("routes", key, "handler")
    service = state.declaration.services.get(route.service or "")
    auth = route.auth or (service.auth if service else None)
    auth = None if auth == NO_AUTH else auth
    state.used.update(k for k in (route.sink, auth) if k)
    signature = state.signature(route.handler, *place)
    if signature is None:
        return None
    if route.sink:
        check_sink(signature.returns, route.sink, route.handler, place, state)
    if "${" in key or not all(state.declaration.knows("routes", key, name) for name in ("path", "inject")):
        return None
    _check_status(key, route, signature, state)
    method, _, path = key.partition(" ")
    path = full_path(state.declaration, route, path)
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
        about=f"{route.handler}: ",
    )
    return RoutePlan(
        method=method,
        path=path,
        handler=handler_plan(signature, bound),
        service=route.service,
        auth=auth,
        run_in=route.run_in,
        sink=route.sink,
        status=route.status,
        tags=tuple(route.tags),
        summary=route.summary,
        timeout=route.timeout or (service.limits.timeout if service else None),
    )


def _check_status(key: str, route: Route, signature: Signature, state: Lowering) -> None:
    """Some statuses have no body. Source: https://www.rfc-editor.org/rfc/rfc9110#section-6.4.1"""
    has_none = route.status is not None and (route.status < 200 or route.status in (204, 205, 304))
    if has_none and signature.returns.kind not in ("unknown", "none", "named"):
        message = f"an answer {route.status} has no body, and {route.handler} returns {signature.returns.text}"
        problem = Unfit("BF204", message, "return nothing, or choose another status", signature.place)
        state.unfit([problem], "routes", key, "status", about="")
