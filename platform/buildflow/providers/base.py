"""What a driver gets of its provider: where the stack lives and how to reach its services."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from buildflow.ir.graph import ResourceGraph

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
