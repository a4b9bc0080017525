"""A Declaration to a ResourceGraph: references followed, physical names given, a deterministic order."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from buildflow.compiler.ordering import in_order
from buildflow.compiler.validate import Declaration
from buildflow.diagnostics import Diagnostic, Related, Severity, Span, did_you_mean, misspelt
from buildflow.ir.graph import Resource, ResourceGraph
from buildflow.primitives.base import Reference, Role, Spec
from buildflow.primitives.registry import driver, providers_of
from buildflow.providers.base import LocalPlace
from buildflow.spec.document import Scalar, walk
from buildflow.spec.interpolation import references
from buildflow.spec.project import PROJECT_NAME, PROVIDERS, STACK_NAME, BuiltIn, Consumer, Route

NO_AUTH = "none"
"""What a route writes to switch its service's `auth` off."""


@dataclass
class _Resolution:
    declaration: Declaration
    found: list[Diagnostic] = field(default_factory=list)
    selected: bool = True

    def report(self, code: str, message: str, *path: Any, hint: str = "", related: tuple[Related, ...] = ()) -> None:
        self.found.append(Diagnostic(code, message, self.place(*path), hint, related))

    def place(self, *path: Any) -> Span:
        return self.declaration.span(*path) if len(path) > 2 else self.declaration.key_span(*path)

    def misnamed(self, message: str, name: str, known: Iterable[str], otherwise: str, *path: Any) -> None:
        self.found.append(misspelt("BF210", message, self.place(*path), name, known, otherwise))


def resolve(declaration: Declaration, *, selected: bool = True) -> tuple[ResourceGraph, list[Diagnostic]]:
    """The graph of one stack. For a stack that is not `selected` a missing driver is not yet a mistake."""
    state = _Resolution(declaration, selected=selected)
    references = {key: _references(key, spec, state) for key, (_, spec) in declaration.primitives.items()}
    order = _order(references, state)
    resources = [r for key in order if (r := _resource(key, references[key], state)) is not None]
    _twins(resources, state)
    _dependencies(state)
    _services(state)
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
        message = f'there is no primitive "{target}"'
        state.misnamed(message, target, known, "declare it below `primitives:`", *path)
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
    known = providers_of(primitive.type)
    if provider not in known:
        _named(key, _rule_name(key, provider, state), provider, state)
        if state.selected:
            message = f'a {primitive.type} is not on "{provider}" yet'
            place = ("primitives", key, "provider") if spec.provider else ("primitives", key, "type")
            state.report("BF217", message, *place, hint=f"providers that have it: {', '.join(known) or 'none yet'}")
        return None
    chosen = driver(primitive.type, provider)
    name = chosen.name(key, spec, declaration.name, declaration.stack_name)
    _named(key, name, provider, state)
    others = set(PROVIDERS) - {provider}
    resource = Resource(
        key=key,
        type=primitive.type,
        provider=provider,
        managed=spec.managed,
        name=name,
        id=name,
        label=chosen.label,
        spec=spec.model_dump(mode="json", exclude={"type", "provider", "managed", "name", *others}),
        references=references,
    )
    place_of = LocalPlace(local_dir(declaration))
    return resource.model_copy(update={"id": chosen.identify(resource, place_of)})


def _rule_name(key: str, provider: str, state: _Resolution) -> str:
    """The physical name on a provider that has no driver yet, by the provider's rule for it."""
    primitive, spec = state.declaration.primitives[key]
    rule = primitive.names.get(provider)
    if spec.name or rule is None:
        return spec.name or key
    return rule.physical(state.declaration.name, state.declaration.stack_name, key)


def _named(key: str, name: str, provider: str, state: _Resolution) -> None:
    """Report a name that the provider will refuse; one that holds a reference is known later."""
    primitive, spec = state.declaration.primitives[key]
    rule = primitive.names.get(provider)
    has_driver = provider in providers_of(primitive.type)
    refused = rule.refuses(name) if rule else driver(primitive.type, provider).check_name(name) if has_driver else ""
    if not spec.name and not _well_named(state.declaration):
        return  # that is a mistake of its own
    if refused and "${" not in name:
        place: tuple[str, ...] = ("primitives", key, "name") if spec.name else ("primitives", key)
        state.report("BF220", f'{provider} refuses the name "{name}": {refused}', *place)


def _well_named(declaration: Declaration) -> bool:
    return bool(re.fullmatch(PROJECT_NAME, declaration.name) and re.fullmatch(STACK_NAME, declaration.stack_name))


def _twins(resources: list[Resource], state: _Resolution) -> None:
    seen: dict[tuple[str, str], str] = {}
    for resource in resources:
        first = seen.setdefault((resource.label, resource.id), resource.key)
        if first != resource.key:
            message = f'"{resource.key}" and "{first}" are both {resource.id}'
            related = (Related(f'"{first}"', state.declaration.key_span("primitives", first)),)
            state.report("BF221", message, "primitives", resource.key, hint="give one another `name`", related=related)


def _dependencies(state: _Resolution) -> None:
    """Built-in dependencies name primitives in their own fields."""
    for key, dependency in state.declaration.dependencies.items():
        for name in dependency.references if isinstance(dependency, BuiltIn) else ():
            target = getattr(dependency, name)
            path = ("dependencies", key, name)
            if _refer(target, path, state) and (actual := state.declaration.primitives[target][0].type) != name:
                choices = [k for k, (p, _) in state.declaration.primitives.items() if p.type == name]
                message = f'"{target}" is a {actual}; `{name}` has to name a {name}'
                state.report("BF211", message, *path, hint=did_you_mean("", choices))


def _services(state: _Resolution) -> None:
    for key, service in state.declaration.services.items():
        _auth(service.auth, ("services", key, "auth"), state)


def _auth(name: str | None, path: tuple[Any, ...], state: _Resolution) -> None:
    """`auth` names a dependency."""
    declaration = state.declaration
    if name is None or name in declaration.dependencies or ("dependencies", name) in declaration.broken:
        return
    if name != NO_AUTH or path[0] != "routes":
        message = f'there is no dependency "{name}"'
        state.misnamed(message, name, declaration.dependencies, "declare it below `dependencies:`", *path)


def _consumers(state: _Resolution) -> None:
    _shared_sources(state)
    for key, consumer in state.declaration.consumers.items():
        _role(consumer.source, Role.SOURCE, ("consumers", key, "source"), state)
        for target, place in _sink_places(key, consumer):
            _role(target, Role.SINK, place, state)
            _feeds_itself(target, place, key, consumer.source, state)
        if consumer.dead_letter is not None and _refer(consumer.dead_letter, ("consumers", key, "dead_letter"), state):
            actual = state.declaration.primitives[consumer.dead_letter][0].type
            if actual != "table":
                message = f'"{consumer.dead_letter}" is a {actual}; dead letters go to a table'
                tables = [k for k, (p, _) in state.declaration.primitives.items() if p.type == "table"]
                hint = did_you_mean("", tables, "declare one with `columns: buildflow.types:DeadLetter`")
                state.report("BF211", message, "consumers", key, "dead_letter", hint=hint)


def _sink_places(key: str, consumer: Consumer) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Each sink of a consumer with its place in the document."""
    for number, choice in enumerate(consumer.sinks):
        one = isinstance(consumer.sink, str)
        yield choice.to, ("consumers", key, "sink") if one else ("consumers", key, "sink", number, "to")


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


def _feeds_itself(target: str, place: tuple[Any, ...], key: str, source: str, state: _Resolution) -> None:
    if target == source:
        message = f'"{key}" writes to its own source: what it returns comes back to it'
        hint = "name another sink, or return nothing when it is to end"
        span = state.declaration.span(*place)
        state.found.append(Diagnostic("BF223", message, span, hint, severity=Severity.WARNING))


def _role(target: str, role: Role, path: tuple[Any, ...], state: _Resolution) -> None:
    """Report a primitive that is no source (or sink), or none yet on its provider."""
    if not _refer(target, path, state):
        return
    primitive, spec = state.declaration.primitives[target]
    if role not in primitive.roles:
        code = "BF212" if role is Role.SOURCE else "BF213"
        fitting = [k for k, (p, _) in state.declaration.primitives.items() if role in p.roles]
        hint = did_you_mean("", fitting, f"no primitive here is a {role}")
        state.report(code, f'"{target}" is a {primitive.type}, which is no {role}', *path, hint=hint)
        return
    provider = spec.provider or (state.declaration.stack.provider if state.declaration.stack else "local")
    has_driver = provider in providers_of(primitive.type)
    if state.selected and has_driver and not hasattr(driver(primitive.type, provider), role.value):
        message = f'a {primitive.type} is no {role} on "{provider}" yet'
        state.report("BF217", message, *path, hint=f"name another {role}")


_PARAMETER = re.compile(r"\{\w+(?::(\w+))?\}")


def _routes(state: _Resolution) -> None:
    declaration = state.declaration
    patterns: dict[tuple[str, str], str] = {}
    for key, route in declaration.routes.items():
        if route.sink is not None:
            _role(route.sink, Role.SINK, ("routes", key, "sink"), state)
        _auth(route.auth, ("routes", key, "auth"), state)
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


def _no_service(key: str, name: str, state: _Resolution) -> None:
    declaration = state.declaration
    if ("services", name) not in declaration.broken:
        message = f'there is no service "{name}"'
        hint = "declare it below `services:`"
        state.misnamed(message, name, declaration.services, hint, "routes", key, "service")


def _never_reached(patterns: dict[tuple[str, str], str], state: _Resolution) -> None:
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
    """Every `${primitives.key.output}` names a primitive, and stands where outputs are known."""
    for path, node in walk(state.declaration.root.without("stacks")):
        for root, rest in references(str(node.value)) if isinstance(node, Scalar) and node.unknown else ():
            if root == "primitives":
                _refer(rest.partition(".")[0], path, state)
