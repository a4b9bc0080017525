"""A Declaration to a ResourceGraph: references followed, physical names given, a deterministic order."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from buildflow.compiler.ordering import in_order
from buildflow.compiler.validate import Declaration
from buildflow.diagnostics import Diagnostic, Related, Severity, Span, did_you_mean
from buildflow.ir.graph import Resource, ResourceGraph
from buildflow.primitives.base import Reference, Role, Spec
from buildflow.primitives.registry import driver, providers_of
from buildflow.providers.base import LocalPlace
from buildflow.spec.document import Scalar, walk
from buildflow.spec.interpolation import references
from buildflow.spec.project import Consumer


@dataclass
class _Resolution:
    declaration: Declaration
    found: list[Diagnostic] = field(default_factory=list)
    selected: bool = True

    def report(self, code: str, message: str, *path: Any, hint: str = "", related: tuple[Related, ...] = ()) -> None:
        span = self.declaration.span(*path) if len(path) > 2 else self.declaration.key_span(*path)
        self.found.append(Diagnostic(code, message, span, hint, related))


def resolve(declaration: Declaration, *, selected: bool = True) -> tuple[ResourceGraph, list[Diagnostic]]:
    """The graph of one stack. For a stack that is not `selected` a missing driver is not yet a mistake."""
    state = _Resolution(declaration, selected=selected)
    references = {key: _references(key, spec, state) for key, (_, spec) in declaration.primitives.items()}
    order = _order(references, state)
    resources = [r for key in order if (r := _resource(key, references[key], state)) is not None]
    _twins(resources, state)
    _consumers(state)
    _routes(state)
    _mounts(state)
    _outputs(state)
    graph = ResourceGraph(project=declaration.name, stack=declaration.stack_name, resources=tuple(resources))
    return graph, state.found


def local_dir(declaration: Declaration) -> Path:
    """The stack's folder, relative to the project's root."""
    settings = declaration.stack.local if declaration.stack else None
    return Path(settings.dir) if settings and settings.dir else Path(".buildflow") / declaration.stack_name


def _references(key: str, spec: Spec, state: _Resolution) -> dict[str, str]:
    """A primitive's fields that name another one, checked."""
    result = {}
    for name, info in type(spec).model_fields.items():
        wanted = next((m for m in info.metadata if isinstance(m, Reference)), None)
        target = getattr(spec, name)
        if wanted is None or target is None:
            continue
        if _refer(target, ("primitives", key, name), state):
            actual = state.declaration.primitives[target][0].type
            if actual != wanted.type:
                choices = [k for k, (p, _) in state.declaration.primitives.items() if p.type == wanted.type]
                message = f'"{target}" is a {actual}; `{name}` has to name a {wanted.type}'
                state.report("BF211", message, "primitives", key, name, hint=did_you_mean("", choices))
            else:
                result[name] = target
    return result


def _refer(target: str, path: tuple[Any, ...], state: _Resolution) -> bool:
    """Whether `target` is a primitive that can be used; reports it where there is none."""
    declaration = state.declaration
    if target in declaration.primitives:
        return True
    if ("primitives", target) not in declaration.broken:
        known = [*declaration.primitives, *(k for s, k in declaration.broken if s == "primitives")]
        hint = did_you_mean(target, known, "declare it below `primitives:`")
        state.report("BF210", f'there is no primitive "{target}"', *path, hint=hint)
    return False


def _order(references: dict[str, dict[str, str]], state: _Resolution) -> list[str]:
    """What is referred to stands before what refers to it."""
    order, circles = in_order({key: named.values() for key, named in references.items()})
    for circle in circles:
        words = f"primitives refer to each other in a circle: {' -> '.join(circle)}"
        state.report("BF216", words, "primitives", circle[-1])
    return order


def _resource(key: str, references: dict[str, str], state: _Resolution) -> Resource | None:
    declaration = state.declaration
    primitive, spec = declaration.primitives[key]
    provider = spec.provider or (declaration.stack.provider if declaration.stack else "local")
    if provider not in providers_of(primitive.type):
        if state.selected:
            message = f'a {primitive.type} is not on "{provider}" yet'
            known = ", ".join(providers_of(primitive.type)) or "none"
            place = ("primitives", key, "provider") if spec.provider else ("primitives", key, "type")
            state.report("BF217", message, *place, hint=f"providers that have it: {known}")
        return None
    chosen = driver(primitive.type, provider)
    name = chosen.name(key, spec, declaration.name, declaration.stack_name)
    refused = chosen.check_name(name)
    if refused and state.selected:
        named: tuple[str, ...] = ("primitives", key, "name") if spec.name else ("primitives", key)
        state.report("BF220", f'{provider} refuses the name "{name}": {refused}', *named)
    resource = Resource(
        key=key,
        type=primitive.type,
        provider=provider,
        managed=spec.managed,
        name=name,
        id=name,
        label=chosen.label,
        spec=spec.model_dump(mode="json", exclude={"type", "provider", "managed", "name"}),
        references=references,
    )
    place_of = LocalPlace(local_dir(declaration))
    return resource.model_copy(update={"id": chosen.identify(resource, place_of)})


def _twins(resources: list[Resource], state: _Resolution) -> None:
    seen: dict[tuple[str, str], str] = {}
    for resource in resources:
        first = seen.setdefault((resource.label, resource.id), resource.key)
        if first != resource.key:
            message = f'"{resource.key}" and "{first}" are both {resource.id}'
            related = (Related(f'"{first}"', state.declaration.key_span("primitives", first)),)
            state.report("BF221", message, "primitives", resource.key, hint="give one another `name`", related=related)


def _consumers(state: _Resolution) -> None:
    _shared_sources(state)
    for key, consumer in state.declaration.consumers.items():
        _role(consumer.source, Role.SOURCE, ("consumers", key, "source"), state)
        if consumer.sink is not None:
            _role(consumer.sink, Role.SINK, ("consumers", key, "sink"), state)
            _feeds_itself(key, consumer, state)
        if consumer.dead_letter is not None and _refer(consumer.dead_letter, ("consumers", key, "dead_letter"), state):
            actual = state.declaration.primitives[consumer.dead_letter][0].type
            if actual != "table":
                message = f'"{consumer.dead_letter}" is a {actual}; dead letters go to a table'
                tables = [k for k, (p, _) in state.declaration.primitives.items() if p.type == "table"]
                hint = did_you_mean("", tables, "declare one with `columns: buildflow.types:DeadLetter`")
                state.report("BF211", message, "consumers", key, "dead_letter", hint=hint)


def _shared_sources(state: _Resolution) -> None:
    """Each of two consumers would get a part of the elements, and neither would know."""
    first: dict[str, str] = {}
    for key, consumer in state.declaration.consumers.items():
        other = first.setdefault(consumer.source, key)
        if other != key and consumer.source in state.declaration.primitives:
            message = f'"{consumer.source}" already has the consumer "{other}"; each would get a part of its elements'
            related = (Related(f'"{other}"', state.declaration.span("consumers", other, "source")),)
            hint = "use one consumer, or a queue for each"
            state.report("BF222", message, "consumers", key, "source", hint=hint, related=related)


def _feeds_itself(key: str, consumer: Consumer, state: _Resolution) -> None:
    if consumer.sink == consumer.source:
        message = f'"{key}" writes to its own source: what it returns comes back to it'
        hint = "name another sink, or return nothing when it is to end"
        span = state.declaration.span("consumers", key, "sink")
        state.found.append(Diagnostic("BF223", message, span, hint, severity=Severity.WARNING))


def _role(target: str, role: Role, path: tuple[Any, ...], state: _Resolution) -> None:
    if not _refer(target, path, state):
        return
    primitive = state.declaration.primitives[target][0]
    if role not in primitive.roles:
        code = "BF212" if role is Role.SOURCE else "BF213"
        fitting = [k for k, (p, _) in state.declaration.primitives.items() if role in p.roles]
        hint = did_you_mean("", fitting, f"no primitive here is a {role}")
        state.report(code, f'"{target}" is a {primitive.type}, which is no {role}', *path, hint=hint)


_PARAMETER = re.compile(r"\{\w+(?::(\w+))?\}")


def _routes(state: _Resolution) -> None:
    patterns: dict[tuple[str, str], str] = {}
    for key, route in state.declaration.routes.items():
        if route.sink is not None:
            _role(route.sink, Role.SINK, ("routes", key, "sink"), state)
        method, _, path = key.partition(" ")
        shape = _PARAMETER.sub(lambda match: f"{{{match[1] or 'str'}}}", path)
        first = patterns.setdefault((method, shape), key)
        span = state.declaration.key_span("routes", key)
        if first != key:
            related = (Related(f'"{first}"', state.declaration.key_span("routes", first)),)
            message = f'"{key}" and "{first}" answer the same requests'
            state.found.append(Diagnostic("BF218", message, span, "keep one of them", related))
        _reserved(path, span, state)


def _mounts(state: _Resolution) -> None:
    for path in state.declaration.mounts:
        span = state.declaration.key_span("mounts", path)
        if not path.startswith("/"):
            state.found.append(Diagnostic("BF206", f'"{path}" is no path: it has to begin with /', span, f'"/{path}"'))
        _reserved(path, span, state)


def _reserved(path: str, span: Span, state: _Resolution) -> None:
    if path == "/_platform" or path.startswith("/_platform/"):
        message = "the gateway keeps /_platform/ for itself"
        state.found.append(Diagnostic("BF218", message, span, "choose another path"))


def _outputs(state: _Resolution) -> None:
    """Every `${primitives.key.output}` names a primitive."""
    for path, node in walk(state.declaration.root.without("stacks")):
        for root, rest in references(str(node.value)) if isinstance(node, Scalar) and node.unknown else ():
            if root == "primitives":
                _refer(rest.partition(".")[0], path, state)


def warn_unused(declaration: Declaration, used: set[str]) -> list[Diagnostic]:
    """A warning for every primitive that nothing names."""
    return [
        Diagnostic(
            "BF219",
            f'nothing uses the {primitive.type} "{key}"',
            declaration.key_span("primitives", key),
            "remove it, or name it in a consumer, a route's handler or a dependency",
            severity=Severity.WARNING,
        )
        for key, (primitive, _) in declaration.primitives.items()
        if key not in used
    ]
