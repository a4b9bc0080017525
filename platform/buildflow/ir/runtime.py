"""The RuntimePlan: everything a process needs to serve or consume, in JSON, without the compiler.

Strings may still hold `${secret.X}` and `${primitives.key.output}`: each process resolves them itself.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from buildflow.ir.graph import Indexed, Resource

Scope = Literal["global", "replica", "request", "none"]
SCOPES: tuple[Scope, ...] = ("global", "replica", "request", "none")
"""Longest-lived first."""


class Plan(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Injection(Plan):
    """What one parameter receives."""

    parameter: str
    kind: Literal["dependency", "primitive"]
    key: str


class HandlerPlan(Plan):
    """A function and what is injected into it. `element` is the parameter that receives the element."""

    function: str
    inject: tuple[Injection, ...] = ()
    element: str | None = None
    element_type: str = ""
    """What the source carries, as a dotted name; empty when it is up to the sender."""


class DependencyPlan(Plan):
    """One dependency; `arguments` are the `with:` values."""

    key: str
    factory: str
    scope: Scope
    arguments: dict[str, Any] = Field(default_factory=dict)
    inject: tuple[Injection, ...] = ()


class MiddlewarePlan(Plan):
    """An ASGI middleware's class and its arguments."""

    middleware: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class CorsPlan(Plan):
    origins: tuple[str, ...]
    methods: tuple[str, ...]
    headers: tuple[str, ...]
    credentials: bool
    max_age: float


class ServicePlan(Plan):
    """What a group of routes shares. Limits that are None are those of `OptionsPlan`."""

    key: str
    middleware: tuple[MiddlewarePlan, ...] = ()
    cors: CorsPlan | None = None
    max_request_size: int | None = None
    max_concurrent_requests: int | None = None
    replicas: int = 1


class RoutePlan(Plan):
    """One route; `path` bears its service's prefix, `auth` names a dependency that is built before the handler.
    Without a handler, what is sent goes to the sink as it is."""

    method: str
    path: str
    handler: HandlerPlan | None = None
    service: str | None = None
    auth: str | None = None
    run_in: Literal["gateway", "worker"] = "gateway"
    sink: str | None = None
    status: int | None = None
    tags: tuple[str, ...] = ()
    summary: str | None = None
    timeout: float | None = None

    @property
    def inject(self) -> tuple[Injection, ...]:
        """What its handler is injected with."""
        return self.handler.inject if self.handler else ()


class BatchPlan(Plan):
    size: int
    linger: float
    max_bytes: int


class RetryPlan(Plan):
    attempts: int
    backoff: Literal["exponential", "fixed"] = "exponential"
    initial: float
    max: float
    jitter: float
    only: tuple[str, ...] = ()
    never: tuple[str, ...] = ()


class SinkPlan(Plan):
    """One of several sinks: `type` is a returned type, `fields` the values that fields have; neither is all."""

    to: str
    type: str | None = None
    fields: dict[str, Any] = Field(default_factory=dict)


class ConsumerPlan(Plan):
    """One consumer. `sink` is its only sink, `sinks` are several; `ordering` and `idempotency_key` name fields of
    the element, `rate_limit` is elements a second."""

    key: str
    source: str
    handler: HandlerPlan
    sink: str | None = None
    sinks: tuple[SinkPlan, ...] = ()
    pool: str = "main"
    concurrency: int = 1
    ordering: str | None = None
    rate_limit: float | None = None
    idempotency_key: str | None = None
    batch: BatchPlan
    retry: RetryPlan
    dead_letter: str | None = None
    timeout: float | None = None


class PoolPlan(Plan):
    """One Celery queue and process group. Only its consumers' dependencies are built there."""

    name: str
    replicas: int
    max_replicas: int | None = None
    target_backlog: int | None = None
    consumers: tuple[str, ...]
    dependencies: tuple[str, ...]


class MountPlan(Plan):
    path: str
    folder: str


class SecretsPlan(Plan):
    """Where a process looks a secret up: the environment, then `file`, then `store`, where names begin with
    `prefix`."""

    file: str | None = None
    store: str | None = None
    prefix: str = ""
    settings: dict[str, Any] = Field(default_factory=dict)
    """The stack's settings of the store's provider; its secrets are references still."""


class OptionsPlan(Plan):
    log_level: str = "INFO"
    max_request_size: int = 10_000_000
    max_concurrent_requests: int = 512


class RuntimePlan(Indexed):
    """One stack, ready to run. `dir` is the stack's folder; relative paths start at the project's root, which is
    a process's working directory. `dependencies` are in building order."""

    project: str
    stack: str
    provider: str
    dir: str
    broker_url: str | None = None
    state_url: str | None = None
    options: OptionsPlan = OptionsPlan()
    secrets: SecretsPlan = SecretsPlan()
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """The stack's settings of its providers, e.g. `{"aws": {"region": "us-east-1"}}`."""
    dependencies: tuple[DependencyPlan, ...] = ()
    services: tuple[ServicePlan, ...] = ()
    routes: tuple[RoutePlan, ...] = ()
    mounts: tuple[MountPlan, ...] = ()
    consumers: tuple[ConsumerPlan, ...] = ()
    pools: tuple[PoolPlan, ...] = ()
    gateway_dependencies: tuple[str, ...] = ()
    watched: tuple[str, ...] = ()
    """Primitives that the watcher has to watch."""

    def resource(self, key: str) -> Resource:
        """Raises KeyError where there is none."""
        return self.by_key[key]

    def consumer(self, key: str) -> ConsumerPlan:
        return next(c for c in self.consumers if c.key == key)
