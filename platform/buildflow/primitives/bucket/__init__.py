"""bucket: files, in a directory, in S3 or in Cloud Storage."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from buildflow.primitives.base import Primitive, Role, Spec


class LocalOptions(BaseModel):
    """Fields that only the local provider knows."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    path: str | None = Field(
        default=None, description="The folder to use, relative to buildflow.yaml. Without one: below the stack's."
    )


class BucketSpec(Spec):
    """Files in a directory (local), in S3 (aws) or in Cloud Storage (gcp)."""

    type: Literal["bucket"]
    force_destroy: bool = Field(
        default=False, description="`true` lets `destroy` delete the bucket with everything in it."
    )
    local: LocalOptions = Field(default=LocalOptions(), description="Fields of the local provider.")


PRIMITIVE = Primitive(
    type="bucket",
    summary="Files: a directory, S3 or Cloud Storage.",
    spec=BucketSpec,
    roles=frozenset({Role.STORE}),
    handle="buildflow.types.Bucket",
)
