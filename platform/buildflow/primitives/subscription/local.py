"""A subscription on the local stack: a Redis stream of its own, into which its topic writes."""

from collections.abc import Sequence
from typing import Any

from buildflow.errors import ResourceFailed
from buildflow.ir.graph import Resource
from buildflow.primitives.base import Action, Change, Element
from buildflow.primitives.redis_stream import RedisStream, check_key
from buildflow.primitives.topic.redis_topic import RedisTopic
from buildflow.providers.base import LocalSession, physical_name


class LocalSubscriptionDriver:
    """`subscription` on the local stack; a `LocalDriver`."""

    label = "RedisSubscription"
    outputs = ("name", "url", "topic")

    def name(self, key: str, spec: Any, project: str, stack: str) -> str:
        return spec.name or physical_name(project, stack, key)

    def identify(self, resource: Resource, settings: Any) -> str:
        return f"redis://{resource.name}"

    def check_name(self, name: str) -> str:
        return check_key("subscription", name)

    def create(self, resource: Resource, session: LocalSession) -> dict[str, Any]:
        return self.update(resource, resource, session)

    def exists(self, resource: Resource, session: LocalSession) -> bool:
        subscribed = RedisTopic(session.redis, _topic(resource, session)).subscribed(resource.name)
        return subscribed and _stream(resource, session).exists()

    def compare(self, old: Resource, new: Resource, session: LocalSession) -> Change:
        """Nothing here loses messages: those that wait stay, or move along; what changes is which ones come."""
        before, after = _declared(old, session), _declared(new, session)
        fields = tuple(f"{name}: {before[name]} -> {after[name]}" for name in after if before[name] != after[name])
        return Change(Action.UPDATE if fields else Action.NONE, fields)

    def update(self, old: Resource, new: Resource, session: LocalSession) -> dict[str, Any]:
        topic, before = _topic(new, session), RedisTopic(session.redis, _topic(old, session))
        subscribed = RedisTopic(session.redis, topic).subscribe(
            new.name,
            _stream(new, session).group,
            filter=_filter(new),
            attributes=bool(new.spec.get("include_attributes", True)),
            before=(before, old.name),
        )
        if not subscribed:
            words = f'subscription "{new.key}" cannot be renamed to {new.name}: Redis holds that key already'
            raise ResourceFailed(words)
        return {"name": new.name, "url": f"redis://{new.name}", "topic": topic}

    def content(self, resource: Resource, session: LocalSession) -> str:
        stream = _stream(resource, session)
        count = sum(stream.counts())
        return f"{count:,} message{'s' * (count != 1)}" if count else ""

    def delete(self, resource: Resource, session: LocalSession) -> None:
        RedisTopic(session.redis, _topic(resource, session)).unsubscribe(resource.name)
        _stream(resource, session).delete()

    def source(self, resource: Resource, session: LocalSession) -> "SubscriptionStream":
        return _stream(resource, session)


DRIVER = LocalSubscriptionDriver()


class SubscriptionStream(RedisStream):
    """Gives at most `batch_size` messages at once."""

    batch_size = 1000

    def lease(self, limit: int) -> Sequence[Element]:
        return super().lease(min(limit, self.batch_size))


def _stream(resource: Resource, session: LocalSession) -> SubscriptionStream:
    stream = SubscriptionStream(session.redis, resource.name, lease_seconds=_lease(resource))
    stream.batch_size = int(resource.spec.get("batch_size", SubscriptionStream.batch_size))
    return stream


def _topic(resource: Resource, session: LocalSession) -> str:
    """The topic's physical name: the recorded one, which may be no more what is declared."""
    return str(resource.outputs.get("topic") or session.graph[resource.references["topic"]].name)


def _lease(resource: Resource) -> float:
    return float(resource.spec.get("lease", 30.0))


def _filter(resource: Resource) -> dict[str, list[str]]:
    """Each attribute with the values that it may have."""
    declared = resource.spec.get("filter") or {}
    return {name: [values] if isinstance(values, str) else list(values) for name, values in declared.items()}


def _declared(resource: Resource, session: LocalSession) -> dict[str, str]:
    """What of a declaration makes a difference, in words."""
    wanted = (f"{name} is {' or '.join(values) or 'nothing'}" for name, values in sorted(_filter(resource).items()))
    return {
        "name": resource.name,
        "topic": _topic(resource, session),
        "lease": f"{_lease(resource):g}s",
        "filter": ", ".join(wanted) or "(none)",
        "include_attributes": str(resource.spec.get("include_attributes", True)).lower(),
    }
