"""The RuntimePlan: everything a process needs to serve or consume, in JSON, without the compiler.

Strings may still hold `${secret.X}` and `${primitives.key.output}`: each process resolves them itself.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from buildflow.ir.graph import Resource

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


class RoutePlan(Plan):
    method: str
    path: str
    handler: HandlerPlan
    sink: str | None = None
    status: int | None = None
    tags: tuple[str, ...] = ()
    summary: str | None = None
    timeout: float | None = None


class BatchPlan(Plan):
    size: int
    linger: float
    max_bytes: int


class RetryPlan(Plan):
    attempts: int
    initial: float
    max: float
    jitter: float
    only: tuple[str, ...] = ()
    never: tuple[str, ...] = ()


class ConsumerPlan(Plan):
    key: str
    source: str
    handler: HandlerPlan
    sink: str | None = None
    pool: str = "main"
    batch: BatchPlan
    retry: RetryPlan
    dead_letter: str | None = None
    timeout: float | None = None


class PoolPlan(Plan):
    """One Celery queue and process group. Only its consumers' dependencies are built there."""

    name: str
    replicas: int
    consumers: tuple[str, ...]
    dependencies: tuple[str, ...]


class MountPlan(Plan):
    path: str
    folder: str


class OptionsPlan(Plan):
    log_level: str = "INFO"
    max_request_size: int = 10_000_000
    max_concurrent_requests: int = 512


class RuntimePlan(Plan):
    """One stack, ready to run. `dir` is the stack's folder; relative paths start at the project's root, which is
    a process's working directory. `dependencies` are in building order."""

    project: str
    stack: str
    provider: str
    dir: str
    broker_url: str | None = None
    state_url: str | None = None
    options: OptionsPlan = OptionsPlan()
    resources: tuple[Resource, ...] = ()
    dependencies: tuple[DependencyPlan, ...] = ()
    routes: tuple[RoutePlan, ...] = ()
    mounts: tuple[MountPlan, ...] = ()
    consumers: tuple[ConsumerPlan, ...] = ()
    pools: tuple[PoolPlan, ...] = ()
    gateway_dependencies: tuple[str, ...] = ()
    watched: tuple[str, ...] = ()
    """Primitives that the watcher has to watch."""

    def resource(self, key: str) -> Resource:
        return next(r for r in self.resources if r.key == key)

    def consumer(self, key: str) -> ConsumerPlan:
        return next(c for c in self.consumers if c.key == key)
