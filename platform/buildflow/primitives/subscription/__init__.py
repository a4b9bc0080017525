"""subscription: every message of a topic, worked off by one consumer."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from buildflow.primitives.base import Options, Primitive, Reference, Role, Spec
from buildflow.providers.names import PUBSUB, SQS_FIFO_QUEUE, SQS_QUEUE, NameRule
from buildflow.spec.units import Duration


class AwsOptions(Options):
    """Fields that only AWS knows."""

    fifo: bool | None = Field(
        default=None,
        description="A FIFO queue, which keeps the order of a FIFO topic. Without it: as the topic is.",
    )


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
    filter: dict[str, str | Annotated[list[str], Field(min_length=1)]] = Field(
        default_factory=dict,
        description="Only messages whose attributes have these values; a list is any of them.",
        examples=[{"country": ["de", "at"]}],
    )
    aws: AwsOptions = Field(default=AwsOptions(), description="Fields of AWS.")
    gcp: GcpOptions = Field(default=GcpOptions(), description="Fields of Google Cloud.")

    def with_references(self, referred: Mapping[str, Any]) -> Self:
        """SNS sends the messages of a FIFO topic in order to a FIFO queue only."""
        topic = referred.get("topic")
        if self.aws.fifo is not None or topic is None:
            return self
        if not self.managed and self.name:  # one that exists is what its name says
            return self.model_copy(update={"aws": AwsOptions(fifo=self.name.endswith(".fifo"))})
        return self.model_copy(update={"aws": AwsOptions(fifo=topic.aws.fifo)})


def _sqs_rule(spec: SubscriptionSpec) -> NameRule:
    """The rule for the queue's name; of a topic that could not be read, the name itself tells what it is."""
    fifo = (spec.name or "").endswith(".fifo") if spec.aws.fifo is None else spec.aws.fifo
    return SQS_FIFO_QUEUE if fifo else SQS_QUEUE


PRIMITIVE = Primitive(
    type="subscription",
    summary="Every message of a topic, for one consumer.",
    spec=SubscriptionSpec,
    roles=frozenset({Role.SOURCE}),
    names={"aws": _sqs_rule, "gcp": PUBSUB},
)
