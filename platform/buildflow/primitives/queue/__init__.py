"""queue: messages that one consumer works off, each at least once."""

from typing import Annotated, Literal

from pydantic import Field

from buildflow.primitives.base import AT_LEAST_ONCE, MessageReference, Options, Primitive, Role, Spec
from buildflow.providers.names import PUBSUB, SQS_FIFO_QUEUE, SQS_QUEUE
from buildflow.spec.units import Duration
from buildflow.spec.values import AwsRegion


class AwsOptions(Options):
    """Fields that only AWS knows."""

    fifo: bool = Field(default=False, description="A FIFO queue: strict order, and SQS' own deduplication.")
    account_id: str | None = Field(
        default=None, pattern=r"^[0-9]{12}$", description="The account that owns it, where that is another one."
    )
    region: AwsRegion | None = Field(default=None, description="Another region than the stack's.")


class GcpOptions(Options):
    """Fields that only Google Cloud knows."""

    project: str | None = Field(default=None, description="Another Google Cloud project than the stack's.")
    exactly_once: bool = Field(default=False, description="Pub/Sub's exactly-once delivery.")


class QueueSpec(Spec):
    """A queue: a Redis stream (local), SQS (aws), or a Pub/Sub topic with its subscription (gcp)."""

    type: Literal["queue"]
    message: Annotated[str | None, MessageReference()] = Field(
        default=None,
        description="What its messages are, as `module:Class`: handlers on both ends are held against it.",
        examples=["app.schemas:Order"],
    )
    lease: Duration = Field(
        default=30.0,
        ge=1,
        le=43200,
        description="How long a worker that died keeps its messages before others get them. A living one renews.",
        examples=["30s"],
    )
    retention: Duration = Field(
        default=4 * 86400.0,
        ge=60,
        le=14 * 86400,
        description="How long the cloud keeps messages that nobody took.",
        examples=["4d"],
    )
    aws: AwsOptions = Field(default=AwsOptions(), description="Fields of AWS.")
    gcp: GcpOptions = Field(default=GcpOptions(), description="Fields of Google Cloud.")


PRIMITIVE = Primitive(
    type="queue",
    summary="Messages, each handled at least once: a Redis stream, SQS or Pub/Sub.",
    spec=QueueSpec,
    roles=frozenset({Role.SOURCE, Role.SINK}),
    handle="buildflow.types.Queue",
    names={"aws": lambda spec: SQS_FIFO_QUEUE if spec.aws.fifo else SQS_QUEUE, "gcp": PUBSUB},
    guarantee=AT_LEAST_ONCE,
)
