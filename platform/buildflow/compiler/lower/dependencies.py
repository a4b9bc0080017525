"""Dependencies in building order: arguments given, needs injected, scopes in order."""

from collections.abc import Iterable
from math import isfinite
from typing import Any

from buildflow.binding.columns import Unfit
from buildflow.binding.parameters import Names, bind, check_factory
from buildflow.compiler.lower.state import Lowering
from buildflow.compiler.ordering import in_order
from buildflow.diagnostics import Diagnostic, Related
from buildflow.ir.runtime import SCOPES, DependencyPlan, HandlerPlan, Injection, Scope
from buildflow.spec.document import Scalar, at, walk
from buildflow.spec.interpolation import references
from buildflow.spec.project import BuiltIn, Dependency


def lower_dependencies(state: Lowering) -> list[DependencyPlan]:
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


def _built_in(key: str, dependency: BuiltIn, state: Lowering) -> DependencyPlan:
    """One of the platform's own: its fields are its factory's parameters."""
    named = {name: getattr(dependency, name) for name in dependency.references}
    if dependency.of_request:
        state.of_request[key] = dependency.of_request
    state.used.update(named.values())
    inject = tuple(Injection(parameter=name, kind="primitive", key=target) for name, target in named.items())
    scope: Scope = "replica" if dependency.scope == "replica" else "request"
    return DependencyPlan(
        key=key, factory=dependency.factory, scope=scope, arguments=dependency.arguments, inject=inject
    )


def _dependency(key: str, dependency: Dependency | BuiltIn, state: Lowering) -> DependencyPlan | None:
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
    state.use(bound)
    knows = state.declaration.knows
    scope: Scope = "request" if dependency.scope == "process" else dependency.scope
    if not knows("dependencies", key, "scope"):
        scope = "none"  # of which the least is said
    short = scope in ("request", "none")
    problems = [*bound.problems, *check_factory(signature, bound, given, own, of_request=short)]
    asking = [p for p in bound.rest if short and p.required and p.name not in given]
    if asking and knows("dependencies", key, "scope"):
        state.of_request[key] = f'its parameter "{asking[0].name}"'
    if any(p.name == key and p.required for p in bound.rest) and key not in given:
        problems = [p for p in problems if f'"{key}"' not in p.message]
        hint = "give it below `with:`, or rename the parameter"
        problems.append(Unfit("BF321", f'dependency "{key}" needs itself: its factory has a parameter {key}', hint))
    if knows("dependencies", key, "with"):
        state.unfit(problems, *place, about="")
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


def _building_order(plans: dict[str, DependencyPlan], state: Lowering) -> list[str]:
    order, circles = in_order({key: _needs(plan) for key, plan in plans.items()})
    for circle in circles:
        span = state.declaration.key_span("dependencies", circle[-1])
        words = f"dependencies need each other in a circle: {' -> '.join(circle)}"
        state.found.append(Diagnostic("BF321", words, span, "let one of them do without the other"))
    return order


def _check_scopes(plan: DependencyPlan, plans: dict[str, DependencyPlan], state: Lowering) -> None:
    """A dependency may not need one that lives shorter; `none` may be needed by all."""
    for key in _needs(plan):
        needed = plans.get(key)
        if needed is None or needed.scope == "none":
            continue
        if SCOPES.index(needed.scope) > SCOPES.index(plan.scope):
            message = f'"{plan.key}" (scope {plan.scope}) needs "{key}", which lives shorter (scope {needed.scope})'
            hint = f"give {plan.key} the scope {needed.scope}"
            if not isinstance(state.declaration.dependencies[key], BuiltIn):
                hint += f", or {key} the scope {plan.scope}"
            body = state.declaration.root.get("dependencies")
            scope = at(body, (plan.key, "scope")) if body is not None else None
            written = isinstance(scope, Scalar)
            span = scope.span if scope and written else state.declaration.key_span("dependencies", plan.key)
            place = state.declaration.key_span("dependencies", key)
            related = (Related(f'"{key}" has the scope {needed.scope}', place),)
            state.found.append(Diagnostic("BF320", message, span, hint, related))


def closure(
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
