"""`provider: aws`: a stack in one account and region, reached through boto3."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from buildflow.ir.graph import Resource, ResourceGraph
from buildflow.providers.aws_credentials import AwsClients
from buildflow.providers.local import LocalSession
from buildflow.providers.secrets import EnvFileSecrets, EnvironmentSecrets, SecretResolver

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE = 8
"""Requests of one call that are under way together."""


class AwsSession(LocalSession):
    """An open stack on AWS; what is kept outside of the cloud (leases' state, DuckDB files, clocks) is as in a local
    stack. Clients are thread-safe, and none crosses a fork."""

    def __init__(
        self, graph: ResourceGraph, root: Path, dir: Path, namespace: str, state_url: str | None, settings: Any
    ) -> None:
        super().__init__(graph, root, dir, namespace, state_url)
        self.settings: Mapping[str, Any] = settings
        self.secrets = SecretResolver([EnvironmentSecrets(), EnvFileSecrets(root)])
        """Where drivers find what is no part of the settings, such as MotherDuck's token."""
        self._clients = AwsClients(settings)

    def client(self, service: str, region: str | None = None) -> Any:
        """A boto3 client of `service` ("s3", "sqs"), in the stack's region unless another is named. Ask for it at
        each use: one whose credentials have expired is replaced."""
        with self.spoken(service, "AWS"):
            return self._clients.client(service, region)

    @contextmanager
    def spoken(self, service: str, what: str) -> Iterator[None]:
        """Turn what boto3 raises into the platform's errors. `what` is asked of `service`: 'queue "orders"'."""
        try:
            yield
        except Exception as exc:
            from buildflow.providers.aws_errors import EXPIRED, code_of, in_words

            words = in_words(exc, service, what)
            if words is None:
                raise
            if hasattr(exc, "response") and code_of(exc) in EXPIRED:
                self._clients.sign_out()
            raise words from exc

    def close(self, wait: float = 0.0) -> None:
        self._clients.close()
        super().close(wait)

    def region_of(self, resource: Resource) -> str | None:
        """Where a primitive is, when that is not the stack's region: its own, else that of what it refers to."""
        own: str | None = (resource.spec.get("aws") or {}).get("region")
        referred = (self.graph[key] for key in resource.references.values() if key in self.graph)
        return own or next((region for other in referred if (region := self.region_of(other))), None)


def at_once(do: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """`do` for each item, several at a time; their results in order. What one raises is raised when all have ended."""
    if len(items) <= 1:
        return [do(item) for item in items]
    with ThreadPoolExecutor(min(AT_ONCE, len(items))) as threads:
        return list(threads.map(do, items))


def open_session(
    graph: ResourceGraph,
    *,
    root: Path,
    dir: Path,
    state_url: str | None,
    settings: Mapping[str, Any],
    secrets: SecretResolver,
) -> AwsSession:
    """The session of one stack on AWS; `settings` is its `aws:` block, secrets put in."""
    session = AwsSession(graph, root, root / dir, f"{graph.project}-{graph.stack}", state_url, settings)
    session.secrets = secrets
    return session
