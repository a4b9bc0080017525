"""table: rows with columns, in DuckDB or BigQuery."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from buildflow.primitives.base import ColumnsReference, Primitive, Role, Spec


class LocalOptions(BaseModel):
    """Fields that only the local provider knows."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    database: str | None = Field(
        default=None,
        description="The DuckDB file, relative to buildflow.yaml. Without one: `tables.duckdb` in the stack's folder.",
    )


class TableSpec(Spec):
    """Rows: a DuckDB table (local, aws) or a BigQuery table (gcp)."""

    type: Literal["table"]
    columns: Annotated[str | dict[str, str], ColumnsReference()] = Field(
        description="A row type as `module:Class`, or a mapping of column to type (`id: integer`, `note: string?`).",
        examples=["app.schemas:Order"],
    )
    dataset: str | None = Field(
        default=None, description="BigQuery's dataset; in DuckDB, the schema. Without one: the project's own."
    )
    local: LocalOptions = Field(default=LocalOptions(), description="Fields of the local provider.")


PRIMITIVE = Primitive(
    type="table",
    summary="Rows with columns: DuckDB or BigQuery.",
    spec=TableSpec,
    roles=frozenset({Role.SINK, Role.STORE}),
    handle="buildflow.types.Table",
)
