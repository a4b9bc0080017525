"""Kinds of columns in every store: one row a kind, and no kind without one."""

from typing import get_args

import pytest

from buildflow.ir.column_types import COLUMN_TYPES, bigquery_field, postgresql_type, refuses
from buildflow.ir.columns import Column, Kind
from buildflow.primitives.table.duckdb_columns import duckdb_type

ROW = (Column(name="label", kind="string"), Column(name="share", kind="float", nullable=True))

TYPES = {
    "string": ("VARCHAR", "text", "STRING"),
    "integer": ("BIGINT", "bigint", "INTEGER"),
    "float": ("DOUBLE", "double precision", "FLOAT"),
    "boolean": ("BOOLEAN", "boolean", "BOOLEAN"),
    "bytes": ("BLOB", "bytea", "BYTES"),
    "timestamp": ("TIMESTAMP WITH TIME ZONE", "timestamptz", "TIMESTAMP"),
    "date": ("DATE", "date", "DATE"),
    "time": ("TIME", "time", "TIME"),
    "json": ("JSON", "jsonb", "JSON"),
    "record": ('STRUCT("label" VARCHAR, "share" DOUBLE)', "jsonb", "RECORD"),
}


def test_every_kind_has_a_type_in_every_store() -> None:
    assert set(COLUMN_TYPES) == set(get_args(Kind)) == set(TYPES)


@pytest.mark.parametrize("kind", TYPES)
def test_one_value(kind: Kind) -> None:
    column = Column(name="c", kind=kind, fields=ROW if kind == "record" else ())
    duckdb, postgresql, bigquery = TYPES[kind]
    assert duckdb_type(column) == duckdb
    assert postgresql_type(column) == postgresql
    assert bigquery_field(column)["type"] == bigquery
    assert bigquery_field(column)["mode"] == "REQUIRED"


@pytest.mark.parametrize("kind", TYPES)
def test_many_values(kind: Kind) -> None:
    column = Column(name="c", kind=kind, repeated=True, fields=ROW if kind == "record" else ())
    duckdb, postgresql, _ = TYPES[kind]
    assert duckdb_type(column) == f"{duckdb}[]"
    assert postgresql_type(column) == (postgresql if kind == "record" else f"{postgresql}[]")
    assert bigquery_field(column)["mode"] == "REPEATED"


def test_a_record_of_bigquery_holds_its_fields() -> None:
    assert bigquery_field(Column(name="seen", kind="record", repeated=True, fields=ROW)) == {
        "name": "seen",
        "type": "RECORD",
        "mode": "REPEATED",
        "fields": [
            {"name": "label", "type": "STRING", "mode": "REQUIRED"},
            {"name": "share", "type": "FLOAT", "mode": "NULLABLE"},
        ],
    }


def test_only_bigquery_refuses_a_list_that_may_be_null() -> None:
    tags = Column(name="tags", kind="string", repeated=True, nullable=True)
    assert "cannot be null" in refuses(tags, "bigquery")
    assert "cannot be null" in refuses(Column(name="r", kind="record", fields=(tags,)), "bigquery")
    assert refuses(tags, "duckdb") == refuses(tags, "postgresql") == ""
