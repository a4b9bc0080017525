"""Rows of any shape, checked against the columns and encoded as JSON that a store unpacks in one step: DuckDB, or
whatever has a `Wire` of its own.

Encoding goes column by column: a column whose values all have the expected Python type costs one pass in C,
so 1,000 small rows take about 5 ms. What does not fit raises `InvalidRow` in the user's words.
"""

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from difflib import get_close_matches
from enum import Enum
from math import isfinite
from numbers import Integral, Real
from operator import itemgetter
from pathlib import PurePath
from typing import Any
from uuid import UUID

from buildflow.errors import InvalidRow
from buildflow.ir.columns import Column
from buildflow.primitives.base import row_values
from buildflow.primitives.table.duckdb_columns import duckdb_type, in_words, quote, text, utc_text

Problems = dict[str, str]
"""Sentences, each once, in the order of discovery, and the columns that they are about ("" for none)."""

_SHOWN = 5
_MISSING: Any = object()
_NO_TYPE: type = type(None)
_MIN, _MAX = -(2**63), 2**63 - 1
_dumps = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode


@dataclass(frozen=True)
class Wire:
    """How a store reads what JSON has no type for: as text that it casts to the column's type."""

    plain_bytes: Callable[[bytes], str]
    listed_bytes: Callable[[bytes], str]
    json_as_text: bool = True
    """Whether JSON travels as text too, or as it is."""
    inner: "Wire | None" = None
    """For the fields of records, where that is another."""
    refuses: Callable[[str], str] = lambda _: ""
    """Why the store cannot hold the text of a fragment, in words; empty when it can."""


class RowEncoder:
    """The rows of one `owner`, in words (`table "orders"`). `encode` gives JSON fragments, commas join them; a row is
    a record of `keys`. `select` unpacks them in DuckDB."""

    def __init__(self, owner: str, columns: Sequence[Column], wire: Wire | None = None) -> None:
        self._owner = owner
        self._columns = tuple(columns)
        self._wire = wire or _DUCKDB
        self.keys = [f"c{i}" for i in range(len(self._columns))]
        names = ", ".join(quote(c.name) for c in self._columns)
        types = json.dumps([{k: _wire_type(c) for k, c in zip(self.keys, self._columns, strict=True)}])
        values = ", ".join(_unpack(f"r.{k}", c) for k, c in zip(self.keys, self._columns, strict=True))
        self.columns_sql = names
        self.select = f"SELECT {values} FROM (SELECT unnest(from_json(?, {text(types)})) AS r)"
        """Takes one parameter: `[fragment,fragment,...]`."""

    def encode(self, groups: Sequence[Sequence[Any]]) -> list[str]:
        """The rows of each group as a fragment, "" for no rows. Raises `InvalidRow` for all that is wrong."""
        problems: Problems = {}
        rows = [row for group in groups for row in group]
        columns = _encode_records(self._columns, rows, "", self._wire, problems)
        if problems:
            raise self._invalid(problems)
        records = iter([dict(zip(self.keys, values, strict=True)) for values in zip(*columns, strict=True)])
        fragments = [_dumps([next(records) for _ in group])[1:-1] for group in groups]
        for fragment in fragments:
            self._check_unicode(fragment)
            if refusal := self._wire.refuses(fragment):
                raise self._invalid({refusal: ""})
        return fragments

    def _check_unicode(self, fragment: str) -> None:
        """Half a surrogate pair (a file name that is no UTF-8, say) is no text that a table can hold."""
        try:
            fragment.isascii() or fragment.encode()
        except UnicodeEncodeError as exc:
            broken = ascii(exc.object[exc.start : exc.end])
            raise self._invalid({f"text holds {broken}, which is no Unicode character": ""}) from exc

    def _invalid(self, problems: Problems) -> InvalidRow:
        shown = list(problems)[:_SHOWN]
        rest = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        invalid = InvalidRow(f"{self._owner}: {'; '.join(shown)}{rest}")
        invalid.fields = [(tuple(name.split(".")) if name else (), words) for words, name in problems.items()]
        return invalid


# What travels: JSON's own types, and text for all others, which DuckDB casts to the column's type.


def _wire_type(column: Column) -> Any:
    inner: Any = "VARCHAR"
    if column.kind == "record":
        inner = {f.name: _wire_type(f) for f in column.fields}
    elif column.kind in ("integer", "float", "boolean"):
        inner = {"integer": "BIGINT", "float": "DOUBLE", "boolean": "BOOLEAN"}[column.kind]
    return [inner] if column.repeated else inner


def _unpack(value: str, column: Column) -> str:
    if column.kind == "bytes" and not column.repeated:
        return f"from_base64({value})"
    return f"CAST({value} AS {duckdb_type(column)})"


def _encode_records(
    columns: Sequence[Column], rows: Sequence[Any], prefix: str, wire: Wire, problems: Problems
) -> list[list[Any]]:
    """One list of encoded values a column, for rows (or nested records) of any mix of shapes."""
    readers: dict[type, Callable[[Any], Sequence[Any]]] = {}
    table = []
    for row in rows:
        kind = type(row)
        reader = readers.get(kind) or readers.setdefault(kind, _reader(columns, prefix, problems))
        table.append(reader(row))
    if not table:
        return [[] for _ in columns]
    values = [list(column) for column in zip(*table, strict=True)]
    return [
        _encode_column(column, vs, prefix + column.name, wire, problems)
        for column, vs in zip(columns, values, strict=True)
    ]


def _reader(columns: Sequence[Column], prefix: str, problems: Problems) -> Callable[[Any], Sequence[Any]]:
    """How to take the columns' values, in order, from rows of one Python type."""
    names = [c.name for c in columns]
    known = frozenset(names)
    pick = itemgetter(*names) if len(names) > 1 else lambda row: (row[names[0]],)
    no_row = [None if c.nullable else _MISSING for c in columns]

    def read(row: Any) -> Sequence[Any]:
        try:
            values = row_values(row, columns)
        except TypeError:
            where = f'column "{prefix[:-1]}" holds records' if prefix else "a row is a mapping or a record"
            problems[f"{where}, this is {describe(row)}"] = prefix[:-1]
            return no_row
        if values.keys() == known:
            return pick(values)
        for name in values:
            if name not in known:
                problems[_unknown(name, prefix, names)] = f"{prefix}{name}"
        return [_value_or_default(values, column) for column in columns]

    return read


def _value_or_default(values: Mapping[str, Any], column: Column) -> Any:
    if column.name in values:
        return values[column.name]
    if column.has_default:
        return column.default
    return None if column.nullable else _MISSING


def _unknown(name: Any, prefix: str, names: Sequence[str]) -> str:
    close = get_close_matches(str(name), names, 1)
    guess = f'; did you mean "{close[0]}"?' if close else "."
    kind = "field" if prefix else "column"
    return f'no {kind} is called "{prefix}{name}"{guess} The {kind}s are {", ".join(names)}'


def _encode_column(column: Column, values: list[Any], name: str, wire: Wire, problems: Problems) -> list[Any]:
    if any(value is _MISSING for value in values):
        problems[f'column "{name}" is required, this row does not have it'] = name
        values = [None if value is _MISSING else value for value in values]
    elif not column.nullable and any(value is None for value in values):
        problems[f'column "{name}" is required, this row has nothing in it'] = name
    if column.repeated:
        return _encode_lists(column, values, name, wire, problems)
    return _encode_values(column, values, name, wire, problems)


def _encode_lists(column: Column, values: list[Any], name: str, wire: Wire, problems: Problems) -> list[Any]:
    """All items of all lists are encoded as one column, then dealt out again."""
    lists: list[list[Any] | None] = []
    for value in values:
        if value is None or isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
            if value is not None:
                problems[_mismatch(column, name, value)] = name
            lists.append(None)
        else:
            lists.append(list(value))
    items = [item for items in lists if items is not None for item in items]
    if any(item is None for item in items):
        problems[f'column "{name}" holds {in_words(column)}, this row has nothing at a place of its list'] = name
    encoded = iter(_encode_values(column, items, name, wire, problems, listed=True))
    return [None if items is None else [next(encoded) for _ in items] for items in lists]


def _encode_values(
    column: Column, values: list[Any], name: str, wire: Wire, problems: Problems, *, listed: bool = False
) -> list[Any]:
    if column.kind == "json":
        texts = [None if v is None else _json(v, name, problems) for v in values]
        return texts if wire.json_as_text else [None if v is None else json.loads(v) for v in texts]
    if column.kind == "record":
        present = [v for v in values if v is not None]
        names = [f.name for f in column.fields]
        columns = _encode_records(column.fields, present, f"{name}.", wire.inner or wire, problems)
        records = iter([dict(zip(names, vs, strict=True)) for vs in zip(*columns, strict=True)])
        return [None if v is None else next(records) for v in values]
    native = _NATIVE[column.kind]
    if not set(map(type, values)) <= {native, _NO_TYPE}:
        values = [v if v is None or type(v) is native else _coerce(column, v, name, problems) for v in values]
    if column.kind == "integer":
        return _in_range(values, name, problems)
    if column.kind == "bytes":
        write_bytes = wire.listed_bytes if listed else wire.plain_bytes
        return [None if v is None else write_bytes(v) for v in values]
    if column.kind == "time" and any(v is not None and v.tzinfo is not None for v in values):
        problems[f'column "{name}" holds times of day without a time zone, this row has one with it'] = name
    write = _WRITE.get(column.kind)
    return values if write is None else [None if v is None else write(v) for v in values]


def _in_range(values: list[Any], name: str, problems: Problems) -> list[Any]:
    present = [v for v in values if v is not None]
    if present and (min(present) < _MIN or max(present) > _MAX):
        problems[f'column "{name}" holds integers of 64 bits, this row has a larger one'] = name
    return values


def _json(value: Any, name: str, problems: Problems) -> str | None:
    from pydantic_core import PydanticSerializationError, to_jsonable_python

    try:
        return json.dumps(to_jsonable_python(value), allow_nan=False, ensure_ascii=False)
    except (PydanticSerializationError, ValueError, RecursionError) as exc:
        reason = str(exc).split("\n", 1)[0]
        problems[f'column "{name}" holds JSON, this row has what is none ({reason})'] = name
        return None


# Values of other types that mean the same: numpy's numbers, enum members, ISO text for a time, ...


def _coerce(column: Column, value: Any, name: str, problems: Problems) -> Any:
    if isinstance(value, Enum):
        value = value.value
    elif hasattr(value, "dtype") and hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        value = value.item()
    if type(value) is _NATIVE[column.kind]:
        return value
    try:
        return _COERCE[column.kind](value)
    except (TypeError, ValueError, OverflowError):
        problems[_mismatch(column, name, value)] = name
        return None


def _mismatch(column: Column, name: str, value: Any) -> str:
    return f'column "{name}" holds {in_words(column)}, this row has {describe(value)}'


def _only(*types: type, into: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def coerce(value: Any) -> Any:
        if not isinstance(value, types):
            raise TypeError
        return into(value)

    return coerce


def _to_integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError
    return int(value)


def _to_float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real | Decimal):
        raise TypeError
    return float(value)


def _to_date(value: Any) -> date:
    if isinstance(value, str):
        return date.fromisoformat(value)
    raise TypeError


_NATIVE: dict[str, type] = {
    "string": str,
    "integer": int,
    "float": float,
    "boolean": bool,
    "bytes": bytes,
    "timestamp": datetime,
    "date": date,
    "time": time,
}
_COERCE: dict[str, Callable[[Any], Any]] = {
    "string": _only(str, UUID, PurePath, into=str),
    "integer": _to_integer,
    "float": _to_float,
    "boolean": _only(into=bool),
    "bytes": _only(bytes, bytearray, memoryview, into=bytes),
    "timestamp": lambda v: v if isinstance(v, datetime) else datetime.fromisoformat(v),
    "date": _to_date,
    "time": lambda v: v if isinstance(v, time) else time.fromisoformat(v),
}


def _float(value: float) -> float | str:
    return value if isfinite(value) else str(value)  # JSON has no nan; DuckDB reads it from text


def _escaped(value: bytes) -> str:
    r"""As DuckDB's text for a BLOB: `\x00\xff`."""
    return "\\x" + value.hex(" ").replace(" ", "\\x") if value else ""


def base64_text(value: bytes) -> str:
    return base64.b64encode(value).decode()


_DUCKDB = Wire(base64_text, _escaped, inner=Wire(_escaped, _escaped))

_WRITE: dict[str, Callable[[Any], Any]] = {
    "float": _float,
    "timestamp": utc_text,
    "date": date.isoformat,
    "time": time.isoformat,
}


def describe(value: Any) -> str:
    """A value's type in the user's words."""
    if hasattr(value, "_asdict"):
        return f"a record ({type(value).__name__})"
    for kind, word in _DESCRIPTIONS:
        if isinstance(value, kind):
            return word
    return f"a {type(value).__name__}"


_DESCRIPTIONS: tuple[tuple[type, str], ...] = (
    (_NO_TYPE, "nothing"),
    (bool, "true or false"),
    (str, "text"),
    (Integral, "an integer"),
    (Real, "a number"),
    (Decimal, "a number"),
    (bytes, "bytes"),
    (datetime, "a timestamp"),
    (date, "a date"),
    (time, "a time of day"),
    (Mapping, "a mapping"),
    (list, "a list"),
    (tuple, "a list"),
)
