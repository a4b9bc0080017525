"""The sections of buildflow.yaml as models. Descriptions are what the schema, the docs and the editor show.

A primitive's body is not here: each primitive type brings its own Spec.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from buildflow.spec.units import Duration, Size

STACK_NAME = r"^[A-Za-z][A-Za-z0-9_-]{0,62}$"
PROJECT_NAME = r"^[a-z][a-z0-9-]{0,62}$"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "WS")
ROUTE = rf"^({'|'.join(METHODS)}) /[^\s]*$"
IDENTIFIER = r"^[A-Za-z_][A-Za-z0-9_]*$"
HANDLER = r"^[A-Za-z_][\w]*(\.[A-Za-z_][\w]*)*:[A-Za-z_][\w]*(\.[A-Za-z_][\w]*)*$"

PROVIDERS = ("local", "aws", "gcp")
ProviderName = Literal["local", "aws", "gcp"]
Handler = Annotated[
    str,
    StringConstraints(pattern=HANDLER),
    Field(description="A function as `package.module:function`."),
]


class Section(BaseModel):
    """A strict mapping: an unknown key is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)


class LocalSettings(Section):
    """Where a local stack keeps its data."""

    dir: str | None = Field(default=None, description="The stack's folder. Without one: `.buildflow/<stack>`.")


class AwsSettings(Section):
    """How to reach AWS. What is left out comes from the default credential chain."""

    region: str | None = Field(default=None, description="The region, e.g. us-east-1.", examples=["us-east-1"])
    profile: str | None = Field(default=None, description="A profile of ~/.aws/config.")
    role_arn: str | None = Field(default=None, description="A role to assume.")
    aws_access_key_id: str | None = Field(default=None, description="The access key id.")
    aws_secret_access_key: str | None = Field(default=None, description="The secret key; write `${secret.NAME}`.")
    aws_session_token: str | None = Field(default=None, description="The session token; write `${secret.NAME}`.")
    endpoint_url: str | None = Field(default=None, description="Another endpoint, such as an emulator's.")


class GcpSettings(Section):
    """How to reach Google Cloud. What is left out comes from the application default credentials."""

    project: str | None = Field(default=None, description="The Google Cloud project's id.")
    region: str | None = Field(default=None, description="The region, e.g. us-central1.", examples=["us-central1"])
    gcp_service_account_info: str | None = Field(
        default=None, description="A service account key or a workload identity configuration, as JSON text."
    )


class Stack(Section):
    """One place to run. Any other section may stand below a stack: it is laid over the base (mappings merge,
    lists replace, `null` removes)."""

    provider: ProviderName = Field(description="Where this stack's primitives live.")
    local: LocalSettings = Field(default=LocalSettings(), description="Settings of the local provider.")
    aws: AwsSettings = Field(default=AwsSettings(), description="Settings of AWS.")
    gcp: GcpSettings = Field(default=GcpSettings(), description="Settings of Google Cloud.")
    backend_url: str | None = Field(
        default=None, description="Where Pulumi keeps its state: `file://`, `s3://`, `gs://` or Pulumi Cloud."
    )
    broker_url: str | None = Field(
        default=None, description="Celery's broker (Redis or RabbitMQ). Without one, the embedded Redis."
    )
    state_url: str | None = Field(
        default=None, description="The Redis that holds queues and leases. Without one, the embedded Redis."
    )


OVERLAYS = ("variables", "options", "primitives", "dependencies", "routes", "consumers", "mounts")
"""What may stand below a stack besides its own settings."""


class Options(Section):
    """Settings of the whole project."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="How much is logged.")
    require_confirmation: bool = Field(default=True, description="`false`: `apply` and `destroy` do not ask.")
    max_request_size: Size = Field(
        default=10_000_000, gt=0, description="A larger request body is answered with 413.", examples=["10MB"]
    )
    max_concurrent_requests: int = Field(
        default=512, gt=0, description="Requests that one gateway process takes at once; above it, 503."
    )


class Dependency(Section):
    """Something that handlers share: a model, a client, a session."""

    factory: Handler = Field(
        description="A function, async function, class, generator or context manager, as `module:callable`."
    )
    scope: Literal["global", "replica", "request", "process", "none"] = Field(
        default="replica",
        description="How long one lives: `global` a process group, `replica` a process, `request` (or `process`) one "
        "request or element, `none` one injection.",
    )
    with_: dict[str, Any] = Field(
        default_factory=dict, alias="with", description="Arguments of the factory, by parameter."
    )


class Route(Section):
    """One HTTP route."""

    handler: Handler
    sink: str | None = Field(
        default=None, description="A primitive that takes what the handler returns, before the reply."
    )
    status: int | None = Field(default=None, ge=100, le=599, description="The status of a good reply.")
    tags: list[str] = Field(default_factory=list, description="Groups in the API's documentation.")
    summary: str | None = Field(default=None, description="One line for the API's documentation.")
    timeout: Duration | None = Field(default=None, gt=0, description="After this, 504.", examples=["30s"])
    inject: dict[str, str] = Field(
        default_factory=dict, description="Which key a parameter gets, where names alone do not say it."
    )


class Batch(Section):
    """How elements are grouped on their way to the sink."""

    size: int = Field(default=100, gt=0, le=10_000, description="Elements in a group, at most.")
    linger: Duration = Field(default=0.0, ge=0, description="How long to wait for a group to fill.", examples=["50ms"])
    max_bytes: Size = Field(default=8_000_000, gt=0, description="Bytes in a group, at most.", examples=["8MB"])


class Retry(Section):
    """What happens to an element whose handler fails."""

    attempts: int = Field(default=5, gt=0, description="How often it is tried in all.")
    initial: Duration = Field(default=1.0, ge=0, description="The wait before the second attempt.", examples=["1s"])
    max: Duration = Field(default=300.0, ge=0, description="The longest wait.", examples=["5m"])
    jitter: float = Field(default=0.2, ge=0, le=1, description="The part of a wait that is random.")
    only: list[Handler] = Field(
        default_factory=list, description="Exceptions worth another attempt, as `module:Class`. Empty: all."
    )
    never: list[Handler] = Field(
        default_factory=list, description="Exceptions that go to the dead letters at once, as `module:Class`."
    )


class Consumer(Section):
    """A source, a handler, a sink."""

    source: str = Field(description="The primitive whose elements it takes, by key.")
    handler: Handler
    sink: str | None = Field(default=None, description="The primitive that takes what the handler returns, by key.")
    pool: str = Field(default="main", pattern=IDENTIFIER, description="The group of processes that it runs in.")
    replicas: int = Field(default=1, gt=0, le=1000, description="Processes of its pool, at least.")
    batch: Batch = Field(default=Batch(), description="How elements are grouped.")
    retry: Retry = Field(default=Retry(), description="What happens to an element whose handler fails.")
    dead_letter: str | None = Field(
        default=None,
        description="A table for elements that were given up (columns `buildflow.types:DeadLetter`). Without one, "
        "the stack's own store: `platform dlq`.",
    )
    timeout: Duration | None = Field(
        default=None, gt=0, description="An element that takes longer is stopped and tried again.", examples=["30s"]
    )
    inject: dict[str, str] = Field(
        default_factory=dict, description="Which key a parameter gets, where names alone do not say it."
    )


class Project(Section):
    """A backend: what it stores, what it serves, what it consumes."""

    format: Literal[1] = Field(default=1, description="The version of this language.")
    project: str = Field(pattern=PROJECT_NAME, description="The project's name: lower-case letters, digits, hyphens.")
    default_stack: str | None = Field(default=None, description="The stack that commands use without `--stack`.")
    stacks: dict[str, Stack] = Field(default_factory=dict, description="Where to run.")
    variables: dict[str, Any] = Field(default_factory=dict, description="Values for `${var.name}`.")
    options: Options = Field(default=Options(), description="Settings of the whole project.")
    primitives: dict[str, dict[str, Any]] = Field(default_factory=dict, description="What the system stores.")
    dependencies: dict[str, Dependency] = Field(default_factory=dict, description="What handlers share.")
    routes: dict[str, Route] = Field(default_factory=dict, description="What the system serves.")
    mounts: dict[str, str] = Field(default_factory=dict, description="Folders of static files, by URL path.")
    consumers: dict[str, Consumer] = Field(default_factory=dict, description="What the system consumes.")


SECTIONS: dict[str, type[Section]] = {
    "stacks": Stack,
    "dependencies": Dependency,
    "routes": Route,
    "consumers": Consumer,
}
"""Sections that are mappings of a name to one model."""
