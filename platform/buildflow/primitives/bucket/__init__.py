"""bucket: files, in a directory, in S3 or in Cloud Storage."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from buildflow.primitives.base import AT_LEAST_ONCE, ColumnsReference, Options, Primitive, Role, Spec
from buildflow.primitives.bucket.object_template import PLACEHOLDERS, check_template
from buildflow.providers.names import CLOUD_STORAGE_BUCKET, S3_BUCKET
from buildflow.spec.units import Duration
from buildflow.spec.values import AwsRegion, refusal


class LocalOptions(Options):
    """Fields that only the local provider knows."""

    path: str | None = Field(
        default=None, description="The folder to use, relative to buildflow.yaml. Without one: below the stack's."
    )


class AwsOptions(Options):
    """Fields that only AWS knows."""

    region: AwsRegion | None = Field(
        default=None, description="Another region than the stack's.", examples=["us-east-1"]
    )
    kms_key: str | None = Field(
        default=None,
        pattern=r"^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$",
        description="The ARN of the KMS key that encrypts its objects. Without one: S3's own keys.",
        examples=["arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"],
    )


class GcpOptions(Options):
    """Fields that only Google Cloud knows."""

    project: str | None = Field(default=None, description="Another Google Cloud project than the stack's.")
    region: str = Field(default="US", description="The bucket's location: a region, or a continent such as US or EU.")


class Lifecycle(Options):
    """What becomes of objects as they age (clouds only)."""

    expire_after: Duration | None = Field(
        default=None, gt=0, description="Objects older than this are deleted.", examples=["90d"]
    )
    expire_versions_after: Duration | None = Field(
        default=None,
        gt=0,
        description="With `versioning`: what was overwritten or deleted is kept this long.",
        examples=["30d"],
    )
    prefix: str = Field(default="", description="Only objects whose path starts with this.")


class CrossOrigin(Options):
    """Which pages of other origins may reach objects from a browser (clouds only)."""

    origins: list[str] = Field(min_length=1, description="Origins; `*` is any.", examples=[["https://example.com"]])
    methods: list[Literal["GET", "HEAD", "PUT", "POST", "DELETE"]] = Field(
        default=["GET"], min_length=1, description="Methods that they may use."
    )
    headers: list[str] = Field(default_factory=list, description="Headers that a request may carry; `*` is any.")
    expose: list[str] = Field(default_factory=list, description="Headers of the answer that a page may read.")
    max_age: Duration = Field(default=600.0, ge=0, description="How long a browser may remember the answer.")


class BucketSpec(Spec):
    """Files in a directory (local), in S3 (aws) or in Cloud Storage (gcp)."""

    type: Literal["bucket"]
    force_destroy: bool = Field(
        default=False,
        description="`true` lets it be deleted or replaced with everything in it, once that has been applied.",
    )
    object: str = Field(
        default="{id}.{extension}",
        min_length=1,
        description="As a sink: the path of each object; `{id}`, `{date}`, `{hour}`, `{consumer}` and `{extension}` "
        "are put in; without `{id}` it is added.",
        examples=["{date}/{id}.{extension}"],
    )
    format: Literal["raw", "json", "jsonl", "csv", "parquet"] = Field(
        default="json",
        description="As a sink: how rows are written. `json` and `raw`, which takes bytes and text as they are, make "
        "an object of each row; the others one of all rows of an element or a batch.",
    )
    columns: Annotated[str | dict[str, str] | None, ColumnsReference()] = Field(
        default=None,
        description="As a sink: the columns, as a row type `module:Class` or a mapping of column to type. Parquet "
        "needs them.",
        examples=["app.schemas:Order"],
    )
    versioning: bool = Field(default=False, description="Keep what is overwritten or deleted (clouds only).")
    lifecycle: Lifecycle = Field(default=Lifecycle(), description="What becomes of objects as they age (clouds only).")
    cors: CrossOrigin | None = Field(
        default=None, description="Which pages of other origins may reach objects from a browser (clouds only)."
    )
    public_access: bool = Field(
        default=False,
        description="Whether a policy of your own may make objects public; else that is blocked (clouds only).",
    )
    deletion_protection: bool = Field(default=False, description="`destroy` and replacements are refused.")
    local: LocalOptions = Field(default=LocalOptions(), description="Fields of the local provider.")
    aws: AwsOptions = Field(default=AwsOptions(), description="Fields of AWS.")
    gcp: GcpOptions = Field(default=GcpOptions(), description="Fields of Google Cloud.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        check_template(self.object, (*PLACEHOLDERS, "extension"), "object")
        if self.format == "parquet" and self.columns is None:
            raise refusal("BF202", "`columns` is missing", "Parquet needs them: a row type, or a mapping of columns")
        return self


PRIMITIVE = Primitive(
    type="bucket",
    summary="Files: a directory, S3 or Cloud Storage.",
    spec=BucketSpec,
    roles=frozenset({Role.STORE, Role.SINK}),
    handle="buildflow.types.Bucket",
    names={"aws": S3_BUCKET, "gcp": CLOUD_STORAGE_BUCKET},
    guarantee=AT_LEAST_ONCE,
)
