"""Graph and handlers to a RuntimePlan: every parameter bound, every dependency in building order."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

from buildflow.binding.columns import Unfit, check_rows, columns_of, each_row, inline_columns
from buildflow.binding.messages import check_given, check_taken, fields_of
from buildflow.binding.parameters import (
    Bound,
    Names,
    bind,
    check_element,
    check_factory,
    check_route,
    element_parameter,
    path_parameters,
)
from buildflow.compiler.not_yet import not_yet
from buildflow.compiler.ordering import in_order
from buildflow.compiler.resolve import NO_AUTH, full_path, local_dir
from buildflow.compiler.source import Problem, Sources
from buildflow.compiler.unused import warn_unused
from buildflow.compiler.validate import Declaration
from buildflow.diagnostics import Diagnostic, Related, Replacement, Span, misspelt
from buildflow.ir.columns import Column
from buildflow.ir.graph import Resource, ResourceGraph
from buildflow.ir.runtime import (
    SCOPES,
    BatchPlan,
    ConsumerPlan,
    CorsPlan,
    DependencyPlan,
    HandlerPlan,
    Injection,
    MiddlewarePlan,
    MountPlan,
    OptionsPlan,
    PoolPlan,
    RetryPlan,
    RoutePlan,
    RuntimePlan,
    Scope,
    SecretsPlan,
    ServicePlan,
    SinkPlan,
)
from buildflow.ir.signature import UNKNOWN, Parameter, Shape, Signature
from buildflow.primitives.base import ColumnsReference, MessageReference, Reference
from buildflow.primitives.registry import driver
from buildflow.spec.document import Mapping, Scalar, at, walk
from buildflow.spec.interpolation import references
from buildflow.spec.project import HANDLER, BuiltIn, Consumer, Dependency, Replicas, Route, Service, SinkChoice

DEAD_LETTER = "buildflow.types:DeadLetter"


@dataclass
class _Lowering:
    declaration: Declaration
    graph: ResourceGraph
    sources: Sources
    found: list[Diagnostic] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    messages: dict[str, tuple[Shape, Span] | None] = field(default_factory=dict)

    @property
    def names(self) -> Names:
        declaration = self.declaration
        return Names(
            dependencies=declaration.dependencies,
            handles={key: primitive.handle for key, (primitive, _) in declaration.primitives.items()},
            broken={key for section, key in declaration.broken if section in ("primitives", "dependencies")},
        )

    def unfit(
        self, problems: Iterable[Unfit | Problem], *path: Any, about: str, also: tuple[Related, ...] = ()
    ) -> None:
        """Problems of a function, told at the place in the YAML that names it; `also` are other places in it."""
        for problem in problems:
            message, span = f"{about}{problem.message}", self._span(problem, path)
            code = [Related("the code that this is about", problem.place.span())] if problem.place else []
            related = (*code, *also)
            if problem.code == "BF308" and problem.place:  # the mistake is there, however many lines name the file
                message, span, related = problem.message, problem.place.span(), (Related("it is named here", span),)
            self.found.append(Diagnostic(problem.code, message, span, problem.hint, related, fix=_fix(problem, span)))

    def _span(self, problem: Unfit | Problem, path: tuple[Any, ...]) -> Span:
        below = problem.below if isinstance(problem, Unfit) else ()
        if problem.code == "BF323":
            return self.declaration.key_span(*path[:-1], *below)
        return self.declaration.span(*path[:-1], *below) if below else self.declaration.span(*path)

    def message(self, key: str) -> tuple[Shape, Span] | None:
        """What the messages of a queue, a topic, or a subscription of one are, and where that is declared."""
        if key not in self.messages:
            self.messages[key] = self._read_message(key)
        return self.messages[key]

    def _read_message(self, key: str) -> tuple[Shape, Span] | None:
        spec = self.declaration.primitives[key][1] if key in self.declaration.primitives else None
        for name, info in type(spec).model_fields.items() if spec else ():
            if any(isinstance(m, Reference) and m.type == "topic" for m in info.metadata):
                return self.message(getattr(spec, name))
            if any(isinstance(m, MessageReference) for m in info.metadata) and getattr(spec, name) is not None:
                place = ("primitives", key, name)
                shape = _row_type(getattr(spec, name), place, self)
                return (shape, self.declaration.span(*place)) if shape else None
        return None

    def made(self, key: str) -> Shape:
        """What a dependency's factory gives, as far as that is known."""
        dependency = self.declaration.dependencies.get(key)
        if not isinstance(dependency, Dependency):
            return UNKNOWN
        signature = self.sources.signature(dependency.factory)
        return signature.returns if isinstance(signature, Signature) else UNKNOWN

    def signature(self, reference: str, *path: Any) -> Signature | None:
        signature = self.sources.signature(reference)
        if isinstance(signature, Problem):
            self.unfit([signature], *path, about="")
            return None
        return signature


def _fix(problem: Unfit | Problem, span: Span) -> Replacement | None:
    """What would put a misspelt name right, where the checker is sure of it."""
    return Replacement(span, problem.wrong, problem.right) if problem.wrong and problem.right else None


def lower(
    declaration: Declaration, graph: ResourceGraph, sources: Sources, written: Mapping
) -> tuple[RuntimePlan, ResourceGraph, list[Diagnostic]]:
    """The plan of one stack, and the graph with its tables' columns filled in. `written` is the file before any
    `${...}` was put in."""
    state = _Lowering(declaration, graph, sources)
    state.graph = graph.model_copy(update={"resources": tuple(_with_columns(r, state) for r in graph.resources)})
    dependencies = _dependencies(state)
    routes = [r for key, route in declaration.routes.items() if (r := _route(key, route, state))]
    consumers = [c for key, consumer in declaration.consumers.items() if (c := _consumer(key, consumer, state))]
    for resource in state.graph.resources:
        state.used.update(resource.references.values())
    broken = {key for section, key in declaration.broken if section in ("consumers", "routes", "dependencies")}
    if not broken and not state.found:
        state.found.extend(warn_unused(declaration, state.used, written))
    state.found.extend(not_yet(declaration))
    plan = RuntimePlan(
        project=declaration.name,
        stack=declaration.stack_name,
        provider=declaration.stack.provider if declaration.stack else "local",
        dir=str(local_dir(declaration)),
        broker_url=declaration.stack.broker_url if declaration.stack else None,
        state_url=declaration.stack.state_url if declaration.stack else None,
        options=OptionsPlan(**declaration.options.model_dump(include=set(OptionsPlan.model_fields))),
        secrets=SecretsPlan(**declaration.stack.secrets.model_dump()) if declaration.stack else SecretsPlan(),
        settings=_settings(declaration),
        resources=state.graph.resources,
        dependencies=tuple(dependencies),
        services=tuple(_service(key, service) for key, service in declaration.services.items()),
        routes=tuple(routes),
        mounts=tuple(_mounts(state)),
        consumers=tuple(consumers),
        pools=tuple(_pools(consumers, dependencies, declaration)),
        gateway_dependencies=_closure(
            (r.handler for r in routes), dependencies, also=[r.auth for r in routes if r.auth is not None]
        ),
        watched=tuple(r.key for r in state.graph.resources if hasattr(driver(r.type, r.provider), "watch")),
    )
    return plan, state.graph, state.found


def _with_columns(resource: Resource, state: _Lowering) -> Resource:
    """A resource whose Spec names a row type, with its columns."""
    _, spec = state.declaration.primitives[resource.key]
    for name, info in type(spec).model_fields.items():
        if any(isinstance(m, ColumnsReference) for m in info.metadata):
            columns = _columns(getattr(spec, name), ("primitives", resource.key, name), state)
            return resource.model_copy(update={"columns": columns})
    return resource


def _settings(declaration: Declaration) -> dict[str, Any]:
    """The stack's own block for its provider; its secrets are references still."""
    stack = declaration.stack
    return dict(getattr(stack, stack.provider).model_dump(exclude_none=True)) if stack else {}


def _service(key: str, service: Service) -> ServicePlan:
    return ServicePlan(
        key=key,
        middleware=tuple(MiddlewarePlan(middleware=m.class_, arguments=m.with_) for m in service.middleware),
        cors=CorsPlan(**service.cors.model_dump()) if service.cors else None,
        max_request_size=service.limits.max_request_size,
        max_concurrent_requests=service.limits.max_concurrent_requests,
        replicas=service.replicas,
    )


def _columns(declared: str | dict[str, str] | None, path: tuple[Any, ...], state: _Lowering) -> tuple[Column, ...]:
    if declared is None:
        return ()
    if not isinstance(declared, str):
        columns, wrong = inline_columns(declared)
        for name, problem in wrong.items():
            state.unfit([problem], *path, name, about="")
        if not declared:
            state.unfit([_no_columns("`columns` is empty")], *path, about="")
        return columns if not wrong else ()
    shape = _row_type(declared, path, state)
    if shape is None:
        return ()
    columns, problems = columns_of(shape.model_copy(update={"text": shape.text or declared}))
    if not columns and not problems:
        problems = [_no_columns(f"{declared} has no fields")]
    state.unfit(problems, *path, about="")
    return columns if not problems else ()  # what a handler returns cannot be held against half of them


def _row_type(declared: str, path: tuple[Any, ...], state: _Lowering) -> Shape | None:
    """The type that `module:Class` names; None after a mistake."""
    if not re.fullmatch(HANDLER, declared):
        state.unfit([Unfit("BF301", f'"{declared}" is no row type', "write `package.module:Class`")], *path, about="")
        return None
    shape = state.sources.shape(declared)
    if isinstance(shape, Problem):
        code = "BF310" if shape.code in ("BF302", "BF303") else shape.code
        state.unfit([replace(shape, code=code)], *path, about="")
        return None
    return shape


def _no_columns(message: str) -> Unfit:
    return Unfit("BF311", message, "a table has at least one column")


def _mounts(state: _Lowering) -> Iterable[MountPlan]:
    for path, folder in state.declaration.mounts.items():
        if not (state.sources.root / folder).is_dir():
            problem = Unfit("BF204", f'there is no folder "{folder}"', "it starts at the folder of this file")
            state.unfit([problem], "mounts", path, about="")
        yield MountPlan(path=path, folder=folder)


def _note_used(bound: Bound, state: _Lowering) -> None:
    state.used.update(i.key for i in bound.inject)


def _handler(signature: Signature, bound: Bound, element: str | None = None, carried: str = "") -> HandlerPlan:
    return HandlerPlan(function=signature.name, inject=bound.inject, element=element, element_type=carried)


def _route(key: str, route: Route, state: _Lowering) -> RoutePlan | None:
    place = ("routes", key, "handler")
    service = state.declaration.services.get(route.service or "")
    auth = route.auth or (service.auth if service else None)
    auth = None if auth == NO_AUTH else auth
    state.used.update(k for k in (route.sink, auth) if k)
    signature = state.signature(route.handler, *place)
    if signature is None:
        return None
    method, _, path = key.partition(" ")
    path = full_path(state.declaration, route, path)
    bound = bind(signature, state.names, explicit=route.inject, path=path_parameters(path), made=state.made)
    _note_used(bound, state)
    state.unfit([*bound.problems, *check_route(signature, bound, path)], *place, about=f"{route.handler}: ")
    if route.sink:
        _check_sink(signature.returns, route.sink, route.handler, place, state)
    return RoutePlan(
        method=method,
        path=path,
        handler=_handler(signature, bound),
        service=route.service,
        auth=auth,
        run_in=route.run_in,
        sink=route.sink,
        status=route.status,
        tags=tuple(route.tags),
        summary=route.summary,
        timeout=route.timeout or (service.limits.timeout if service else None),
    )


def _consumer(key: str, consumer: Consumer, state: _Lowering) -> ConsumerPlan | None:
    place = ("consumers", key, "handler")
    state.used.update(k for k in (consumer.source, consumer.dead_letter, *(s.to for s in consumer.sinks)) if k)
    signature = state.signature(consumer.handler, *place)
    if signature is None:
        return None
    bound = bind(signature, state.names, explicit=consumer.inject)
    _note_used(bound, state)
    element, problems = element_parameter(signature, bound)
    state.unfit([*bound.problems, *problems], *place, about=f"{consumer.handler}: ")
    source = state.declaration.primitives.get(consumer.source)
    carried = source[0].element if source else ""
    if element is not None:
        _check_element(key, consumer, element, carried, state)
    if len(consumer.sinks) == 1:
        _check_sink(signature.returns, consumer.sinks[0].to, consumer.handler, place, state)
    sinks = tuple(_sink(key, number, choice, signature, state) for number, choice in enumerate(consumer.sinks))
    _dead_letters(key, consumer, state)
    for kind in ("only", "never"):
        for index, name in enumerate(getattr(consumer.retry, kind)):
            if problem := state.sources.names(name):
                state.unfit([problem], "consumers", key, "retry", kind, index, about="")
    return ConsumerPlan(
        key=key,
        source=consumer.source,
        handler=_handler(signature, bound, element.name if element else None, carried),
        sink=consumer.sink if isinstance(consumer.sink, str) else None,
        sinks=() if isinstance(consumer.sink, str) else sinks,
        pool=consumer.pool,
        concurrency=consumer.concurrency,
        ordering=consumer.ordering.key if consumer.ordering else None,
        rate_limit=consumer.rate_limit,
        idempotency_key=consumer.idempotency_key,
        batch=BatchPlan(**consumer.batch.model_dump()),
        retry=RetryPlan(**consumer.retry.model_dump()),
        dead_letter=consumer.dead_letter,
        timeout=consumer.timeout,
    )


def _check_element(key: str, consumer: Consumer, element: Parameter, carried: str, state: _Lowering) -> None:
    """The element's type against what the source carries, and the fields of it that the consumer names."""
    place = ("consumers", key, "handler")
    about = f"{consumer.handler}: "
    if message := state.message(consumer.source):
        also = (Related(f'"{consumer.source}" carries {message[0].text}', message[1]),)
        state.unfit(check_taken(element, message[0], consumer.source), *place, about=about, also=also)
    else:
        state.unfit(check_element(element, carried, consumer.source), *place, about=about)
    known = fields_of(message[0] if message else element.shape)
    for field_place, name in (
        (("ordering", "key"), consumer.ordering.key if consumer.ordering else None),
        (("idempotency_key",), consumer.idempotency_key),
    ):
        if name is not None and known is not None and name not in known:
            _no_field(name, known, f'the elements of "{consumer.source}" have', ("consumers", key, *field_place), state)


def _no_field(name: str, known: Iterable[str], whose: str, path: tuple[Any, ...], state: _Lowering) -> None:
    span = state.declaration.span(*path)
    state.found.append(misspelt("BF226", f'{whose} no field "{name}"', span, name, known))


def _check_sink(returns: Shape, sink: str, handler: str, place: tuple[Any, ...], state: _Lowering) -> None:
    """What a handler returns against a sink's columns, or against what its messages are."""
    about = f"{handler}: "
    if sink in state.graph and (columns := state.graph[sink].columns):
        state.unfit(check_rows(returns, columns, sink), *place, about=about)
    elif message := state.message(sink):
        also = (Related(f'"{sink}" carries {message[0].text}', message[1]),)
        state.unfit(check_given(returns, message[0], sink), *place, about=about, also=also)


def _sink(key: str, number: int, choice: SinkChoice, signature: Signature, state: _Lowering) -> SinkPlan:
    """One of several sinks; the type, or the fields, by which rows go there."""
    place = ("consumers", key, "sink", number, "when")
    if isinstance(choice.when, str):
        if problem := state.sources.names(choice.when):
            state.unfit([problem], *place, about="")
        return SinkPlan(to=choice.to, type=choice.when)
    rows = [known for shape in each_row(signature.returns) if (known := fields_of(shape)) is not None]
    for name in choice.when or {}:
        if rows and not any(name in known for known in rows):
            span = state.declaration.key_span(*place, name)
            known = [name for fields in rows for name in fields]
            state.found.append(misspelt("BF226", f'what it returns has no field "{name}"', span, name, known))
    return SinkPlan(to=choice.to, fields=choice.when or {})


def _dead_letters(key: str, consumer: Consumer, state: _Lowering) -> None:
    """The table of a consumer's dead letters has columns for them."""
    table = consumer.dead_letter
    columns = state.graph[table].columns if table is not None and table in state.graph else ()
    letter = state.sources.shape(DEAD_LETTER) if columns else None
    if table is not None and isinstance(letter, Shape) and check_rows(letter, columns, table):
        message = f'"{table}" has other columns than a dead letter'
        problem = Unfit("BF215", message, f"give it `columns: {DEAD_LETTER}`")
        state.unfit([problem], "consumers", key, "dead_letter", about="")


def _dependencies(state: _Lowering) -> list[DependencyPlan]:
    """All dependencies, those that others need before them."""
    plans: dict[str, DependencyPlan] = {}
    for key, dependency in state.declaration.dependencies.items():
        plan = _dependency(key, dependency, state)
        if plan is not None:
            plans[key] = plan
    order = _building_order(plans, state)
    for key in order:
        _check_scopes(plans[key], plans, state)
    return [plans[key] for key in order]


def _built_in(key: str, dependency: BuiltIn, state: _Lowering) -> DependencyPlan:
    """One of the platform's own: its fields are its factory's parameters."""
    named = {name: getattr(dependency, name) for name in dependency.references}
    state.used.update(named.values())
    inject = tuple(Injection(parameter=name, kind="primitive", key=target) for name, target in named.items())
    scope: Scope = "replica" if dependency.scope == "replica" else "request"
    return DependencyPlan(
        key=key, factory=dependency.factory, scope=scope, arguments=dependency.arguments, inject=inject
    )


def _dependency(key: str, dependency: Dependency | BuiltIn, state: _Lowering) -> DependencyPlan | None:
    if isinstance(dependency, BuiltIn):
        return _built_in(key, dependency, state)
    place = ("dependencies", key, "factory")
    for _, rest in (r for v in _texts(dependency.with_) for r in references(v) if r[0] == "primitives"):
        state.used.add(rest.partition(".")[0])
    for _, node in walk(at(state.declaration.root, ("dependencies", key, "with"))):
        if isinstance(node, Scalar) and isinstance(node.value, float) and not isfinite(node.value):
            message = "`.inf` and `.nan` cannot be arguments: plans are JSON"
            state.found.append(Diagnostic("BF204", message, node.span, "give a number, or text"))
    signature = state.signature(dependency.factory, *place)
    if signature is None:
        return None
    names = state.names
    given = set(dependency.with_)
    own = Names(
        dependencies=[k for k in names.dependencies if k not in given and k != key],
        handles={k: h for k, h in names.handles.items() if k not in given},
        broken=names.broken,
    )
    bound = bind(signature, own, explicit={})
    _note_used(bound, state)
    problems = [*bound.problems, *check_factory(signature, bound, given)]
    state.unfit(problems, *place, about="")
    scope: Scope = "request" if dependency.scope == "process" else dependency.scope
    return DependencyPlan(
        key=key, factory=dependency.factory, scope=scope, arguments=dependency.with_, inject=bound.inject
    )


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _needs(plan: DependencyPlan) -> list[str]:
    return [i.key for i in plan.inject if i.kind == "dependency"]


def _building_order(plans: dict[str, DependencyPlan], state: _Lowering) -> list[str]:
    order, circles = in_order({key: _needs(plan) for key, plan in plans.items()})
    for circle in circles:
        span = state.declaration.key_span("dependencies", circle[-1])
        words = f"dependencies need each other in a circle: {' -> '.join(circle)}"
        state.found.append(Diagnostic("BF321", words, span, "let one of them do without the other"))
    return order


def _check_scopes(plan: DependencyPlan, plans: dict[str, DependencyPlan], state: _Lowering) -> None:
    """A dependency may not need one that lives shorter; `none` may be needed by all."""
    for key in _needs(plan):
        needed = plans.get(key)
        if needed is None or needed.scope == "none":
            continue
        if SCOPES.index(needed.scope) > SCOPES.index(plan.scope):
            message = f'"{plan.key}" (scope {plan.scope}) needs "{key}", which lives shorter (scope {needed.scope})'
            hint = f"give {plan.key} the scope {needed.scope}, or {key} the scope {plan.scope}"
            body = state.declaration.root.get("dependencies")
            scoped = body is not None and isinstance(at(body, (plan.key, "scope")), Scalar)
            place = ("dependencies", plan.key, "scope") if scoped else ("dependencies", plan.key)
            span = state.declaration.key_span(*place)
            related = (Related(f'"{key}"', state.declaration.key_span("dependencies", key)),)
            state.found.append(Diagnostic("BF320", message, span, hint, related))


def _closure(
    handlers: Iterable[HandlerPlan], dependencies: list[DependencyPlan], also: Iterable[str] = ()
) -> tuple[str, ...]:
    """The dependencies that these handlers need, directly or not, and those of `also`, in building order."""
    by_key = {d.key: d for d in dependencies}
    needed: set[str] = set()
    waiting = [*also]
    waiting += [i.key for h in handlers for i in h.inject if i.kind == "dependency"]
    while waiting:
        key = waiting.pop()
        if key not in needed and key in by_key:
            needed.add(key)
            waiting += _needs(by_key[key])
    return tuple(d.key for d in dependencies if d.key in needed)


def _pools(
    consumers: list[ConsumerPlan], dependencies: list[DependencyPlan], declaration: Declaration
) -> Iterable[PoolPlan]:
    for name in dict.fromkeys(c.pool for c in consumers):
        mine = [c for c in consumers if c.pool == name]
        wanted = [declaration.consumers[c.key].replicas for c in mine]
        growing = [r for r in wanted if isinstance(r, Replicas)]
        yield PoolPlan(
            name=name,
            replicas=max(r.min if isinstance(r, Replicas) else r for r in wanted),
            max_replicas=max((r.max for r in growing), default=None),
            target_backlog=min((r.target_backlog for r in growing), default=None),
            consumers=tuple(c.key for c in mine),
            dependencies=_closure((c.handler for c in mine), dependencies),
        )
