"""Row types to columns, and what a handler returns against the columns of its sink."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import get_args

from buildflow.diagnostics import Severity, closest
from buildflow.ir.column_types import COLUMN_TYPES, Store, refuses
from buildflow.ir.columns import Column, Kind
from buildflow.ir.signature import Place, Shape, ShapeKind

KINDS: dict[ShapeKind, Kind] = {
    "string": "string",
    "integer": "integer",
    "float": "float",
    "boolean": "boolean",
    "bytes": "bytes",
    "timestamp": "timestamp",
    "date": "date",
    "time": "time",
    "mapping": "json",
    "record": "record",
}
"""What each kind of type becomes as a column. Everything else is not supported."""

_WIDER: dict[Kind, set[Kind]] = {"float": {"integer"}, "json": {"record", "string"}}
_INLINE = re.compile(r"(\w+)(\[\])?(\?)?")


@dataclass(frozen=True)
class Unfit:
    """A mistake found by the checker; the compiler gives it its place in the YAML."""

    code: str
    message: str
    hint: str = ""
    place: Place | None = None
    below: tuple[str, ...] = ()
    """Where in the YAML it is, from the section that names the function; empty for the function's name itself."""
    wrong: str = ""
    right: str = ""
    """A misspelt name there, and the one that is probably meant; empty where there is none."""
    severity: Severity = Severity.ERROR


def columns_of(shape: Shape, store: Store | None = None) -> tuple[tuple[Column, ...], list[Unfit]]:
    """A record's columns, as far as `store` holds them."""
    found: list[Unfit] = []
    if shape.kind != "record":
        message = f'"{shape.text or shape.name}" is no row type'
        hint = "use a dataclass, a pydantic model, a TypedDict or a NamedTuple"
        return (), [Unfit("BF311", message, hint, shape.place)]
    columns = []
    for item in shape.fields:
        column = _column(item.name, item.shape, item.place, found)
        if column is not None and store and (why := refuses(column, store)):
            found.append(Unfit("BF311", f'column "{item.name}" does not fit: {why}', "", item.place))
        elif column is not None:
            nullable = column.nullable
            defaulted = not item.required and item.has_constant and item.constant is not None
            columns.append(
                column.model_copy(
                    update={
                        "nullable": nullable or (not item.required and not defaulted and not column.repeated),
                        "has_default": defaulted,
                        "default": item.constant if defaulted else None,
                    }
                )
            )
    return tuple(columns), found


def _column(name: str, shape: Shape, place: Place | None, found: list[Unfit]) -> Column | None:
    repeated = shape.kind == "list"
    inner = (shape.item or Shape(kind="unknown")) if repeated else shape
    kind = KINDS.get(inner.kind)
    if kind is None or (repeated and inner.nullable):
        message = f'column "{name}" has a type that no table holds: {shape.text or shape.kind}'
        hint = "use str, int, float, bool, bytes, datetime, date, time, dict, a record, or a list of one of these"
        found.append(Unfit("BF311", message, hint, place))
        return None
    fields: tuple[Column, ...] = ()
    if kind == "record":
        fields, problems = columns_of(inner)
        found.extend(problems)
    return Column(name=name, kind=kind, nullable=shape.nullable, repeated=repeated, fields=fields)


def inline_columns(declared: Mapping[str, str]) -> tuple[tuple[Column, ...], dict[str, Unfit]]:
    """`{id: integer, note: string?, tags: string[]}` to columns; mistakes by column."""
    known = get_args(Kind)
    columns, wrong = [], {}
    for name, text in declared.items():
        match = _INLINE.fullmatch(text.strip())
        if not match or match[1] not in known or match[1] == "record":
            wrong[name] = _unknown_type(name, text, [k for k in known if k != "record"])
            continue
        kind: Kind = match[1]  # type: ignore[assignment]
        columns.append(Column(name=name, kind=kind, repeated=bool(match[2]), nullable=bool(match[3])))
    return tuple(columns), wrong


_OTHER_NAMES: dict[str, Kind] = {
    **dict.fromkeys(("str", "text", "varchar", "char", "uuid"), "string"),
    **dict.fromkeys(("int", "bigint", "long", "smallint"), "integer"),
    **dict.fromkeys(("double", "number", "real", "numeric", "decimal"), "float"),
    **dict.fromkeys(("datetime", "timestamptz"), "timestamp"),
    **dict.fromkeys(("dict", "object", "jsonb", "mapping"), "json"),
    **dict.fromkeys(("binary", "blob", "bytea"), "bytes"),
    "bool": "boolean",
}
"""What other languages call the kinds of columns."""


def _unknown_type(name: str, text: str, known: list[str]) -> Unfit:
    word = re.match(r"\w*", text.strip())
    written = word[0] if word else ""
    meant = _OTHER_NAMES.get(written.lower()) or (closest(written, known) if written else None)
    hint = f'did you mean "{meant}"?' if meant else f"one of: {', '.join(known)}; `?` for nullable, `[]` for many"
    message = f'column "{name}" has an unknown type "{text}"'
    return Unfit("BF311", message, hint, wrong=written if meant else "", right=meant or "")


def check_rows(returns: Shape, columns: tuple[Column, ...], sink: str) -> list[Unfit]:
    """What a handler returns against a table's columns. Says nothing about what it cannot know."""
    found: list[Unfit] = []
    for shape in each_row(returns):
        if is_response(shape):
            found.append(
                Unfit("BF215", f'it returns {shape.text}, which is no row of "{sink}"', "return the row itself")
            )
        elif shape.name == MESSAGE:
            words = f'it returns {shape.text}, which is no row of "{sink}": only queues and topics take a Message'
            found.append(Unfit("BF215", words, "return the row itself"))
        elif shape.kind in ("unknown", "mapping", "named"):
            continue
        elif shape.kind == "none":
            found.append(Unfit("BF215", f'it returns nothing, so nothing reaches "{sink}"', "return a row"))
        elif shape.kind != "record":
            found.append(Unfit("BF215", f'it returns {shape.text}, which is no row of "{sink}"', "return a row type"))
        else:
            found.extend(_check_record(shape, columns, sink))
    return found


def each_row(returns: Shape) -> Iterable[Shape]:
    """What a handler may return as one row: a union's options, a list's items."""
    if returns.kind == "union":
        for option in returns.options:
            yield from each_row(option)
    elif returns.kind == "list":
        yield from each_row(returns.item or Shape(kind="unknown"))
    else:
        yield returns


MESSAGE = "buildflow.types.Message"
"""The name of the envelope."""
_RESPONSES = ("fastapi.", "starlette.", "buildflow.responses.")


def is_response(shape: Shape) -> bool:
    """Whether this is an HTTP response, which no sink takes."""
    return shape.kind == "named" and shape.name.startswith(_RESPONSES) and shape.name.endswith("Response")


def _check_record(shape: Shape, columns: tuple[Column, ...], sink: str, path: str = "") -> Iterable[Unfit]:
    fields = {f.name: f for f in shape.fields}
    known = {c.name: c for c in columns}
    needed = [c.name for c in columns if not c.nullable and not c.has_default and not c.repeated]
    lacking = [name for name in needed if name not in fields]
    surplus = [name for name in fields if name not in known]
    renamed = dict(_renamed(surplus, lacking, known))
    whose = shape.text or shape.name
    for name in surplus:
        message = f'{whose} has the field "{path}{name}", which "{sink}" has not'
        if name in renamed:
            message += f', and lacks its column "{path}{renamed[name]}"'
        near = closest(name, known)
        hint = f'did you mean "{near}"?' if near else "add it to the table's columns, or drop it"
        hint = f"rename the field to {renamed[name]}, or the column to {name}" if name in renamed and not near else hint
        yield Unfit("BF215", message, hint, fields[name].place)
    for name in lacking:
        if name not in renamed.values():
            message = f'{whose} lacks the column "{path}{name}" of "{sink}"'
            yield Unfit("BF215", message, f"give it the field {name}", shape.place)
    for name, item in fields.items():
        if name in known:
            yield from _check_field(item.shape, known[name], f"{path}{name}", sink, item.place)


def _renamed(surplus: list[str], lacking: list[str], known: Mapping[str, Column]) -> Iterable[tuple[str, str]]:
    """Fields and the columns that they probably are: near by name, or the only ones of either."""
    for name in surplus:
        near = closest(name, lacking)
        if near:
            yield name, near
    if len(surplus) == len(lacking) == 1 and not closest(surplus[0], lacking) and not closest(surplus[0], known):
        yield surplus[0], lacking[0]


def _check_field(shape: Shape, column: Column, path: str, sink: str, place: Place | None) -> Iterable[Unfit]:
    inner = (shape.item or Shape(kind="unknown")) if shape.kind == "list" else shape
    kind = KINDS.get(inner.kind)
    if kind is None:
        return
    fits = kind == column.kind or kind in _WIDER.get(column.kind, set())
    if not fits or (shape.kind == "list") != column.repeated:
        wanted = f"list of {column.kind}" if column.repeated else column.kind
        message = f'the field "{path}" is {shape.text or kind}, the column of "{sink}" holds {wanted}'
        python = COLUMN_TYPES[column.kind].python
        wanted_type = f"list[{python}]" if column.repeated else python
        yield Unfit("BF215", message, f"annotate it with {wanted_type}, or change the column", place)
    elif shape.nullable and not column.nullable:
        message = f'the field "{path}" may be None, the column of "{sink}" may not be null'
        yield Unfit("BF215", message, "drop `| None`, or make the column nullable", place)
    elif column.kind == "record":
        yield from _check_record(inner, column.fields, sink, f"{path}.")
