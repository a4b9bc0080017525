"""Graph and handlers to a RuntimePlan: every parameter bound, every dependency in building order."""

from typing import Any

from buildflow.compiler.lower.consumers import lower_consumer, lower_pools
from buildflow.compiler.lower.dependencies import closure, lower_dependencies
from buildflow.compiler.lower.routes import lower_mounts, lower_route, lower_service
from buildflow.compiler.lower.rows import primitive_columns
from buildflow.compiler.lower.state import Lowering
from buildflow.compiler.not_yet import not_yet
from buildflow.compiler.resolve import local_dir
from buildflow.compiler.source import Sources
from buildflow.compiler.unused import warn_unused
from buildflow.compiler.validate import Declaration
from buildflow.diagnostics import Diagnostic
from buildflow.ir.graph import Resource, ResourceGraph
from buildflow.ir.runtime import OptionsPlan, RuntimePlan, SecretsPlan
from buildflow.primitives.registry import driver
from buildflow.spec.document import Mapping
from buildflow.spec.project import PROVIDERS


def lower(
    declaration: Declaration, graph: ResourceGraph, sources: Sources, written: Mapping
) -> tuple[RuntimePlan, ResourceGraph, list[Diagnostic]]:
    """The plan of one stack, and the graph with its tables' columns filled in. `written` is the file before any
    `${...}` was put in."""
    state = Lowering(declaration, graph, sources)
    state.columns = {key: primitive_columns(key, state) for key in declaration.primitives}
    for key in declaration.primitives:
        state.message(key)
    resources = tuple(_with_columns(resource, state) for resource in graph.resources)
    state.graph = graph.model_copy(update={"resources": resources})
    dependencies = lower_dependencies(state)
    routes = [r for key, route in declaration.routes.items() if (r := lower_route(key, route, state))]
    consumers = [
        c
        for key, consumer in declaration.consumers.items()
        if (c := lower_consumer(key, consumer, dependencies, state))
    ]
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
        secrets=_secrets(declaration),
        settings={p: s for p in PROVIDERS if p != "local" and (s := _settings(declaration, p))},
        resources=state.graph.resources,
        dependencies=tuple(dependencies),
        services=tuple(lower_service(key, service, state) for key, service in declaration.services.items()),
        routes=tuple(routes),
        mounts=tuple(lower_mounts(state)),
        consumers=tuple(consumers),
        pools=tuple(lower_pools(consumers, dependencies, declaration)),
        gateway_dependencies=closure(
            (r.handler for r in routes if r.handler), dependencies, also=[r.auth for r in routes if r.auth is not None]
        ),
        watched=tuple(r.key for r in state.graph.resources if hasattr(driver(r.type, r.provider), "watch")),
    )
    return plan, state.graph, state.found


def _with_columns(resource: Resource, state: Lowering) -> Resource:
    columns = state.columns[resource.key]
    return resource.model_copy(update={"columns": columns}) if columns else resource


def _settings(declaration: Declaration, provider: str) -> dict[str, Any]:
    """The stack's own block for a provider; secrets in it are references still."""
    block = getattr(declaration.stack, provider) if declaration.stack else None
    return dict(block.model_dump(exclude_none=True)) if block else {}


def _secrets(declaration: Declaration) -> SecretsPlan:
    stack = declaration.stack
    if stack is None:
        return SecretsPlan()
    provider = stack.secrets.store.partition("_")[0] if stack.secrets.store else None
    settings = _settings(declaration, provider) if provider else {}
    return SecretsPlan(**stack.secrets.model_dump(), settings=settings)
