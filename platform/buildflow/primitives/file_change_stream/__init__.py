"""file_change_stream: an event for every object that becomes complete in a bucket."""

from typing import Annotated, Literal

from pydantic import Field

from buildflow.primitives.base import Options, Primitive, Reference, Role, Spec
from buildflow.providers.names import PUBSUB, SQS_EVENT_QUEUE
from buildflow.spec.units import Duration


class GcpOptions(Options):
    """Fields that only Google Cloud knows: those of the Pub/Sub topic and subscription behind the stream."""

    project: str | None = Field(default=None, description="Another Google Cloud project than the stack's.")
    exactly_once: bool = Field(default=False, description="Pub/Sub's exactly-once delivery.")


class FileChangeStreamSpec(Spec):
    """Events of a bucket: a directory watch (local), S3 to SQS (aws), or GCS to Pub/Sub (gcp)."""

    type: Literal["file_change_stream"]
    bucket: Annotated[str, Reference("bucket")] = Field(description="The bucket to watch, by its key.")
    events: list[Literal["created", "deleted"]] = Field(
        default=["created"],
        min_length=1,
        description="`created`: an object became complete, overwrites included. `deleted`: it was removed.",
    )
    prefix: str = Field(default="", description="Only objects whose path starts with this.")
    suffix: str = Field(default="", description="Only objects whose path ends with this.", examples=[".png"])
    lease: Duration = Field(
        default=30.0,
        ge=1,
        le=43200,
        description="How long a worker that died keeps its events before others get them. A living one renews.",
        examples=["30s"],
    )
    retention: Duration = Field(
        default=4 * 86400.0,
        ge=60,
        le=14 * 86400,
        description="How long the cloud keeps events that nobody took.",
        examples=["4d"],
    )
    gcp: GcpOptions = Field(default=GcpOptions(), description="Fields of Google Cloud.")


PRIMITIVE = Primitive(
    type="file_change_stream",
    summary="An event for every object that becomes complete in a bucket.",
    spec=FileChangeStreamSpec,
    roles=frozenset({Role.SOURCE}),
    element="buildflow.types.FileChangeEvent",
    names={"aws": SQS_EVENT_QUEUE, "gcp": PUBSUB},
)
