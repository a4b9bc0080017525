"""file: rows in files that programs of any kind read."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from buildflow.primitives.base import AT_LEAST_ONCE, ColumnsReference, Options, Primitive, Reference, Role, Spec
from buildflow.primitives.bucket.object_template import PLACEHOLDERS, check_template
from buildflow.spec.units import Duration, Size
from buildflow.spec.values import refusal


class Rotation(Options):
    """When a file is closed and appears, and the next one begins."""

    size: Size = Field(
        default=64_000_000, gt=0, description="Bytes of rows in a file, counted as JSON.", examples=["64MB"]
    )
    every: Duration = Field(default=60.0, gt=0, description="How long a file is written to.", examples=["1m"])


class FileSpec(Spec):
    """Rows as CSV, JSON lines or Parquet: in a directory (local), on S3 (aws) or on Cloud Storage (gcp)."""

    type: Literal["file"]
    path: str = Field(
        min_length=1,
        description="Where files appear: below buildflow.yaml's folder, or in `bucket`. `{date}`, `{hour}`, `{id}` "
        "and `{consumer}` are put in; without `{id}` it is added.",
        examples=["exports/{date}/orders-{id}.parquet"],
    )
    format: Literal["csv", "jsonl", "parquet"] = Field(default="jsonl", description="How rows are written.")
    columns: Annotated[str | dict[str, str] | None, ColumnsReference()] = Field(
        default=None,
        description="The columns, as a row type `module:Class` or a mapping of column to type. Parquet needs them.",
        examples=["app.schemas:Order"],
    )
    rotate: Rotation = Field(default=Rotation(), description="When a file is closed and appears.")
    bucket: Annotated[str | None, Reference("bucket")] = Field(
        default=None, description="The bucket that holds the files, by its key. The clouds need one."
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        check_template(self.path, PLACEHOLDERS, "path")
        if self.format == "parquet" and self.columns is None:
            raise refusal("BF202", "`columns` is missing", "Parquet needs them: a row type, or a mapping of columns")
        return self

    def lacks_on(self, provider: str) -> str:
        return "bucket" if provider != "local" and self.bucket is None else ""


PRIMITIVE = Primitive(
    type="file",
    summary="Rows as CSV, JSON lines or Parquet.",
    spec=FileSpec,
    roles=frozenset({Role.SINK}),
    guarantee=AT_LEAST_ONCE,
)
