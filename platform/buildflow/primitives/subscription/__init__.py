"""subscription: every message of a topic, worked off by one consumer."""

from typing import Annotated, Literal

from pydantic import Field

from buildflow.primitives.base import Options, Primitive, Reference, Role, Spec
from buildflow.providers.names import PUBSUB, SQS_QUEUE
from buildflow.spec.units import Duration


class GcpOptions(Options):
    """Fields that only Google Cloud knows."""

    project: str | None = Field(default=None, description="Another Google Cloud project than the stack's.")
    exactly_once: bool = Field(default=False, description="Pub/Sub's exactly-once delivery.")


class SubscriptionSpec(Spec):
    """A subscription of a topic: a Redis stream (local), an SQS queue behind SNS (aws), or Pub/Sub's own (gcp)."""

    type: Literal["subscription"]
    topic: Annotated[str, Reference("topic")] = Field(description="The topic, by its key.")
    lease: Duration = Field(
        default=30.0,
        ge=1,
        le=600,
        description="How long a worker that died keeps its messages before others get them (Pub/Sub's "
        "acknowledgement deadline). A living one renews.",
        examples=["30s"],
    )
    retention: Duration = Field(
        default=4 * 86400.0,
        ge=60,
        le=14 * 86400,
        description="How long messages that nobody took are kept.",
        examples=["4d"],
    )
    batch_size: int = Field(default=1000, gt=0, le=1000, description="Messages that are fetched at once, at most.")
    include_attributes: bool = Field(
        default=True, description="Whether a message's attributes are carried along, for `Message[T]`."
    )
    filter: dict[str, str | list[str]] = Field(
        default_factory=dict,
        description="Only messages whose attributes have these values; a list is any of them.",
        examples=[{"country": ["de", "at"]}],
    )
    gcp: GcpOptions = Field(default=GcpOptions(), description="Fields of Google Cloud.")


PRIMITIVE = Primitive(
    type="subscription",
    summary="Every message of a topic, for one consumer.",
    spec=SubscriptionSpec,
    roles=frozenset({Role.SOURCE}),
    names={"aws": SQS_QUEUE, "gcp": PUBSUB},
)
