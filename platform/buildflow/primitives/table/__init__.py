"""table: rows with columns, in DuckDB or BigQuery."""

from typing import Annotated, Literal

from pydantic import Field

from buildflow.primitives.base import EFFECTIVELY_ONCE, ColumnsReference, Options, Primitive, Role, Spec
from buildflow.providers.names import BIGQUERY_TABLE, DUCKDB_TABLE
from buildflow.spec.project import IDENTIFIER


class LocalOptions(Options):
    """Fields that only the local provider knows."""

    database: str | None = Field(
        default=None,
        description="The DuckDB file, relative to buildflow.yaml. Without one: `tables.duckdb` in the stack's folder.",
    )


class AwsOptions(Options):
    """Fields that only AWS knows."""

    database: str | None = Field(
        default=None,
        description="A DuckDB file that all processes reach, or a MotherDuck database as `md:name`.",
        examples=["md:analytics"],
    )


class GcpOptions(Options):
    """Fields that only Google Cloud knows."""

    project: str | None = Field(default=None, description="Another Google Cloud project than the stack's.")
    location: str | None = Field(default=None, description="The dataset's location. Without one: the stack's region.")
    dedupe: Literal["none", "merge"] = Field(
        default="none",
        description="`merge` writes an element that comes again once, by a MERGE on its id; `none` is faster, and "
        "writes it at least once.",
    )


class TableSpec(Spec):
    """Rows: a DuckDB table (local, aws) or a BigQuery table (gcp)."""

    type: Literal["table"]
    columns: Annotated[str | dict[str, str], ColumnsReference()] = Field(
        description="A row type as `module:Class`, or a mapping of column to type (`id: integer`, `note: string?`).",
        examples=["app.schemas:Order"],
    )
    dataset: str | None = Field(
        default=None,
        pattern=IDENTIFIER,
        description="BigQuery's dataset; in DuckDB, the schema. Without one: the project's own.",
    )
    batch_size: int = Field(default=10_000, gt=0, le=50_000, description="Rows that go out in one request (gcp).")
    deletion_protection: bool = Field(default=False, description="`destroy` and replacements are refused.")
    local: LocalOptions = Field(default=LocalOptions(), description="Fields of the local provider.")
    aws: AwsOptions = Field(default=AwsOptions(), description="Fields of AWS.")
    gcp: GcpOptions = Field(default=GcpOptions(), description="Fields of Google Cloud.")


PRIMITIVE = Primitive(
    type="table",
    summary="Rows with columns: DuckDB or BigQuery.",
    spec=TableSpec,
    roles=frozenset({Role.SINK, Role.STORE}),
    handle="buildflow.types.Table",
    names={"aws": DUCKDB_TABLE, "gcp": BIGQUERY_TABLE},
    stores={"local": "duckdb", "aws": "duckdb", "gcp": "bigquery"},
    guarantee=EFFECTIVELY_ONCE,
)
