"""The edges of each route group and consumer -> what it has to be allowed. Pure: no cloud is asked.

An identity is what a process signs in as: the routes of a service (or those without one), or a consumer. It gets what
its source, its sinks, its dead letters and the primitives of its handler and its dependencies need, and no more.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from buildflow.ir.graph import Resource, ResourceGraph
from buildflow.ir.runtime import ConsumerPlan, DependencyPlan, Injection, RoutePlan, RuntimePlan
from buildflow.primitives.base import Grant, Role
from buildflow.primitives.registry import driver
from buildflow.providers.base import physical_name
from buildflow.spec.interpolation import references

if TYPE_CHECKING:
    from buildflow.provision.cloud.steps import Step

_LONGEST_NAME = 64
"""Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html"""

KEY = "kms_key_arn"

Edge = tuple[str, Role]
"""A primitive, by its key, and what is done with it."""


class Identity(BaseModel):
    """One role: its name, and all that it is allowed. `secrets` are names in the stack's store."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    name: str
    grants: tuple[Grant, ...] = ()
    secrets: tuple[str, ...] = ()


def identities(plan: RuntimePlan, graph: ResourceGraph, provider: str = "aws") -> tuple[Identity, ...]:
    """One for the routes of each service, one for each consumer; none where nothing of the stack is on `provider`."""
    if not any(resource.provider == provider for resource in graph.resources):
        return ()
    groups: dict[str, list[RoutePlan]] = defaultdict(list)
    for route in plan.routes:
        groups[f"routes-{route.service}" if route.service else "routes"].append(route)
    edges = _Edges(plan)
    return tuple(
        _identity(key, found, keys, plan, graph, provider)
        for key, found, keys in (
            *((key, *edges.of_routes(routes)) for key, routes in groups.items()),
            *((f"consumer-{consumer.key}", *edges.of_consumer(consumer)) for consumer in plan.consumers),
        )
    )


def permissions(identities: Iterable[Identity]) -> dict[str, list[str]]:
    """What each identity may do, in words, by its key: `s3:GetObject on images/*`."""
    return {identity.key: list(_sentences(identity)) for identity in identities}


def permission_changes(old: Mapping[str, Sequence[str]], new: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """What a change lets each identity do, and what no longer, a sentence for each thing that it may do it with; `old`
    and `new` are what `permissions` gave."""
    return tuple(
        f"{key} {verb} {', '.join(actions)} on {what}"
        for key in dict.fromkeys((*new, *old))
        for verb, some, others in (("may now", new, old), ("may no longer", old, new))
        for what, actions in _by_target(s for s in some.get(key, ()) if s not in others.get(key, ())).items()
    )


def role_changes(key: str, verb: str, steps: Iterable["Step"], anew: Sequence[str]) -> Iterator[str]:
    """What becomes of a role whose grants stay as they are. `anew` are those of its primitives that are made anew."""
    policies = [s for s in steps if s.verb == "update" and "policy" in s.before and "policy" in s.after]
    before, after = ([_allowed_by(s, when) for s in policies] for when in ("before", "after"))
    if verb == "update" and policies and None not in (*before, *after):
        old, new = ({key: [w for words in side for w in words or ()]} for side in (before, after))
        if told := permission_changes(old, new):
            yield from told
            return
    if verb == "update" and policies and anew:
        yield f"{key} may do the same as before, with what {', '.join(anew)} becomes: only the ARNs change"
        return
    fields = [f"{step.noun}.{f}" for step in steps if step.verb == "update" for f in step.fields]
    yield f"{key}: its role is {verb}d" + (f" ({', '.join(fields)})" if verb == "update" and fields else "")


def _allowed_by(step: "Step", when: Literal["before", "after"]) -> list[str] | None:
    """What a policy allows, in words; None where it is not known yet."""
    try:
        document = json.loads((step.before if when == "before" else step.after)["policy"])
        statements = _listed(document["Statement"])
        return [
            f"{action} on {arn}"
            for s in statements
            for arn in _listed(s["Resource"])
            for action in _listed(s["Action"])
        ]
    except (ValueError, TypeError, KeyError):
        return None


def _listed(value: Any) -> list[Any]:
    """IAM takes one of something as it is."""
    return value if isinstance(value, list) else [value]


def _by_target(sentences: Iterable[str]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = defaultdict(list)
    for sentence in sentences:
        action, _, what = sentence.partition(" on ")
        grouped[what].append(action)
    return grouped


def _sentences(identity: Identity) -> Iterator[str]:
    for grant in identity.grants:
        part = "" if grant.on == "arn" else f"the {grant.on.removesuffix('_arn').replace('_', ' ')} of "
        yield from (f"{action} on {part}{grant.of}{grant.below}" for action in grant.actions)
    yield from (f"secretsmanager:GetSecretValue on the secret {name}" for name in identity.secrets)


class _Edges:
    """Which primitives and secrets a part of the plan reaches, its dependencies' own included."""

    def __init__(self, plan: RuntimePlan) -> None:
        self._plan = plan
        self._dependencies = {d.key: d for d in plan.dependencies}
        self._services = {s.key: s for s in plan.services}

    def of_routes(self, routes: Sequence[RoutePlan]) -> tuple[list[Edge], list[str]]:
        edges = [(route.sink, Role.SINK) for route in routes if route.sink]
        inject = [i for route in routes for i in route.inject]
        needed = self._closure(inject, [r.auth for r in routes if r.auth])
        middleware = [m.arguments for r in routes if r.service for m in self._services[r.service].middleware]
        return self._with(edges, inject, needed, middleware)

    def of_consumer(self, consumer: ConsumerPlan) -> tuple[list[Edge], list[str]]:
        sinks = [consumer.sink, *(sink.to for sink in consumer.sinks), consumer.dead_letter]
        edges = [(consumer.source, Role.SOURCE), *((sink, Role.SINK) for sink in sinks if sink)]
        inject = consumer.handler.inject
        return self._with(edges, inject, self._closure(inject, ()), ())

    def _with(
        self, edges: list[Edge], inject: Iterable[Injection], needed: Sequence[DependencyPlan], texts: Iterable[Any]
    ) -> tuple[list[Edge], list[str]]:
        injections = [*inject, *(i for dependency in needed for i in dependency.inject)]
        handles = [(i.key, Role.STORE) for i in injections if i.kind == "primitive"]
        plan = self._plan
        values = [plan.broker_url, plan.state_url, *(dependency.arguments for dependency in needed), *texts]
        return [*edges, *handles], [name for value in values for name in _secrets_in(value)]

    def _closure(self, inject: Iterable[Injection], also: Iterable[str]) -> list[DependencyPlan]:
        """The dependencies that these need, and those that they need."""
        waiting = [*(i.key for i in inject if i.kind == "dependency"), *also]
        found: dict[str, DependencyPlan] = {}
        while waiting:
            key = waiting.pop()
            if key not in found:
                found[key] = self._dependencies[key]
                waiting += [i.key for i in found[key].inject if i.kind == "dependency"]
        return list(found.values())


def _identity(
    key: str, edges: Iterable[Edge], secrets: Iterable[str], plan: RuntimePlan, graph: ResourceGraph, provider: str
) -> Identity:
    used = [(graph[of], role) for of, role in dict.fromkeys(edges) if of in graph]
    here = [(resource, role) for resource, role in used if resource.provider == provider]
    grants = [g for resource, role in here for g in _grants(resource, role) if g.on != KEY or _has_key(graph[g.of])]
    # what is managed got its secrets when it was applied; processes sign in to what is not with them
    named = [name for resource, _ in used if not resource.managed for name in _secrets_in(resource.spec)]
    store = plan.secrets.store == f"{provider}_secrets_manager"
    return Identity(
        key=key,
        name=physical_name(plan.project, plan.stack, key, limit=_LONGEST_NAME),
        grants=_merged(grants),
        secrets=tuple(sorted({*secrets, *named})) if store else (),
    )


def _has_key(bucket: Resource) -> bool:
    """Whether a key of one's own encrypts it: only then is there something to be allowed."""
    return bool((bucket.spec.get("aws") or {}).get("kms_key"))


def _grants(resource: Resource, role: Role) -> tuple[Grant, ...]:
    chosen = driver(resource.type, resource.provider)
    return tuple(chosen.grants(resource, role)) if hasattr(chosen, "grants") else ()


def _merged(grants: Iterable[Grant]) -> tuple[Grant, ...]:
    """One grant for each ARN, its actions in order."""
    actions: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for grant in grants:
        actions[grant.of, grant.on, grant.below].update(grant.actions)
    return tuple(Grant(of, tuple(sorted(a)), on, below) for (of, on, below), a in actions.items())


def _secrets_in(value: Any) -> Iterator[str]:
    """The names of the secrets that a value refers to."""
    if isinstance(value, str):
        yield from (name for root, name in references(value) if root == "secret")
    elif isinstance(value, dict):
        yield from (name for item in value.values() for name in _secrets_in(item))
    elif isinstance(value, list | tuple):
        yield from (name for item in value for name in _secrets_in(item))
