"""Row types to columns, and what a handler returns against them."""

from collections.abc import Sequence

import pytest

from buildflow.binding.columns import check_rows, columns_of, inline_columns
from buildflow.ir.columns import Column
from buildflow.ir.signature import Shape, ShapeField, ShapeKind


def shape(kind: ShapeKind, *, nullable: bool = False) -> Shape:
    return Shape(kind=kind, text=kind, nullable=nullable)


def many(item: Shape) -> Shape:
    return Shape(kind="list", text=f"list[{item.text}]", item=item)


def record(*fields: ShapeField, name: str = "Row") -> Shape:
    return Shape(kind="record", name=f"app.{name}", text=name, fields=fields)


def field(name: str, of: Shape, *, required: bool = True, default: object = None) -> ShapeField:
    return ShapeField(
        name=name,
        shape=of,
        required=required,
        has_constant=default is not None,
        constant=default,  # type: ignore[arg-type]
    )


def test_fields_become_columns_in_their_order() -> None:
    columns, problems = columns_of(
        record(
            field("id", shape("integer")),
            field("note", shape("string", nullable=True)),
            field("tags", many(shape("string"))),
            field("parts", many(record(field("amount", shape("float")), name="Part"))),
            field("data", shape("mapping")),
            field("count", shape("integer"), required=False, default=3),
            field("made", shape("timestamp"), required=False),
        )
    )
    assert problems == []
    assert columns == (
        Column(name="id", kind="integer"),
        Column(name="note", kind="string", nullable=True),
        Column(name="tags", kind="string", repeated=True),
        Column(name="parts", kind="record", repeated=True, fields=(Column(name="amount", kind="float"),)),
        Column(name="data", kind="json"),
        Column(name="count", kind="integer", has_default=True, default=3),
        Column(name="made", kind="timestamp", nullable=True),
    )


@pytest.mark.parametrize(
    "of",
    [
        *(shape("named"), shape("unknown"), shape("none"), shape("union")),
        *(Shape(kind="list"), many(many(shape("string"))), many(shape("string", nullable=True))),
    ],
)
def test_what_no_table_holds(of: Shape) -> None:
    columns, problems = columns_of(record(field("a", of), field("b", shape("string"))))
    assert [c.name for c in columns] == ["b"]
    assert [p.code for p in problems] == ["BF311"]


def test_inline_columns() -> None:
    columns, wrong = inline_columns({"id": "integer", "note": "string?", "tags": "string[]", "more": "json[]?"})
    assert wrong == {}
    assert [(c.name, c.kind, c.nullable, c.repeated) for c in columns] == [
        ("id", "integer", False, False),
        ("note", "string", True, False),
        ("tags", "string", False, True),
        ("more", "json", True, True),
    ]


@pytest.mark.parametrize("text", ["", "int", "string??", "string?[]", "record", "string []", "STRING"])
def test_inline_columns_of_unknown_type(text: str) -> None:
    columns, wrong = inline_columns({"a": text})
    assert columns == ()
    assert wrong["a"].code == "BF311"


COLUMNS = (Column(name="id", kind="integer"), Column(name="price", kind="float"), Column(name="data", kind="json"))
FITTING = record(field("id", shape("integer")), field("price", shape("integer")), field("data", record()))


@pytest.mark.parametrize(
    "returns",
    [
        *(FITTING, many(FITTING), shape("unknown"), shape("mapping"), shape("named"), many(shape("unknown"))),
        FITTING.model_copy(update={"nullable": True}),
        Shape(kind="union", options=(FITTING, many(FITTING))),
    ],
)
def test_rows_that_fit_or_that_nobody_can_judge(returns: Shape) -> None:
    assert check_rows(returns, COLUMNS, "orders") == []


@pytest.mark.parametrize(
    ("returns", "count"),
    [
        (shape("none"), 1),
        (shape("string"), 1),
        (many(shape("integer")), 1),
        (record(field("id", shape("integer")), field("price", shape("float"))), 1),
        (record(*FITTING.fields, field("more", shape("string"))), 1),
        (record(field("id", shape("float")), *FITTING.fields[1:]), 1),
        (record(field("id", many(shape("integer"))), *FITTING.fields[1:]), 1),
        (record(field("id", shape("integer", nullable=True)), *FITTING.fields[1:]), 1),
        (record(), 3),
        (Shape(kind="union", options=(FITTING, shape("string"))), 1),
    ],
)
def test_rows_that_do_not_fit(returns: Shape, count: int) -> None:
    problems: Sequence[object] = check_rows(returns, COLUMNS, "orders")
    assert len(problems) == count
