"""topic: messages that every subscription gets."""

from typing import Annotated, Literal

from pydantic import Field

from buildflow.primitives.base import AT_LEAST_ONCE, MessageReference, Options, Primitive, Role, Spec
from buildflow.providers.names import PUBSUB, SNS_FIFO_TOPIC, SNS_TOPIC
from buildflow.spec.units import Duration
from buildflow.spec.values import AwsRegion


class AwsOptions(Options):
    """Fields that only AWS knows."""

    fifo: bool = Field(default=False, description="A FIFO topic: strict order, and SNS' own deduplication.")
    region: AwsRegion | None = Field(default=None, description="Another region than the stack's.")


class GcpOptions(Options):
    """Fields that only Google Cloud knows."""

    project: str | None = Field(default=None, description="Another Google Cloud project than the stack's.")


class TopicSpec(Spec):
    """A topic: every subscription of it gets every message. Redis (local), SNS (aws) or Pub/Sub (gcp)."""

    type: Literal["topic"]
    message: Annotated[str | None, MessageReference()] = Field(
        default=None,
        description="What its messages are, as `module:Class`: handlers on both ends are held against it.",
        examples=["app.schemas:Order"],
    )
    retention: Duration | None = Field(
        default=None, ge=600, description="How long messages are kept for subscriptions that start later (gcp)."
    )
    aws: AwsOptions = Field(default=AwsOptions(), description="Fields of AWS.")
    gcp: GcpOptions = Field(default=GcpOptions(), description="Fields of Google Cloud.")


PRIMITIVE = Primitive(
    type="topic",
    summary="Messages that every subscription gets: Redis, SNS or Pub/Sub.",
    spec=TopicSpec,
    roles=frozenset({Role.SINK}),
    handle="buildflow.types.Topic",
    names={"aws": lambda spec: SNS_FIFO_TOPIC if spec.aws.fifo else SNS_TOPIC, "gcp": PUBSUB},
    guarantee=AT_LEAST_ONCE,
)
