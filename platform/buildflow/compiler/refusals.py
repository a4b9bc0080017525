"""What a cloud would refuse, or not keep, of what is declared: its drivers know, and are asked before it is."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from buildflow.compiler.references import Resolution
from buildflow.diagnostics import Diagnostic, Related, Severity
from buildflow.ir.graph import Resource, ResourceGraph
from buildflow.primitives.registry import driver
from buildflow.spec.document import Scalar, at, walk


def check_refusals(graph: ResourceGraph, state: Resolution) -> None:
    """Report what the driver of each resource says that its cloud will refuse, and orders that it does not keep."""
    managed = [resource for resource in graph.resources if resource.managed]
    for resource in managed:
        _refused(resource, graph, state)
    for group in _of_a_kind(resource for resource in managed if _is_known(resource.key, (), state)):
        for number, resource in enumerate(group):
            _clash(group[:number], resource, state)
    for key, consumer in state.declaration.consumers.items():
        if consumer.ordering and consumer.source in graph:
            _unordered(key, graph[consumer.source], graph, state)


def _of_a_kind(resources: Iterable[Resource]) -> Iterable[Sequence[Resource]]:
    """Those of one type and provider that refer to the same primitives: they may clash."""
    groups: dict[Any, list[Resource]] = defaultdict(list)
    for resource in resources:
        if resource.references:
            groups[resource.type, resource.provider, *resource.references.items()].append(resource)
    return groups.values()


def _refused(resource: Resource, graph: ResourceGraph, state: Resolution) -> None:
    refuses = getattr(driver(resource.type, resource.provider), "refuses", None)
    for refusal in refuses(resource, _referred(resource, graph)) if refuses else ():
        if _is_known(resource.key, refusal.field, state):
            state.report("BF229", refusal.why, "primitives", resource.key, *refusal.field, hint=refusal.hint)


def _clash(others: Sequence[Resource], resource: Resource, state: Resolution) -> None:
    """Report the first of the others that it cannot stand beside."""
    clash = getattr(driver(resource.type, resource.provider), "clash", None)
    if clash is None:
        return
    for other in others:
        if refusal := clash(other, resource):
            path = ("primitives", resource.key, *refusal.field)
            related = (Related("the other one", state.place("primitives", other.key)),)
            state.report("BF229", refusal.why, *path, hint=refusal.hint, related=related)
            return


def _unordered(key: str, source: Resource, graph: ResourceGraph, state: Resolution) -> None:
    unordered = getattr(driver(source.type, source.provider), "unordered", None)
    why = unordered(source, _referred(source, graph)) if unordered else None
    if why and _is_known(source.key, (), state):
        what, hint = why
        message = f"{what}: elements of one key come one at a time, but not always in the order of their sending"
        place = state.declaration.key_span("consumers", key, "ordering")
        related = (Related("its source", state.place("primitives", source.key)),)
        state.found.append(Diagnostic("BF230", message, place, hint, related, Severity.WARNING))


def _referred(resource: Resource, graph: ResourceGraph) -> dict[str, Resource]:
    return {field: graph[key] for field, key in resource.references.items() if key in graph}


def _is_known(key: str, field: tuple[Any, ...], state: Resolution) -> bool:
    """Whether what the file says there was read, and no `${...}` in it is known later."""
    path = ("primitives", key, *field)
    below = walk(at(state.declaration.root, path))
    return state.declaration.knows(*path) and not any(isinstance(node, Scalar) and node.unknown for _, node in below)
