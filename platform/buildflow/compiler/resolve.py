"""A Declaration to a ResourceGraph: references followed, physical names given, a deterministic order."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from buildflow.compiler.ordering import in_order
from buildflow.compiler.references import Resolution, check_auth, check_role, provider_of, refer
from buildflow.compiler.refusals import check_refusals
from buildflow.compiler.routing import check_mounts, check_routes
from buildflow.compiler.validate import Declaration
from buildflow.diagnostics import Diagnostic, Related, Severity, Span, did_you_mean, misspelt
from buildflow.ir.graph import Resource, ResourceGraph
from buildflow.primitives.base import Reference, Role, Spec, name_rule
from buildflow.primitives.registry import driver, providers_of
from buildflow.providers.base import LocalPlace
from buildflow.spec.document import Scalar, walk
from buildflow.spec.interpolation import places
from buildflow.spec.project import IDENTIFIER, PROJECT_NAME, PROVIDERS, STACK_NAME, BuiltIn, Consumer


def resolve(declaration: Declaration, *, selected: bool = True) -> tuple[ResourceGraph, list[Diagnostic]]:
    """The graph of one stack. For a stack that is not `selected` a missing driver is not yet a mistake."""
    state = Resolution(declaration, selected=selected)
    references = {key: _references(key, spec, state) for key, (_, spec) in declaration.primitives.items()}
    order = _order(references, state)
    resources = [r for key in order if (r := _resource(key, references[key], state)) is not None]
    built = {r.key for r in resources}
    _twins(
        [*((r.key, r.label, r.id) for r in resources), *(_without_driver(k, state) for k in order if k not in built)],
        state,
    )
    _dependencies(state)
    _services(state)
    _consumers(state)
    _routes(state)
    check_mounts(state)
    _outputs(state)
    graph = ResourceGraph(project=declaration.name, stack=declaration.stack_name, resources=tuple(resources))
    check_refusals(graph, state)
    return graph, state.found


def local_dir(declaration: Declaration) -> Path:
    """The stack's folder, relative to the project's root."""
    settings = declaration.stack.local if declaration.stack else None
    return Path(settings.dir) if settings and settings.dir else Path(".buildflow") / declaration.stack_name


def _references(key: str, spec: Spec, state: Resolution) -> dict[str, str]:
    """A primitive's fields that name another one, checked."""
    result = {}
    for name, info in type(spec).model_fields.items():
        wanted = next((m for m in info.metadata if isinstance(m, Reference)), None)
        target = getattr(spec, name)
        if wanted is None or target is None:
            continue
        choices = [k for k, (p, _) in state.declaration.primitives.items() if p.type == wanted.type and k != key]
        if refer(target, ("primitives", key, name), state, choices):
            actual = state.declaration.primitives[target][0].type
            if actual != wanted.type:
                message = f'"{target}" is a {actual}; `{name}` has to name a {wanted.type}'
                hint = did_you_mean("", choices) or f"declare a {wanted.type} below `primitives:`"
                state.report("BF211", message, "primitives", key, name, hint=hint)
            else:
                _beside(key, spec, name, target, state)
                result[name] = target
    return result


def _beside(key: str, spec: Spec, field: str, target: str, state: Resolution) -> None:
    """Report a reference to what lives on another provider: no cloud reaches into another one."""
    own, other = (provider_of(s, state.declaration) for s in (spec, state.declaration.primitives[target][1]))
    if own != other and all(state.declaration.knows("primitives", k, "provider") for k in (key, target)):
        message = f'"{key}" is on "{own}", and its {field} "{target}" on "{other}"'
        place = (Related("it is declared here", state.place("primitives", target)),)
        hint = f"give {target} `provider: {own}`, or {key} `provider: {other}`"
        state.report("BF217", message, "primitives", key, field, hint=hint, related=place)


def _order(references: dict[str, dict[str, str]], state: Resolution) -> list[str]:
    """What is referred to stands before what refers to it."""
    order, circles = in_order({key: named.values() for key, named in references.items()})
    for circle in circles:
        words = f"primitives refer to each other in a circle: {' -> '.join(circle)}"
        closing = next(name for name, target in references[circle[-2]].items() if target == circle[-1])
        hint = f"leave `{closing}` out of one of them"
        state.report("BF216", words, "primitives", circle[-2], closing, hint=hint)
    return order


def _resource(key: str, references: dict[str, str], state: Resolution) -> Resource | None:
    declaration = state.declaration
    primitive, spec = declaration.primitives[key]
    provider = provider_of(spec, declaration)
    known = providers_of(primitive.type)
    sure = state.declaration.knows("primitives", key, "provider")
    if sure and (lacking := spec.lacks_on(provider)) and state.declaration.knows("primitives", key, lacking):
        message = f'`{lacking}` is missing in primitive "{key}": "{provider}" needs one'
        state.report("BF202", message, "primitives", key, hint=f"write `{lacking}: ...`")
    if provider not in known:
        _named(key, spec, _rule_name(key, provider, state), provider, state)
        if state.selected and sure:
            message = f'a {primitive.type} is not on "{provider}" yet'
            place = ("primitives", key, "provider") if spec.provider else ("primitives", key, "type")
            state.report("BF217", message, *place, hint=f"providers that have it: {', '.join(known) or 'none yet'}")
        return None
    chosen = driver(primitive.type, provider)
    known_there = {f: t for f, t in references.items() if declaration.knows("primitives", t, provider)}
    spec = spec.with_references({field: declaration.primitives[target][1] for field, target in known_there.items()})
    name = chosen.name(key, spec, declaration.name, declaration.stack_name)
    _named(key, spec, name, provider, state)
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


def _rule_name(key: str, provider: str, state: Resolution) -> str:
    """The physical name on a provider that has no driver yet, by the provider's rule for it."""
    primitive, spec = state.declaration.primitives[key]
    rule = name_rule(primitive, provider, spec)
    if spec.name or rule is None:
        return spec.name or key
    return rule.physical(state.declaration.name, state.declaration.stack_name, key)


_NAMING = ("name", "dataset", "provider", *PROVIDERS)
"""The fields that a physical name may rest on."""


def _named(key: str, spec: Spec, name: str, provider: str, state: Resolution) -> None:
    """Report a name that the provider will refuse; one that holds a reference is known later."""
    primitive = state.declaration.primitives[key][0]
    rule = name_rule(primitive, provider, spec)
    has_driver = provider in providers_of(primitive.type)
    if not all(state.declaration.knows("primitives", key, field) for field in _NAMING):
        return
    refused = rule.refuses(name) if rule else driver(primitive.type, provider).check_name(name) if has_driver else ""
    if not spec.name and not (_well_named(state.declaration) and re.fullmatch(IDENTIFIER, key)):
        return  # that is a mistake of its own
    if refused and "${" not in name:
        place: tuple[str, ...] = ("primitives", key, "name") if spec.name else ("primitives", key)
        near = rule.nearest(name) if rule else ""
        hint = f"write `name: {near}`" if near else "give it another `name`" if spec.name else "give it a `name`"
        state.report("BF220", f'{provider} refuses the name "{name}": {refused}', *place, hint=hint)


def _well_named(declaration: Declaration) -> bool:
    return bool(re.fullmatch(PROJECT_NAME, declaration.name) and re.fullmatch(STACK_NAME, declaration.stack_name))


def _twins(named: Iterable[tuple[str, str, str]], state: Resolution) -> None:
    """Two of a kind (a key, a kind, an id each) with one name."""
    seen: dict[tuple[str, str], str] = {}
    for key, kind, identity in named:
        if not state.declaration.knows("primitives", key):
            continue
        first = seen.setdefault((kind, identity), key)
        if first != key:
            message = f'"{key}" and "{first}" are both {identity}'
            related = (Related("the other one", state.declaration.key_span("primitives", first)),)
            state.report("BF221", message, "primitives", key, hint="give one another name or place", related=related)


def _without_driver(key: str, state: Resolution) -> tuple[str, str, str]:
    primitive, spec = state.declaration.primitives[key]
    provider = provider_of(spec, state.declaration)
    return key, f"{primitive.type} on {provider}", _rule_name(key, provider, state)


def _dependencies(state: Resolution) -> None:
    """Built-in dependencies name primitives in their own fields."""
    for key, dependency in state.declaration.dependencies.items():
        for name in dependency.references if isinstance(dependency, BuiltIn) else ():
            target = getattr(dependency, name)
            path = ("dependencies", key, name)
            choices = [k for k, (p, _) in state.declaration.primitives.items() if p.type == name]
            if refer(target, path, state, choices) and (actual := state.declaration.primitives[target][0].type) != name:
                message = f'"{target}" is a {actual}; `{name}` has to name a {name}'
                hint = did_you_mean("", choices) or f"declare a {name} below `primitives:`"
                state.report("BF211", message, *path, hint=hint)


def _services(state: Resolution) -> None:
    for key, service in state.declaration.services.items():
        check_auth(service.auth, ("services", key, "auth"), state)


def _consumers(state: Resolution) -> None:
    _shared_sources(state)
    primitives = state.declaration.primitives
    for key, consumer in state.declaration.consumers.items():
        check_role(consumer.source, Role.SOURCE, ("consumers", key, "source"), state)
        is_source = consumer.source in state.fitting[Role.SOURCE]
        for target, at_sink in _sink_places(key, consumer):
            check_role(target, Role.SINK, at_sink, state)
            if is_source:
                _feeds_itself(target, at_sink, key, consumer.source, state)
        place, tables = ("consumers", key, "dead_letter"), [k for k, (p, _) in primitives.items() if p.type == "table"]
        if consumer.dead_letter is not None and refer(consumer.dead_letter, place, state, tables):
            actual = state.declaration.primitives[consumer.dead_letter][0].type
            if actual != "table":
                message = f'"{consumer.dead_letter}" is a {actual}; dead letters go to a table'
                hint = did_you_mean("", tables) or "declare one with `columns: buildflow.types:DeadLetter`"
                state.report("BF211", message, *place, hint=hint)


def _sink_places(key: str, consumer: Consumer) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Each sink of a consumer with its place in the document."""
    for number, choice in enumerate(consumer.sinks):
        one = isinstance(consumer.sink, str)
        yield choice.to, ("consumers", key, "sink") if one else ("consumers", key, "sink", number, "to")


def _shared_sources(state: Resolution) -> None:
    """Each of two consumers would get a part of the elements, and neither would know."""
    first: dict[str, str] = {}
    for key, consumer in state.declaration.consumers.items():
        other = first.setdefault(consumer.source, key)
        if other != key and consumer.source in state.declaration.primitives:
            message = f'"{consumer.source}" already has the consumer "{other}"; each would get a part of its elements'
            related = (Related("the other one", state.declaration.span("consumers", other, "source")),)
            hint = "use one consumer, or a queue for each"
            state.report("BF222", message, "consumers", key, "source", hint=hint, related=related)


def _feeds_itself(target: str, place: tuple[Any, ...], key: str, source: str, state: Resolution) -> None:
    spec = state.declaration.primitives[source][1] if source in state.declaration.primitives else None
    if target == source or (spec is not None and getattr(spec, "bucket", None) == target):
        message = f'"{key}" writes to its own source: what it returns comes back to it'
        hint = "name another sink, or return nothing when it is to end"
        span = state.declaration.span(*place)
        state.found.append(Diagnostic("BF223", message, span, hint, severity=Severity.WARNING))


def _routes(state: Resolution) -> None:
    """Each route; what it answers is held against the others where its path is known."""
    declaration = state.declaration
    unsure = {
        declaration.key_span("routes", key)
        for key, route in declaration.routes.items()
        if not (declaration.knows("routes", key, "path") and declaration.knows("routes", key, "service"))
        or (route.service and not declaration.knows("services", route.service, "prefix"))
        or ("services", route.service) in declaration.broken
    }
    apart = replace(state, found=[])
    check_routes(apart)
    of_paths = (d for d in apart.found if d.code in ("BF218", "BF224", "BF227"))
    unsaid = [d for d in of_paths if unsure & {d.span, *(r.span for r in d.related)}]
    state.found += [d for d in apart.found if d not in unsaid]


def _outputs(state: Resolution) -> None:
    """Every `${primitives.key.output}` names a primitive and one of its outputs."""
    for _, node in walk(state.declaration.root.without("stacks")):
        for root, rest, place in places(node) if isinstance(node, Scalar) and node.unknown else ():
            if root == "primitives":
                _output(rest, place, state)


def _output(rest: str, place: Span, state: Resolution) -> None:
    key, _, output = rest.partition(".")
    primitives = state.declaration.primitives
    if key not in primitives:
        if ("primitives", key) not in state.declaration.broken:
            message = f'there is no primitive "{key}"'
            state.found.append(misspelt("BF210", message, place, key, primitives, "declare it below `primitives:`"))
        return
    primitive, spec = primitives[key]
    provider = provider_of(spec, state.declaration)
    sure = provider in providers_of(primitive.type) and state.declaration.knows("primitives", key, "provider")
    known = getattr(driver(primitive.type, provider), "outputs", ()) if sure else ()
    if not output and known:
        message = f"`${{primitives.{key}}}` names no output"
        hint = f"write ${{primitives.{key}.{known[0]}}}; its outputs: {', '.join(known)}"
        state.found.append(Diagnostic("BF123", message, place, hint))
    elif known and output not in known:
        message = f'a {primitive.type} has no output "{output}"'
        state.found.append(misspelt("BF123", message, place, output, known))
