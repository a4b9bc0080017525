"""The columns of primitives, and what handlers give against them."""

from typing import Any

from buildflow.binding.columns import Unfit, check_rows, columns_of, inline_columns
from buildflow.binding.messages import check_given
from buildflow.compiler.lower.state import Lowering
from buildflow.compiler.references import provider_of
from buildflow.diagnostics import Diagnostic, Related, misspelt
from buildflow.ir.column_types import Store, refuses, same_but_for_case
from buildflow.ir.columns import Column
from buildflow.ir.signature import Shape
from buildflow.primitives.base import ColumnNames, ColumnsReference, Spec


def primitive_columns(key: str, state: Lowering) -> tuple[Column, ...]:
    """The columns of a primitive whose Spec names a row type, or maps columns to types."""
    primitive, spec = state.declaration.primitives[key]
    for name, info in type(spec).model_fields.items():
        if any(isinstance(m, ColumnsReference) for m in info.metadata):
            store = primitive.stores.get(provider_of(spec, state.declaration))
            columns = _columns(getattr(spec, name), ("primitives", key, name), store, state)
            _named_columns(key, spec, columns, state)
            return columns
    return ()


def _named_columns(key: str, spec: Spec, columns: tuple[Column, ...], state: Lowering) -> None:
    """Fields that list columns name some that there are."""
    known = [column.name for column in columns]
    for name, info in type(spec).model_fields.items():
        if known and any(isinstance(m, ColumnNames) for m in info.metadata):
            for number, column in enumerate(getattr(spec, name)):
                if column not in known:
                    span = state.declaration.span("primitives", key, name, number)
                    message = f'"{key}" has no column "{column}"'
                    state.found.append(misspelt("BF226", message, span, column, known))


def _columns(
    declared: str | dict[str, str] | None, path: tuple[Any, ...], store: Store | None, state: Lowering
) -> tuple[Column, ...]:
    if declared is None or not state.declaration.knows(*path):
        return ()
    if not isinstance(declared, str):
        columns, wrong = inline_columns(declared)
        for name, problem in wrong.items():
            state.unfit([problem], *path, name, about="")
        for column in columns:
            if why := refuses(column, store) if store else "":
                span = state.declaration.key_span(*path, column.name)
                message = f'column "{column.name}" does not fit: {why}'
                state.found.append(Diagnostic("BF311", message, span, "rename it, or change its type"))
        if not declared:
            state.unfit([_no_columns("`columns` is empty")], *path, about="")
        state.unfit(_twice(columns), *path, about="")
        return columns if not wrong else ()
    shape = state.row_type(declared, path)
    if shape is None:
        return ()
    columns, problems = columns_of(shape.model_copy(update={"text": shape.text or declared}), store)
    if not columns and not problems:
        problems = [_no_columns(f"{declared} has no fields")]
    state.unfit([*problems, *_twice(columns)], *path, about="")
    return columns if not problems else ()  # what a handler returns cannot be held against half of them


def _twice(columns: tuple[Column, ...]) -> list[Unfit]:
    pair = same_but_for_case(columns)
    if pair is None:
        return []
    message = f'the columns "{pair[0]}" and "{pair[1]}" differ in letter case only: no table tells them apart'
    return [Unfit("BF311", message, "rename one")]


def _no_columns(message: str) -> Unfit:
    return Unfit("BF311", message, "a table has at least one column")


def check_sink(returns: Shape, sink: str, handler: str, place: tuple[Any, ...], state: Lowering) -> None:
    """What a handler returns against a sink's columns, or against what its messages are."""
    about = f"{handler}: "
    if columns := state.columns.get(sink):
        state.unfit(check_rows(returns, columns, sink), *place, about=about)
    elif message := state.message(sink):
        also = (Related(f'"{sink}" carries {message[0].text}', message[1]),)
        state.unfit(check_given(returns, message[0], sink), *place, about=about, also=also)
