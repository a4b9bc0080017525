"""queue: messages that one consumer works off, each at least once."""

from typing import Literal

from pydantic import Field

from buildflow.primitives.base import Primitive, Role, Spec
from buildflow.spec.units import Duration


class QueueSpec(Spec):
    """A queue: a Redis stream (local), SQS (aws), or a Pub/Sub topic with its subscription (gcp)."""

    type: Literal["queue"]
    lease: Duration = Field(
        default=30.0,
        ge=1,
        description="How long a worker that died keeps its messages before others get them. A living one renews.",
        examples=["30s"],
    )


PRIMITIVE = Primitive(
    type="queue",
    summary="Messages, each handled at least once: a Redis stream, SQS or Pub/Sub.",
    spec=QueueSpec,
    roles=frozenset({Role.SOURCE, Role.SINK}),
    handle="buildflow.types.Queue",
)
