"""A topic on the local stack: what is sent to it is written to each of its subscriptions."""

from typing import Any

from buildflow.errors import ResourceFailed
from buildflow.ir.graph import Resource
from buildflow.primitives.base import Action, Change
from buildflow.primitives.messages import encoder
from buildflow.primitives.queue.local import LocalQueue, QueueSink
from buildflow.primitives.redis_stream import check_key
from buildflow.primitives.topic.redis_topic import RedisTopic
from buildflow.providers.base import LocalSession, physical_name


class LocalTopicDriver:
    """`topic` on the local stack; a `LocalDriver`."""

    label = "RedisTopic"
    outputs = ("name", "url")

    def name(self, key: str, spec: Any, project: str, stack: str) -> str:
        return spec.name or physical_name(project, stack, key)

    def identify(self, resource: Resource, settings: Any) -> str:
        return f"redis://{resource.name}"

    def check_name(self, name: str) -> str:
        return check_key("topic", name)

    def create(self, resource: Resource, session: LocalSession) -> dict[str, Any]:
        _topic(resource, session).create()
        return {"name": resource.name, "url": f"redis://{resource.name}"}

    def exists(self, resource: Resource, session: LocalSession) -> bool:
        return _topic(resource, session).exists()

    def compare(self, old: Resource, new: Resource, session: LocalSession) -> Change:
        """Its messages are with its subscriptions, which move along."""
        if old.name == new.name:
            return Change(Action.NONE)
        return Change(Action.UPDATE, (f"name: {old.name} -> {new.name}",))

    def update(self, old: Resource, new: Resource, session: LocalSession) -> dict[str, Any]:
        if old.name != new.name and not _topic(old, session).rename(new.name):
            raise ResourceFailed(f'topic "{new.key}" cannot be renamed to {new.name}: there is one of that name')
        return self.create(new, session)

    def content(self, resource: Resource, session: LocalSession) -> str:
        return ""

    def delete(self, resource: Resource, session: LocalSession) -> None:
        _topic(resource, session).delete()

    def sink(self, resource: Resource, session: LocalSession) -> QueueSink:
        """Sends each row as a message of its own; a `Message` with its attributes."""
        return QueueSink(_topic(resource, session), encoder(resource, session.graph))

    def handle(self, resource: Resource, session: LocalSession) -> LocalQueue:
        """What a handler gets: `buildflow.types.Topic`."""
        return LocalQueue(resource.name, _topic(resource, session), encoder(resource, session.graph))


DRIVER = LocalTopicDriver()


def _topic(resource: Resource, session: LocalSession) -> RedisTopic:
    return RedisTopic(session.redis, resource.name)
