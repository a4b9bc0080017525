"""What a driver gets of its provider: where the stack lives and how to reach its services."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from buildflow.ir.graph import Resource, ResourceGraph

if TYPE_CHECKING:  # `check` has no use for it
    from buildflow.providers.postgres_service import PostgresService


class LocalSession(Protocol):
    """The session of `provider: local`, as its drivers see it."""

    graph: ResourceGraph
    root: Path
    """The folder of buildflow.yaml; relative paths start here."""
    dir: Path
    """The stack's folder, `.buildflow/<stack>` unless `local.dir` says otherwise."""
    namespace: str
    """`{project}-{stack}`: the prefix of every Redis key."""

    def redis(self) -> Any:
        """A `redis.Redis` (sync, `decode_responses=False`), thread-safe, to `state_url` or the embedded server,
        which is started or attached to on first use."""
        ...

    def postgres(self) -> "PostgresService":
        """The embedded PostgreSQL, started or attached to on first use."""
        ...

    def close(self) -> None: ...


class CloudProgram(Protocol):
    """The Pulumi program of one stack, as a driver that declares its primitive to it sees it."""

    graph: ResourceGraph
    stack_settings: Mapping[str, Any]
    """The stack's settings of the cloud, such as `aws: {region: ...}`."""

    def options(self, resource: Resource, *, parent: Any = None, **more: Any) -> Any:
        """The `pulumi.ResourceOptions` of a component, or of a child of `parent`: its provider, what it depends on,
        whether it is protected."""
        ...

    def component(self, key: str) -> Any:
        """The component of a primitive that was declared before: one that this one refers to."""
        ...

    def tags(self, resource: Resource) -> dict[str, str]:
        """The tags that everything of a primitive bears."""
        ...


@dataclass(frozen=True)
class LocalPlace:
    """What names and ids of local resources depend on: the stack's folder, relative to the project's root."""

    dir: Path


def physical_name(project: str, stack: str, key: str, *, limit: int = 63) -> str:
    """`{project}-{stack}-{key}`, shortened with a hash where a limit asks for it."""
    name = f"{project}-{stack}-{key.replace('_', '-')}".lower()
    if len(name) <= limit:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: limit - 9].rstrip('-')}-{digest}"
