"""database: PostgreSQL, for handlers that speak SQL, and for consumers that write rows."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from buildflow.primitives.base import (
    EFFECTIVELY_ONCE,
    ColumnNames,
    ColumnsReference,
    Options,
    Primitive,
    Reference,
    Role,
    Spec,
)
from buildflow.providers.names import CLOUD_SQL_INSTANCE, RDS_INSTANCE
from buildflow.spec.units import Size
from buildflow.spec.values import AwsRegion, Secret, refusal


class AwsOptions(Options):
    """Fields that only AWS knows."""

    region: AwsRegion | None = Field(default=None, description="Another region than the stack's.")
    multi_az: bool = Field(default=False, description="Whether a second instance stands by in another zone.")
    subnets: list[str] = Field(
        default_factory=list,
        description="The subnets that it stands in: two or more of one network, in different zones. Without them: "
        "those of the default network.",
        examples=[["subnet-0a1b2c3d", "subnet-4e5f6a7b"]],
    )
    final_snapshot: bool = Field(
        default=True, description="Whether RDS keeps a last snapshot when the server is deleted."
    )


class GcpOptions(Options):
    """Fields that only Google Cloud knows."""

    project: str | None = Field(default=None, description="Another Google Cloud project than the stack's.")
    region: str | None = Field(default=None, description="Another region than the stack's.")


class DatabaseSpec(Spec):
    """A PostgreSQL database with its user: embedded (local), RDS (aws) or Cloud SQL (gcp)."""

    type: Literal["database"]
    version: Literal["13", "14", "15", "16", "17", "18"] = Field(
        default="17", description="PostgreSQL's major version (clouds only).", examples=["17"]
    )
    instance: Annotated[str | None, Reference("database")] = Field(
        default=None, description="Another database, by its key, whose server this one shares."
    )
    tier: str | None = Field(
        default=None,
        description="The server's size (clouds only), such as `db.t4g.micro` or `db-f1-micro`. Without one: the "
        "smallest.",
        examples=["db.t4g.micro"],
    )
    storage: Size = Field(default=20_000_000_000, gt=0, description="The server's disk.", examples=["20GB"])
    public: bool = Field(default=False, description="Whether it can be reached from the internet.")
    user: str | None = Field(default=None, min_length=1, description="The user's name. Without one: the database's.")
    password: Secret | None = Field(
        default=None,
        description="The user's password, as `${secret.NAME}` (clouds only). Without one: a generated one.",
    )
    deletion_protection: bool | None = Field(
        default=None, description="`destroy` and replacements are refused. Without it: on the clouds they are."
    )
    table: str | None = Field(
        default=None, pattern=r"^[a-z_][a-z0-9_]*$", description="As a sink: the table that rows are written to."
    )
    columns: Annotated[str | dict[str, str] | None, ColumnsReference()] = Field(
        default=None,
        description="As a sink: the table's columns, as a row type `module:Class` or a mapping of column to type.",
        examples=["app.schemas:Order"],
    )
    upsert: Annotated[list[str], ColumnNames()] = Field(
        default_factory=list, description="As a sink: the columns by which a row replaces an older one."
    )
    aws: AwsOptions = Field(default=AwsOptions(), description="Fields of AWS.")
    gcp: GcpOptions = Field(default=GcpOptions(), description="Fields of Google Cloud.")

    @model_validator(mode="after")
    def _a_sink_is_whole(self) -> Self:
        if (self.table is None) != (self.columns is None):
            missing = "table" if self.table is None else "columns"
            raise refusal("BF202", f"`{missing}` is missing", "as a sink, a database has both `table` and `columns`")
        return self

    def no_sink(self) -> str:
        return "" if self.table else "it has no `table` and no `columns` for what a consumer writes"


PRIMITIVE = Primitive(
    type="database",
    summary="PostgreSQL: embedded, RDS or Cloud SQL.",
    spec=DatabaseSpec,
    roles=frozenset({Role.STORE, Role.SINK}),
    handle="buildflow.types.Database",
    names={"aws": RDS_INSTANCE, "gcp": CLOUD_SQL_INSTANCE},
    stores={"local": "postgresql", "aws": "postgresql", "gcp": "postgresql"},
    guarantee=EFFECTIVELY_ONCE,
)
