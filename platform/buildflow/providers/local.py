"""`provider: local`: a stack in a folder of this machine, with an embedded Redis for what is shared and an embedded
PostgreSQL where there is a database."""

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from buildflow.errors import ServiceUnavailable
from buildflow.ir.graph import ResourceGraph
from buildflow.providers import postgres_service
from buildflow.providers.postgres_service import PostgresService
from buildflow.providers.redis_client import connect
from buildflow.providers.redis_service import RedisService, attach


class LocalSession:
    """An open local stack. Nothing is started or connected before it is asked for.

    After a fork the child gets a client of its own; the embedded servers that the parent attached to stay
    attached for both.
    """

    def __init__(
        self, graph: ResourceGraph, root: Path, dir: Path, namespace: str, state_url: str | None = None
    ) -> None:
        self.graph = graph
        self.root = root
        self.dir = dir
        self.namespace = namespace
        self._state_url = state_url
        self._service: RedisService | None = None
        self._postgres: PostgresService | None = None
        self._client: Any = None
        self._pid = os.getpid()
        self._lock = threading.Lock()

    def redis(self) -> Any:
        """A thread-safe `redis.Redis` that rides out a restart of the server."""
        if self._client is not None and self._pid == os.getpid():
            return self._client
        self._forget_parent()
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def service(self) -> RedisService | None:
        """The embedded Redis, started or attached to; None when `state_url` names another."""
        if self._state_url:
            return None
        self._forget_parent()
        with self._lock:
            return self._attached()

    def postgres(self) -> PostgresService:
        """The embedded PostgreSQL, started or attached to."""
        self._forget_parent()
        with self._lock:
            if self._postgres is None:
                self._postgres = postgres_service.attach(self.dir)
            return self._postgres

    def close(self, wait: float = 0.0) -> None:
        """Disconnect and detach; the last one out stops the embedded servers, and may `wait` to see them gone."""
        self._forget_parent()
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None
            if self._service is not None:
                self._service.close(wait)
                self._service = None
            if self._postgres is not None:
                self._postgres.close(wait)
                self._postgres = None

    def _connect(self) -> Any:
        if self._state_url:
            try:
                return connect(self._state_url)
            except ValueError as exc:  # whose text may hold the password
                raise ServiceUnavailable("`state_url` is no URL of a Redis; write redis://host:6379/0") from exc
        return self._attached().client()

    def _attached(self) -> RedisService:
        if self._service is None:
            self._service = attach(self.dir)
        return self._service

    def _forget_parent(self) -> None:
        """In a forked child: drop the client, and the lock, which a thread of the parent may have held."""
        if self._pid != os.getpid():
            self._lock = threading.Lock()
            self._client = None
            self._pid = os.getpid()

    def kombu_url(self) -> str:
        """The same Redis as Celery's broker."""
        service = self.service()
        if service is not None:
            return service.kombu_url
        return str(self._state_url)


def open_session(
    graph: ResourceGraph,
    *,
    root: Path,
    dir: Path,
    state_url: str | None,
    settings: Mapping[str, Any],  # noqa: ARG001 - the clouds' sessions need theirs
    secrets: Any,  # noqa: ARG001 - and these
) -> LocalSession:
    """The session of one local stack; `dir` is relative to `root`."""
    return LocalSession(graph, root, root / dir, f"{graph.project}-{graph.stack}", state_url)
