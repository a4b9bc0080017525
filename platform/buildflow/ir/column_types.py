"""What each kind of column is in each store: one table, and the types made from it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from buildflow.ir.columns import Column, Kind

Store = Literal["duckdb", "postgresql", "bigquery"]


@dataclass(frozen=True)
class StoreTypes:
    """One kind of column in every store. DuckDB and BigQuery make a record out of its fields."""

    python: str
    duckdb: str
    postgresql: str
    bigquery: str


COLUMN_TYPES: dict[Kind, StoreTypes] = {
    "string": StoreTypes("str", "VARCHAR", "text", "STRING"),
    "integer": StoreTypes("int", "BIGINT", "bigint", "INTEGER"),
    "float": StoreTypes("float", "DOUBLE", "double precision", "FLOAT"),
    "boolean": StoreTypes("bool", "BOOLEAN", "boolean", "BOOLEAN"),
    "bytes": StoreTypes("bytes", "BLOB", "bytea", "BYTES"),
    "timestamp": StoreTypes("datetime.datetime", "TIMESTAMP WITH TIME ZONE", "timestamptz", "TIMESTAMP"),
    "date": StoreTypes("datetime.date", "DATE", "date", "DATE"),
    "time": StoreTypes("datetime.time", "TIME", "time", "TIME"),
    "json": StoreTypes("dict", "JSON", "jsonb", "JSON"),
    "record": StoreTypes("a record", "STRUCT", "jsonb", "RECORD"),
}
"""Python's types and what they become. Everything else is refused.

Sources: https://duckdb.org/docs/stable/sql/data_types/overview,
https://www.postgresql.org/docs/current/datatype.html, https://cloud.google.com/bigquery/docs/schemas
"""


def postgresql_type(column: Column) -> str:
    """A column's type in PostgreSQL; a list of records is one JSON value."""
    made = COLUMN_TYPES[column.kind].postgresql
    return f"{made}[]" if column.repeated and column.kind != "record" else made


def bigquery_field(column: Column) -> dict[str, Any]:
    """A column as a field of BigQuery's JSON schema: `name`, `type`, `mode`, and the `fields` of a record."""
    mode = "REPEATED" if column.repeated else "NULLABLE" if column.nullable else "REQUIRED"
    field: dict[str, Any] = {"name": column.name, "type": COLUMN_TYPES[column.kind].bigquery, "mode": mode}
    if column.fields:
        field["fields"] = [bigquery_field(inner) for inner in column.fields]
    return field


def refuses(column: Column, store: Store) -> str:
    """Why a store holds no such column, in words; empty when it does."""
    if not column.name:
        return "a column has a name"
    if store == "bigquery" and column.repeated and column.nullable:
        return "BigQuery's lists cannot be null: write an empty one"
    if store == "bigquery" and not re.fullmatch(r"[A-Za-z_]\w{0,299}", column.name):
        return "BigQuery's names are letters, digits and underscores, no digit first"
    return next((why for inner in column.fields if (why := refuses(inner, store))), "")


def same_but_for_case(columns: Iterable[Column]) -> tuple[str, str] | None:
    """Two names that no store tells apart."""
    seen: dict[str, str] = {}
    for column in columns:
        first = seen.setdefault(column.name.casefold(), column.name)
        if first != column.name:
            return first, column.name
    return None
