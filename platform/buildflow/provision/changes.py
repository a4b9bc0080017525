"""What `apply` would do of what drivers create themselves: the declared graph against the recorded state, asked of
each resource's driver. What a cloud's engine creates is left to it."""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from buildflow.ir.changes import ChangeSet, ResourceChange
from buildflow.ir.graph import Resource, ResourceGraph
from buildflow.primitives.base import Action
from buildflow.primitives.registry import driver, is_declared
from buildflow.provision.state import State

Sessions = Callable[[str], Any]
"""The session of a provider."""


def diff(graph: ResourceGraph, state: State, sessions: Sessions) -> ChangeSet:
    """Every change that brings `state` to `graph`: creates and changes in dependency order, deletes before them in
    the reverse one."""
    recorded = _direct(state.resources.values())
    gone = [r for r in recorded if r.key not in graph or not _same_kind(r, graph[r.key])]
    kept = {r.key: r for r in recorded if r not in gone}
    changes = [c for r in _direct(graph.resources) if (c := _change(r, kept.get(r.key), sessions(r.provider)))]
    deletes = [_delete(r, sessions(r.provider)) for r in reversed(gone)]
    return ChangeSet(project=graph.project, stack=graph.stack, changes=(*deletes, *changes))


def destruction(state: State, project: str, stack: str, sessions: Sessions) -> ChangeSet:
    """The deletion of everything that is recorded."""
    deletes = [_delete(r, sessions(r.provider)) for r in reversed(_direct(state.resources.values()))]
    return ChangeSet(project=project, stack=stack, changes=tuple(deletes))


def unapplied(graph: ResourceGraph, state: State) -> list[str]:
    """The keys whose declaration is not what is recorded, without asking any driver."""
    keys = [r.key for r in graph.resources if declared(r) != declared(state.resources.get(r.key))]
    return keys + [key for key in state.resources if key not in graph]


def _direct(resources: Iterable[Resource]) -> list[Resource]:
    return [r for r in resources if not is_declared(r.type, r.provider)]


def _same_kind(old: Resource, new: Resource) -> bool:
    """Whether one driver can bring old to new; else the one is deleted and the other created."""
    return (old.type, old.provider) == (new.type, new.provider)


def differs(old: Resource, new: Resource) -> Iterator[str]:
    """The fields of a declaration that differ, with their values before and after."""
    for name in dict.fromkeys([*old.spec, *new.spec]):
        before, after = old.spec.get(name), new.spec.get(name)
        if before != after:
            yield f"{name}: {json.dumps(before)} -> {json.dumps(after)}"


def declared(resource: Resource | None) -> Resource | None:
    """As it was written: what it became is left out."""
    return resource.model_copy(update={"outputs": {}}) if resource else None


def _change(new: Resource, old: Resource | None, session: Any) -> ResourceChange | None:
    if not new.managed:
        return None if old is not None and declared(old) == declared(new) else _verb("create", new, None)
    chosen = driver(new.type, new.provider)
    if old is None or not chosen.exists(old, session):
        return _verb("create", new, old)
    change = chosen.compare(old, new, session)
    if change.action is Action.NONE:
        return None if declared(old) == declared(new) else _verb("update", new, old)
    return ResourceChange(
        verb="update" if change.action is Action.UPDATE else "replace",
        key=new.key,
        label=new.label,
        id=new.id,
        old=old,
        new=new,
        fields=change.fields,
        loses=change.loses_data,
    )


def _verb(verb: Any, new: Resource, old: Resource | None) -> ResourceChange:
    return ResourceChange(verb=verb, key=new.key, label=new.label, id=new.id, old=old, new=new)


def _delete(old: Resource, session: Any) -> ResourceChange:
    chosen = driver(old.type, old.provider)
    held = chosen.content(old, session) if old.managed and chosen.exists(old, session) else ""
    return ResourceChange(verb="delete", key=old.key, label=old.label, id=old.id, old=old, loses=held)
