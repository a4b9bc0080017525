"""Rows of any shape against a table's columns: what fits is stored as it was, what does not is named."""

import math
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from pydantic import BaseModel

from buildflow.errors import InvalidRow
from buildflow.ir.columns import Column
from buildflow.primitives.rows import RowEncoder
from buildflow.primitives.table.duckdb_columns import definition
from buildflow.primitives.table.duckdb_file import database
from buildflow.primitives.table.duckdb_table import DuckDBTable, Location

LABELS = Column(
    name="labels",
    kind="record",
    repeated=True,
    fields=(Column(name="label", kind="string"), Column(name="confidence", kind="float")),
)


def table(path: Path, *columns: Column) -> DuckDBTable:
    location = Location(path / "t.duckdb", "main", "t")
    definitions = ", ".join(map(definition, columns))
    database(location.path).write(lambda c: c.execute(f"CREATE TABLE t ({definitions})"), create=True)
    return DuckDBTable(location, columns)


def refusal(columns: tuple[Column, ...], *rows: Any) -> str:
    with pytest.raises(InvalidRow) as caught:
        RowEncoder('table "people"', columns).encode([rows])
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("string", "plain"),
        ("string", "it's \"quoted\", \\ and ? and $1 and {'a'}"),
        ("string", "nul \0 in the middle"),
        ("string", "日本語 🙂 \u2028 \x1b"),
        ("string", ""),
        ("integer", 2**63 - 1),
        ("integer", -(2**63)),
        ("float", 0.1),
        ("float", 5e-324),
        ("float", -1.7976931348623157e308),
        ("float", math.inf),
        ("float", -math.inf),
        ("boolean", True),
        ("bytes", bytes(range(256))),
        ("bytes", b""),
        ("timestamp", datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)),
        ("timestamp", datetime(1, 1, 2, tzinfo=UTC)),
        ("date", date(9999, 12, 31)),
        ("time", time(23, 59, 59, 999999)),
        ("json", {"a": [1, 1.5, None, "x\0'"], "b": {}}),
        ("json", "text"),
        ("json", 12345678901234567890123),
    ],
)
def test_a_value_comes_back_as_it_was_alone_in_a_list_and_in_a_record(tmp_path, kind, value):
    plain = Column(name="plain", kind=kind)
    several = Column(name="several", kind=kind, repeated=True)
    inner = (
        Column(name="one", kind=kind),
        Column(name="none", kind=kind, nullable=True),
        Column(name="many", kind=kind, repeated=True),
    )
    record = Column(name="record", kind="record", fields=inner)
    records = Column(name="records", kind="record", repeated=True, fields=inner)
    stored = table(tmp_path, plain, several, record, records)
    nested = {"one": value, "none": None, "many": [value, value]}
    row = {"plain": value, "several": [value, value], "record": nested, "records": [nested, nested]}
    stored.insert([row])
    assert stored.rows() == [row]


def test_not_a_number_comes_back(tmp_path):
    stored = table(tmp_path, Column(name="x", kind="float"))
    stored.insert({"x": math.nan})
    assert math.isnan(stored.rows()[0]["x"])


@dataclass
class Label:
    label: str
    confidence: float


@dataclass
class DataclassRow:
    id: int
    labels: list[Label] = field(default_factory=list)


class ModelRow(BaseModel):
    id: int
    labels: list[Label]


class TupleRow(NamedTuple):
    id: int
    labels: list[Any]


def test_rows_of_every_shape_mix(tmp_path):
    stored = table(tmp_path, Column(name="id", kind="integer"), LABELS)
    cat = {"label": "cat", "confidence": 0.5}
    given = [
        {"labels": [cat], "id": 1},
        DataclassRow(2, [Label("cat", 0.5)]),
        ModelRow(id=3, labels=[Label("cat", 0.5)]),
        TupleRow(4, [cat, Label("cat", 0.5)]),
        DataclassRow(5),
    ]
    assert stored.insert(iter(given)) == 5
    assert [len(r["labels"]) for r in stored.rows(order_by="id")] == [1, 1, 1, 2, 0]
    assert all(label == cat for r in stored.rows() for label in r["labels"])


@pytest.mark.parametrize("row", [DataclassRow(2), ModelRow(id=2, labels=[]), TupleRow(2, [])])
def test_a_single_row_is_one_row(tmp_path, row):
    stored = table(tmp_path, Column(name="id", kind="integer"), LABELS)
    assert stored.insert(row) == 1
    assert stored.insert([]) == 0


class Colour(Enum):
    RED = "red"


class NumpyFloat:
    """Looks as numpy's float32 does: a zero-dimensional thing with `item`."""

    dtype = "float32"
    ndim = 0

    def item(self) -> float:
        return 0.25


@pytest.mark.parametrize(
    ("kind", "given", "stored"),
    [
        ("string", Colour.RED, "red"),
        ("string", UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ("float", 3, 3.0),
        ("float", Decimal("1.5"), 1.5),
        ("float", NumpyFloat(), 0.25),
        ("bytes", bytearray(b"ab"), b"ab"),
        (
            "timestamp",
            datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2))),
            datetime(2026, 1, 1, 10, tzinfo=UTC),
        ),
        ("timestamp", datetime(2026, 1, 1, 12), datetime(2026, 1, 1, 12, tzinfo=UTC)),
        ("timestamp", "2026-01-01T12:00:00Z", datetime(2026, 1, 1, 12, tzinfo=UTC)),
        ("date", "2026-01-01", date(2026, 1, 1)),
        ("time", "12:30", time(12, 30)),
    ],
)
def test_values_that_mean_the_same_are_taken(tmp_path, kind, given, stored):
    a_table = table(tmp_path, Column(name="x", kind=kind))
    a_table.insert({"x": given})
    assert a_table.rows() == [{"x": stored}]


@pytest.mark.parametrize("name", ["select", "at", "it's", 'say "hi"', "a b", "größe", "x.y", "c0", "Table", "?"])
def test_any_column_name_works(tmp_path, name):
    inner = Column(name=name, kind="timestamp", nullable=True)
    stored = table(tmp_path, Column(name=name, kind="integer"), Column(name="r", kind="record", fields=(inner,)))
    row = {name: 1, "r": {name: datetime(2026, 1, 1, tzinfo=UTC)}}
    stored.insert(row)
    assert stored.rows() == [row]


def test_a_missing_key_takes_the_default_or_nothing(tmp_path):
    stored = table(
        tmp_path,
        Column(name="id", kind="integer"),
        Column(name="note", kind="string", nullable=True),
        Column(name="score", kind="float", has_default=True, default=0.5),
        Column(name="since", kind="timestamp", has_default=True, default="2026-01-01T00:00:00+02:00"),
        Column(name="tags", kind="string", repeated=True, has_default=True, default=["new"]),
        Column(name="extra", kind="json", has_default=True, default={"a": 1}),
    )
    stored.insert({"id": 1})
    database(tmp_path / "t.duckdb").write(lambda c: c.execute("INSERT INTO t(id) VALUES (1)"))  # SQL's defaults
    expected = {
        "id": 1,
        "note": None,
        "score": 0.5,
        "since": datetime(2025, 12, 31, 22, tzinfo=UTC),
        "tags": ["new"],
        "extra": {"a": 1},
    }
    assert stored.rows() == [expected, expected]


AGE = (Column(name="name", kind="string"), Column(name="age", kind="integer"))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"name": "a", "age": "7"}, 'column "age" holds integers, this row has text'),
        ({"name": "a", "age": 7.0}, 'column "age" holds integers, this row has a number'),
        ({"name": "a", "age": True}, 'column "age" holds integers, this row has true or false'),
        ({"name": "a", "age": 2**63}, 'column "age" holds integers of 64 bits, this row has a larger one'),
        ({"name": b"a", "age": 1}, 'column "name" holds text, this row has bytes'),
        ({"name": None, "age": 1}, 'column "name" is required, this row has nothing in it'),
        ({"age": 1}, 'column "name" is required, this row does not have it'),
        (
            {"nam": "a", "age": 1},
            'no column is called "nam"; did you mean "name"? The columns are name, age; '
            'column "name" is required, this row does not have it',
        ),
        ("text", "a row is a mapping or a record, this is text"),
        ({"name": "\ud800", "age": 1}, "text holds '\\ud800', which is no Unicode character"),
    ],
)
def test_what_does_not_fit_is_named_in_the_users_words(row, said):
    message = refusal(AGE, row)
    assert message.startswith(f'table "people": {said}')


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        (LABELS, [{"label": 1, "confidence": 1.0}], 'column "labels.label" holds text, this row has an integer'),
        (LABELS, [{"label": "a"}], 'column "labels.confidence" is required, this row does not have it'),
        (LABELS, [{"label": "a", "confidence": 1, "x": 1}], 'no field is called "labels.x". The fields are'),
        (LABELS, {"label": "a"}, 'column "labels" holds lists of records, this row has a mapping'),
        (LABELS, ["a"], 'column "labels" holds records, this is text'),
        (
            Column(name="tags", kind="string", repeated=True),
            ["a", None],
            'column "tags" holds lists of text, this row has nothing at a place of its list',
        ),
        (
            Column(name="tags", kind="string", repeated=True),
            "abc",
            'column "tags" holds lists of text, this row has text',
        ),
        (Column(name="j", kind="json"), {"a": math.nan}, 'column "j" holds JSON, this row has what is none'),
        (Column(name="j", kind="json"), object(), 'column "j" holds JSON, this row has what is none'),
        (Column(name="d", kind="date"), datetime(2026, 1, 1), 'column "d" holds dates, this row has a timestamp'),
        (Column(name="t", kind="timestamp"), date(2026, 1, 1), 'column "t" holds timestamps, this row has a date'),
        (Column(name="t", kind="timestamp"), "soon", 'column "t" holds timestamps, this row has text'),
        (Column(name="t", kind="time"), time(1, tzinfo=UTC), 'column "t" holds times of day without a time zone'),
        (Column(name="f", kind="float"), 10**400, 'column "f" holds numbers, this row has an integer'),
    ],
)
def test_nested_values_and_each_kind(column, value, said):
    assert said in refusal((column,), {column.name: value})


def test_many_bad_rows_say_each_mistake_once():
    message = refusal(AGE, *[{"name": 1, "age": "x"} for _ in range(100)])
    assert message.count("holds") == 2
    columns = tuple(Column(name=f"c{i}", kind="string") for i in range(9))
    assert refusal(columns, {c.name: 1 for c in columns}).endswith("; and 4 more")
