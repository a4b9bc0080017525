"""The plan's routes as a FastAPI app: each handler imported, checked and bound once."""

import asyncio
import contextlib
import functools
import inspect
import logging
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.concurrency import contextmanager_in_threadpool
from fastapi.exceptions import FastAPIError
from fastapi.requests import HTTPConnection
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.staticfiles import StaticFiles

from buildflow import __version__
from buildflow.dependencies import OfRequest
from buildflow.errors import InvalidObjectName, InvalidRow, ObjectNotFound, ServiceUnavailable
from buildflow.ir.runtime import HandlerPlan, Injection, RoutePlan, RuntimePlan
from buildflow.runtime.collectors import RETRY_AFTER, Collectors, lines_as_array
from buildflow.runtime.connections import Connections
from buildflow.runtime.dependencies import Container, enter, is_manager
from buildflow.runtime.functions import evaluated_signature, load, load_handler
from buildflow.runtime.process import in_words
from buildflow.runtime.services import WEBSOCKET, Middleware

log = logging.getLogger("buildflow.gateway")


def make_app(plan: RuntimePlan, connections: Connections, container: Container) -> FastAPI:
    """The plan's routes as a FastAPI app. Long-lived dependencies have to be built."""
    collectors = Collectors(connections)
    app = FastAPI(title=plan.project, version=__version__, lifespan=collectors.lifespan)
    for error, status in ((ObjectNotFound, 404), (InvalidObjectName, 400), (InvalidRow, 422)):
        app.add_exception_handler(error, functools.partial(_in_detail, status))
    app.add_exception_handler(ServiceUnavailable, _try_again)
    middleware = {s.key: Middleware(s.middleware, connections) for s in plan.services if s.middleware}
    for route in plan.routes:
        _add_route(app, route, plan, collectors, container)
        if route.service in middleware:
            added: Any = app.router.routes[-1]
            added.app = middleware[route.service].around(added.app)
    for mount in plan.mounts:
        app.mount(mount.path, StaticFiles(directory=connections.root / mount.folder), name=mount.path)
    return app


async def _in_detail(status: int, request: Any, exc: Exception) -> JSONResponse:  # noqa: ARG001 - FastAPI's form
    return JSONResponse({"detail": str(exc)}, status)


async def _try_again(request: Any, exc: Exception) -> JSONResponse:
    """What it was is for whoever runs the app, not for the client."""
    log.warning("%s %s: %s", request.method, request.url.path, in_words(exc))
    words = "a service that this needs is out of reach; try again"
    return JSONResponse({"detail": words}, 503, {"Retry-After": RETRY_AFTER})


def _add_route(app: FastAPI, route: RoutePlan, plan: RuntimePlan, collectors: Collectors, container: Container) -> None:
    providers: dict[str, Any] = {}
    auth = _auth(route, container, providers)
    handler = route.handler
    function = None if handler is None else load_handler(handler, plan)
    endpoint: Any = None if handler is None else _inject(function, handler, container, providers)
    if route.method == WEBSOCKET:
        app.add_api_websocket_route(route.path, endpoint, dependencies=auth)
        return
    status, extra = route.status, None
    if route.sink:
        collector = collectors.collector(route)
        bodies = collectors.bodies(route) if endpoint is None else None
        endpoint = collector.around(endpoint) if bodies is None else collector.of_bodies(bodies)
        status, extra = collector.status, collector.openapi(bodies, route.method, route.path)
    if route.timeout:
        endpoint = _limit(endpoint, route.timeout)
    add = functools.partial(
        app.add_api_route,
        route.path,
        endpoint,
        methods=[route.method],
        dependencies=auth,
        status_code=status,
        tags=list(route.tags),
        summary=route.summary,
        name=getattr(function, "__name__", route.path),
        description=(inspect.getdoc(function) or "") if function else "",
        openapi_extra=extra,
    )
    try:
        add()
    except FastAPIError:  # what it returns is no model, such as one of two responses: it is sent as it is
        add(response_model=None)
    added: Any = app.router.routes[-1]
    if route.sink and added.body_field is not None:
        added.app = lines_as_array(added.app)


def _auth(route: RoutePlan, container: Container, providers: dict[str, Any]) -> list[Any]:
    """What lets a request in, built before the handler's own dependencies. One that lives longer than a request was
    built before the gateway took any."""
    needed = [Injection(parameter="auth", kind="dependency", key=route.auth)] if route.auth else []
    return [_depends(i, container, providers) for i in container.short(needed)]


def _inject(function: Any, handler: HandlerPlan, container: Container, providers: dict[str, Any]) -> Any:
    """The handler as FastAPI sees it: without what is the same for every call, and with FastAPI's own `Depends` for
    what lives for a request, so that its clean-up comes after the response."""
    constants = container.constants(handler.inject)
    short = {i.parameter: i for i in container.short(handler.inject)}
    if not constants and not short:
        return function
    signature = evaluated_signature(function, {*constants, *short})
    parameters = []
    for parameter in signature.parameters.values():
        if parameter.name in short:
            depends = _depends(short[parameter.name], container, providers)
            parameters.append(parameter.replace(default=depends, annotation=Any, kind=inspect.Parameter.KEYWORD_ONLY))
        elif parameter.name not in constants:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    endpoint = functools.partial(function, **constants) if constants else function
    return _with_signature(endpoint, function, signature.replace(parameters=parameters))


def _with_signature(endpoint: Any, function: Any, signature: inspect.Signature) -> Any:
    """FastAPI reads a signature and whether a function is async; give it both."""

    async def call_async(**arguments: Any) -> Any:
        return await endpoint(**arguments)

    def call_sync(**arguments: Any) -> Any:
        return endpoint(**arguments)

    call: Any = call_async if inspect.iscoroutinefunction(function) else call_sync
    call.__signature__ = signature
    call.__name__ = getattr(function, "__name__", "endpoint")
    call.__doc__ = function.__doc__
    call.__module__ = function.__module__
    return call


def _depends(injection: Injection, container: Container, providers: dict[str, Any]) -> Any:
    plan = container.plans[injection.key]
    if injection.key not in providers:
        providers[injection.key] = _provider(injection.key, container, providers)
    return Depends(providers[injection.key], use_cache=plan.scope == "request")


def _provider(key: str, container: Container, providers: dict[str, Any]) -> Any:
    """A request-scoped dependency as a FastAPI dependency. Parameters that nothing in the project fills are
    FastAPI's own: a factory may take the `Request`, a header, a cookie."""
    plan = container.plans[key]
    factory = load(plan.factory)
    arguments = {**container.connections.resolve(plan.arguments), **container.constants(plan.inject)}
    if isinstance(factory, OfRequest):
        return factory.reader(**arguments)
    short = {i.parameter: i for i in container.short(plan.inject)}
    parameters = []
    for parameter in evaluated_signature(factory, {*arguments, *short}).parameters.values():
        if parameter.name in short:
            default = _depends(short[parameter.name], container, providers)
            parameters.append(inspect.Parameter(parameter.name, inspect.Parameter.KEYWORD_ONLY, default=default))
        elif parameter.name not in arguments and parameter.kind in (
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            inspect.Parameter.KEYWORD_ONLY,
        ):
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    on_the_loop = inspect.iscoroutinefunction(factory) or inspect.isasyncgenfunction(factory)
    make = enter if on_the_loop else _enter_in_threads
    parameters.append(inspect.Parameter("_stack", inspect.Parameter.KEYWORD_ONLY, default=Depends(_exit_stack)))

    async def provide(_stack: contextlib.AsyncExitStack, **given: Any) -> Any:
        return await make(factory, {**arguments, **given}, _stack)

    provider: Any = provide
    provider.__signature__ = inspect.Signature(parameters)
    return provider


async def _exit_stack(connection: HTTPConnection) -> contextlib.AsyncExitStack:
    """What FastAPI closes after the response: to share it is half the time of a generator a dependency."""
    stack: contextlib.AsyncExitStack = connection.scope["fastapi_inner_astack"]
    return stack


async def _enter_in_threads(factory: Any, arguments: dict[str, Any], stack: contextlib.AsyncExitStack) -> Any:
    """A synchronous factory's value, made and cleaned up beside the loop."""
    if inspect.isgeneratorfunction(factory):
        factory = contextlib.contextmanager(factory)
    made = await run_in_threadpool(factory, **arguments)
    if not is_manager(made, factory):
        return made
    return await stack.enter_async_context(made if hasattr(made, "__aenter__") else contextmanager_in_threadpool(made))


def _limit(endpoint: Any, seconds: float) -> Any:
    """504 after `seconds`. A synchronous handler goes on in its thread, but nobody waits for it."""

    async def limited(**arguments: Any) -> Any:
        if inspect.iscoroutinefunction(endpoint):
            running = endpoint(**arguments)
        else:
            running = run_in_threadpool(endpoint, **arguments)
        try:
            return await asyncio.wait_for(running, seconds)
        except TimeoutError:
            return JSONResponse({"detail": f"no answer within {seconds:g} s"}, 504)

    return _dressed(limited, endpoint)


def _dressed(call: Any, endpoint: Any) -> Any:
    call.__signature__ = evaluated_signature(endpoint)
    call.__name__ = getattr(endpoint, "__name__", "endpoint")
    call.__doc__ = endpoint.__doc__
    return call
