"""Pulumi's steps as changes of primitives: what becomes of each, and what that would lose."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from buildflow.errors import NotApplied
from buildflow.ir.changes import ResourceChange, Verb
from buildflow.ir.graph import Resource, ResourceGraph
from buildflow.primitives.registry import driver
from buildflow.provision.cloud.steps import BUCKET, IDENTITY, INSTANCE, QUEUE, Step, Steps
from buildflow.provision.state import State

HOLDS_DATA = (BUCKET, QUEUE, INSTANCE)
"""What loses people's data when it is replaced or deleted."""

Sessions = Callable[[str], Any]
"""The session of a provider."""


def resource_changes(steps: Steps, graph: ResourceGraph, state: State, sessions: Sessions) -> Iterator[ResourceChange]:
    """What the steps mean for the primitives, known ones and those that another machine made. Roles are no
    primitives."""
    for (key, label), found in steps.by_component().items():
        new, old = (_labelled(resources.get(key), label) for resources in (graph.by_key, state.resources))
        verb = verb_of(found)
        if verb is None or label == IDENTITY:
            continue
        old = _as_made(old, key, label, found)
        known = new or old
        loses = _loses(verb, old or known, found, sessions)
        yield ResourceChange(
            verb=verb,
            key=key,
            label=label,
            id=known.id if known else key,
            old=old,
            new=new if verb != "delete" else None,
            fields=tuple(_fields(verb, found)),
            loses=loses,
        )


def verb_of(steps: Sequence[Step]) -> Verb | None:
    """What becomes of a component: what becomes of itself, else of what it is for, else the gravest of what its
    children undergo."""
    own = next((step.verb for step in steps if step.is_component and step.verb in ("create", "delete")), None)
    if own is not None:
        return own
    children = [step for step in steps if step.verb is not None and not step.is_component]
    main = next((step.verb for step in children if step.is_main), None)
    if main == "create":
        return "create"
    if main in ("replace", "delete") or any(
        step.verb in ("replace", "delete") and step.type in HOLDS_DATA for step in children
    ):
        return "replace"
    return "update" if children else None


def _as_made(old: Resource | None, key: str, label: str, steps: Sequence[Step]) -> Resource | None:
    """A bucket that goes, as the engine's own state has it: another machine may have made it, of another file. Its
    objects go with it only where that state says so."""
    bucket = next((s for s in steps if s.type == BUCKET and s.is_main and s.verb in ("replace", "delete")), None)
    if bucket is None:
        return old
    name, known = str(bucket.before.get("bucket", key)), old
    if known is None:
        region = {"aws": {"region": bucket.before.get("region")}}
        known = Resource(key=key, type="bucket", provider="aws", name=name, id="", label=label, spec=region)
    spec = {**known.spec, "force_destroy": bool(bucket.before.get("forceDestroy"))}
    return known.model_copy(update={"name": name, "id": f"s3://{name}", "spec": spec})


def _labelled(resource: Resource | None, label: str) -> Resource | None:
    return resource if resource is not None and resource.label == label else None


def _fields(verb: Verb, steps: Sequence[Step]) -> Iterator[str]:
    """What changes, in words; the main resource's properties bare, others' below its noun."""
    if verb not in ("update", "replace"):
        return
    for step in steps:
        if step.is_component or step.verb is None:
            continue
        main = step.is_main or step.type in HOLDS_DATA
        if step.verb == "update" or (step.verb == "replace" and step.fields):
            yield from (field if main else f"{step.noun}.{field}" for field in step.fields)
        if step.verb != "update" and (not main or step.verb == "delete"):
            yield f"{step.noun}: {step.verb}d"


def _loses(verb: Verb, old: Resource | None, steps: Sequence[Step], sessions: Sessions) -> str:
    """What of people's data goes, asked of the cloud."""
    gone = [s for s in steps if s.type in HOLDS_DATA and s.verb in ("replace", "delete")]
    if not gone or verb not in ("replace", "delete"):
        return ""
    if old is None:  # another machine made it, of a file that this one does not have
        return "all that it holds"
    try:
        return str(driver(old.type, old.provider).content(old, sessions(old.provider)))
    except NotApplied:  # others have deleted it already
        return ""
