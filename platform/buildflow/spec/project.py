"""The sections of buildflow.yaml as models. Descriptions are what the schema, the docs and the editor show.

A primitive's body is not here: each primitive type brings its own Spec.
"""

import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from buildflow.diagnostics import did_you_mean
from buildflow.spec.units import Duration, Size
from buildflow.spec.values import AwsRegion, AwsRole, Rate, Secret, Url, refusal

STACK_NAME = r"^[A-Za-z][A-Za-z0-9_-]{0,62}$"
PROJECT_NAME = r"^[a-z][a-z0-9-]{0,62}$"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "WS")
ROUTE = rf"^({'|'.join(METHODS)}) /[^\s]*$"
PREFIX = r"^(/[^\s{}]*[^\s{}/])?$"
IDENTIFIER = r"^[A-Za-z_][A-Za-z0-9_]*$"
HANDLER = r"^[A-Za-z_][\w]*(\.[A-Za-z_][\w]*)*:[A-Za-z_][\w]*(\.[A-Za-z_][\w]*)*$"

PROVIDERS = ("local", "aws", "gcp")
ProviderName = Literal["local", "aws", "gcp"]
Handler = Annotated[
    str,
    StringConstraints(pattern=HANDLER),
    Field(description="A function as `package.module:function`."),
]
Raised = Annotated[
    str,
    StringConstraints(pattern=HANDLER),
    Field(description="An exception as `package.module:Class`; one of Python's own as `builtins:ValueError`."),
]
Key = Annotated[str, StringConstraints(pattern=IDENTIFIER)]


class Section(BaseModel):
    """A strict mapping: an unknown key is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)


class LocalSettings(Section):
    """Where a local stack keeps its data."""

    dir: str | None = Field(default=None, description="The stack's folder. Without one: `.buildflow/<stack>`.")


class AwsSettings(Section):
    """How to reach AWS. What is left out comes from the default credential chain."""

    region: AwsRegion | None = Field(default=None, description="The region, e.g. us-east-1.", examples=["us-east-1"])
    profile: str | None = Field(default=None, description="A profile of ~/.aws/config.")
    role_arn: AwsRole | None = Field(
        default=None, description="A role to assume.", examples=["arn:aws:iam::123456789012:role/deploy"]
    )
    aws_access_key_id: str | None = Field(default=None, description="The access key id.")
    aws_secret_access_key: Secret | None = Field(default=None, description="The secret key; write `${secret.NAME}`.")
    aws_session_token: Secret | None = Field(default=None, description="The session token; write `${secret.NAME}`.")
    endpoint_url: Url | None = Field(default=None, description="Another endpoint, such as an emulator's.")


class GcpSettings(Section):
    """How to reach Google Cloud. What is left out comes from the application default credentials."""

    project: str | None = Field(default=None, description="The Google Cloud project's id.")
    region: str | None = Field(default=None, description="The region, e.g. us-central1.", examples=["us-central1"])
    gcp_service_account_info: Secret | None = Field(
        default=None,
        description="A service account key or a workload identity configuration, as JSON text; write `${secret.NAME}`.",
    )


class Secrets(Section):
    """Where a stack's `${secret.NAME}` are looked up: the environment first, then the file, then the store."""

    file: str | None = Field(
        default=None,
        description="A file of `NAME=value` lines, or a folder with a file a secret (as Docker and Kubernetes mount "
        "them), relative to buildflow.yaml.",
        examples=["secrets.env", "/run/secrets"],
    )
    store: Literal["aws_secrets_manager", "gcp_secret_manager"] | None = Field(
        default=None, description="The provider's own store. It is asked at `apply` and run time only."
    )
    prefix: str = Field(default="", description="What stands before a secret's name in the store.")


class Stack(Section):
    """One place to run. Any other section may stand below a stack: it is laid over the base (mappings merge,
    lists replace, `null` removes)."""

    provider: ProviderName = Field(description="Where this stack's primitives live.")
    local: LocalSettings = Field(default=LocalSettings(), description="Settings of the local provider.")
    aws: AwsSettings = Field(default=AwsSettings(), description="Settings of AWS.")
    gcp: GcpSettings = Field(default=GcpSettings(), description="Settings of Google Cloud.")
    secrets: Secrets = Field(default=Secrets(), description="Where `${secret.NAME}` are looked up.")
    backend_url: Url | None = Field(
        default=None,
        description="Where Pulumi keeps its state: `file://`, `s3://`, `gs://` or Pulumi Cloud. Without one: in the "
        "stack's folder.",
        examples=["file://.buildflow/_pulumi/aws"],
    )
    secrets_provider: Url | None = Field(
        default=None,
        description="What encrypts the secrets in Pulumi's state, such as a key of KMS. Without one: the passphrase "
        "`PULUMI_CONFIG_PASSPHRASE`.",
        examples=["awskms://alias/buildflow?region=us-east-1"],
    )
    pulumi_home: str | None = Field(default=None, description="Pulumi's own folder. Without one: Pulumi's default.")
    broker_url: Url | None = Field(
        default=None,
        description="Celery's broker (Redis or RabbitMQ). Without one, the embedded Redis.",
        examples=["redis://10.0.0.5:6379/0"],
    )
    state_url: Url | None = Field(
        default=None,
        description="The Redis that holds queues and leases. Without one, the embedded Redis.",
        examples=["redis://10.0.0.5:6379/1"],
    )


OVERLAYS = ("variables", "options", "primitives", "dependencies", "services", "routes", "mounts", "consumers")
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


def _check_header(name: str, key: str) -> None:
    """Raise a refusal for what is no header's name. Source: https://www.rfc-editor.org/rfc/rfc9110#name-field-names"""
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
        raise refusal("BF204", f'"{name}" is no name of a header', "letters, digits and hyphens: X-Api-Key", key)


class BuiltIn(Section):
    """A dependency that the platform brings: its `type` instead of a factory."""

    factory: ClassVar[str]
    scope: str
    gives_text: ClassVar[bool] = False
    of_request: ClassVar[str] = ""
    """What of a request it reads, in words."""
    runs: ClassVar[bool] = True
    """Whether this version builds it; else it compiles, with a warning."""

    references: ClassVar[tuple[str, ...]] = ()
    """Fields that name a primitive of that type, which the factory's parameter of that name receives."""

    type: str

    @property
    def arguments(self) -> dict[str, Any]:
        return self.model_dump(exclude={"type", "scope", *self.references})


class Header(BuiltIn):
    """The value of one header of the request."""

    factory = "buildflow.dependencies:header"
    gives_text = True
    of_request = "a header"
    type: Literal["header"]
    scope: Literal["request", "process"] = Field(default="request", description="Once per request.")
    name: str = Field(min_length=1, description="The header's name, in any letter case.", examples=["X-Api-Key"])
    required: bool = Field(default=True, description="Whether a request without it is answered with 422.")
    default: str | None = Field(default=None, description="The value where it is not required and not there.")

    @model_validator(mode="after")
    def _can_be_sent(self) -> Self:
        _check_header(self.name, "name")
        if self.required and self.default is not None:
            hint = "write `required: false`, or take `default` out"
            raise refusal("BF204", "`default` is never used: the header is required", hint, "default")
        return self


class BearerToken(BuiltIn):
    """The token of `Authorization: Bearer ...`."""

    factory = "buildflow.dependencies:bearer_token"
    gives_text = True
    of_request = "a header"
    type: Literal["bearer_token"]
    scope: Literal["request", "process"] = Field(default="request", description="Once per request.")
    required: bool = Field(default=True, description="Whether a request without one is answered with 401.")


class HttpClient(BuiltIn):
    """An asynchronous HTTP client with a pool of connections (httpx2)."""

    factory = "buildflow.dependencies:http_client"
    type: Literal["http_client"]
    scope: Literal["replica"] = Field(default="replica", description="Once per process.")
    base_url: str = Field(default="", description="Stands before every URL.", examples=["https://api.example.com"])
    timeout: Duration = Field(default=10.0, gt=0, description="How long a request may take.", examples=["10s"])
    headers: dict[str, str] = Field(default_factory=dict, description="Headers of every request.")

    @model_validator(mode="after")
    def _can_be_sent(self) -> Self:
        for name in self.headers:
            _check_header(name, "headers")
        return self


class SqlSession(BuiltIn):
    """A SQLAlchemy session: one a request or element, rolled back after a failure, closed after it."""

    factory = "buildflow.dependencies:sql_session"
    references = ("database",)
    type: Literal["sql_session"]
    scope: Literal["request", "process"] = Field(default="request", description="Once per request or element.")
    database: str = Field(description="The database, by its key.")
    expire_on_commit: bool = Field(default=False, description="Whether objects are read anew after a commit.")
    autoflush: bool = Field(default=False, description="Whether a query writes what is pending first.")


class GoogleUser(BuiltIn):
    """The signed-in Google user of a request: account id, e-mail, whether it is verified, name."""

    factory = "buildflow.dependencies:google_user"
    of_request = "a header"
    runs = False
    type: Literal["google_user"]
    scope: Literal["request", "process"] = Field(default="request", description="Once per request.")
    client_id: str = Field(description="The OAuth client that tokens have to be issued for.")
    required: bool = Field(default=True, description="Whether a request without a valid token is answered with 401.")
    session_key: str = Field(default="id_token", description="Where the session holds the token, if it does.")


BUILT_INS: dict[str, type[BuiltIn]] = {
    "bearer_token": BearerToken,
    "google_user": GoogleUser,
    "header": Header,
    "http_client": HttpClient,
    "sql_session": SqlSession,
}
"""The dependencies that the platform brings, by `type`."""


class Middleware(Section):
    """An ASGI middleware before the routes of a service."""

    class_: Handler = Field(alias="class", description="An ASGI middleware's class, as `module:Class`.")
    with_: dict[str, Any] = Field(default_factory=dict, alias="with", description="Arguments of the class, by name.")


class Cors(Section):
    """Which other origins a browser may call these routes from."""

    origins: list[str] = Field(min_length=1, description="Origins; `*` is any.", examples=[["https://example.com"]])
    methods: list[str] = Field(default=["GET"], description="Methods; `*` is any.")
    headers: list[str] = Field(default_factory=list, description="Headers that a request may carry; `*` is any.")
    credentials: bool = Field(default=False, description="Whether cookies and authorisation may be sent.")
    max_age: Duration = Field(default=600.0, ge=0, description="How long a browser may remember the answer.")

    @model_validator(mode="after")
    def _fits_a_browser(self) -> Self:
        for origin in self.origins:
            if not re.fullmatch(r"\*|[a-z][a-z0-9+.-]*://[^/\s]+|null|.*\$\{.*", origin):
                hint = "a scheme, a host, perhaps a port, and no / behind them: https://example.com"
                raise refusal("BF204", f'"{origin}" is no origin, and matches none', hint, "origins")
        for method in self.methods:
            if method.upper() not in (*METHODS, "*"):
                raise refusal("BF204", f'"{method}" is no method', did_you_mean(method.upper(), METHODS), "methods")
        if self.credentials and "*" in self.origins:
            words = "`credentials` with any origin lets every site read as the user"
            raise refusal("BF204", words, "name the origins", "credentials")
        return self


class Limits(Section):
    """What one gateway process takes for a service."""

    max_request_size: Size | None = Field(
        default=None,
        gt=0,
        description="A larger request body is answered with 413; instead of the option of that name.",
        examples=["10MB"],
    )
    max_concurrent_requests: int | None = Field(
        default=None, gt=0, description="Requests at once; above it, 503 with `Retry-After`."
    )
    timeout: Duration | None = Field(default=None, gt=0, description="After this, 504.", examples=["30s"])


class Service(Section):
    """A group of routes with what they share."""

    prefix: str = Field(default="", pattern=PREFIX, description="Stands before the path of each of its routes.")
    middleware: list[Middleware] = Field(default_factory=list, description="ASGI middleware, the outermost first.")
    auth: Key | None = Field(
        default=None, description="A dependency that is built before any of its routes answers; it raises to refuse."
    )
    cors: Cors | None = Field(default=None, description="Other origins that a browser may call from.")
    limits: Limits = Field(default=Limits(), description="What one gateway process takes.")
    replicas: int = Field(default=1, gt=0, le=1000, description="Gateway processes that serve it.")


class Route(Section):
    """One HTTP route."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": ["handler"]}, {"required": ["sink"]}]})

    handler: str | None = Field(
        default=None,
        pattern=HANDLER,
        description="The function that answers, as `package.module:function`. A route with a `sink` can do without: "
        "its body is the rows.",
    )
    service: str | None = Field(default=None, description="The service that it belongs to, by key.")
    sink: str | None = Field(
        default=None, description="A primitive that takes what the handler returns, or the body, before the reply."
    )
    status: int | None = Field(default=None, ge=100, le=599, description="The status of a good reply.")
    tags: list[str] = Field(default_factory=list, description="Groups in the API's documentation.")
    summary: str | None = Field(default=None, description="One line for the API's documentation.")
    timeout: Duration | None = Field(default=None, gt=0, description="After this, 504.", examples=["30s"])
    run_in: Literal["gateway", "worker"] = Field(
        default="gateway", description="Where the handler runs: `worker` for work that would keep a gateway busy."
    )
    auth: Key | None = Field(
        default=None,
        description="A dependency that is built before the route answers; it raises to refuse. `none` switches that "
        "of the route's service off.",
    )
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
    backoff: Literal["exponential", "fixed"] = Field(
        default="exponential", description="Whether each wait is twice the one before it, or all are `initial`."
    )
    initial: Duration = Field(default=1.0, ge=0, description="The wait before the second attempt.", examples=["1s"])
    max: Duration = Field(default=300.0, ge=0, description="The longest wait.", examples=["5m"])
    jitter: float = Field(default=0.2, ge=0, le=1, description="The part of a wait that is random.")
    only: list[Raised] = Field(
        default_factory=list, description="Exceptions worth another attempt, as `module:Class`. Empty: all."
    )
    never: list[Raised] = Field(
        default_factory=list, description="Exceptions that go to the dead letters at once, as `module:Class`."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.initial > self.max:
            words = f"`initial` is {self.initial:g} s, longer than `max`, {self.max:g} s"
            raise refusal("BF204", words, "the longest wait is `max`", "initial")
        return self


class Replicas(Section):
    """How many processes a pool grows and shrinks between."""

    min: int = Field(default=1, gt=0, le=1000, description="Processes, at least.")
    max: int = Field(gt=0, le=1000, description="Processes, at most.")
    target_backlog: int = Field(default=1000, gt=0, description="Waiting elements a process; above it, one more.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min > self.max:
            raise refusal("BF204", f"`min` is {self.min}, more than `max`, {self.max}", "swap them", "min")
        return self


class Ordering(Section):
    """Elements with the same key are handled one after the other, in the order in which they were sent."""

    key: str = Field(min_length=1, description="The field of the element that is its key.", examples=["customer_id"])


class SinkChoice(Section):
    """One of several sinks, and what goes there. What matches none is a failure, not a loss."""

    to: str = Field(description="The primitive that takes it, by key.")
    when: str | dict[str, str | int | float | bool | None] | None = Field(
        default=None,
        description="What goes there: a returned type as `module:Class`, or fields and the values that they have. "
        "Without it: everything.",
        examples=["app.orders:Refund", {"status": "failed"}],
    )


class Consumer(Section):
    """A source, a handler, a sink."""

    source: str = Field(description="The primitive whose elements it takes, by key.")
    handler: Handler
    sink: str | list[SinkChoice] | None = Field(
        default=None,
        description="The primitive that takes what the handler returns, by key; or several, as a list of `to` and "
        "`when`.",
    )
    pool: str = Field(default="main", pattern=IDENTIFIER, description="The group of processes that it runs in.")
    replicas: Annotated[int, Field(gt=0, le=1000)] | Replicas = Field(
        default=1, description="Processes of its pool, at least; or between what numbers it grows and shrinks."
    )
    concurrency: int = Field(
        default=1, gt=0, le=10_000, description="Elements that one process handles at once: tasks or threads."
    )
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
    ordering: Ordering | None = Field(default=None, description="Keep the order of elements with the same key.")
    rate_limit: Rate | None = Field(default=None, description="Elements a second, minute or hour, at most, in all.")
    idempotency_key: str | None = Field(
        default=None, min_length=1, description="The field of the element by which a repetition is known."
    )
    inject: dict[str, str] = Field(
        default_factory=dict, description="Which key a parameter gets, where names alone do not say it."
    )

    @property
    def sinks(self) -> tuple[SinkChoice, ...]:
        """Its sinks, one or several."""
        if isinstance(self.sink, str):
            return (SinkChoice(to=self.sink),)
        return tuple(self.sink or ())


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
    services: dict[str, Service] = Field(default_factory=dict, description="Groups of routes.")
    routes: dict[str, Route] = Field(default_factory=dict, description="What the system serves.")
    mounts: dict[str, str] = Field(default_factory=dict, description="Folders of static files, by URL path.")
    consumers: dict[str, Consumer] = Field(default_factory=dict, description="What the system consumes.")


SECTIONS: dict[str, type[Section]] = {
    "stacks": Stack,
    "dependencies": Dependency,
    "services": Service,
    "routes": Route,
    "consumers": Consumer,
}
"""Sections that are mappings of a name to one model."""
