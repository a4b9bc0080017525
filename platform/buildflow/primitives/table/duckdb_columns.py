"""Columns as DuckDB's types, literals and names.

A timestamp is a TIMESTAMPTZ: an instant, so that `now()` compares with it rightly whatever the time zone of
the reader (the duckdb shell takes the machine's). Its instances here run in UTC.
"""

import base64
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from buildflow.ir.column_types import COLUMN_TYPES
from buildflow.ir.columns import Column

WORDS = {
    "string": "text",
    "integer": "integers",
    "float": "numbers",
    "boolean": "true or false",
    "bytes": "bytes",
    "timestamp": "timestamps",
    "date": "dates",
    "time": "times of day",
    "json": "JSON",
    "record": "records",
}
# what DuckDB 2.0 refuses as a bare table name (`duckdb_keywords()`, category "reserved")
_RESERVED = """
    all analyse analyze and any array as asc asymmetric at both case cast check collate column constraint
    create default deferrable desc describe distinct do else end except false fetch for foreign from group
    having in initially intersect into lambda lateral leading limit not null offset on only or order pivot
    pivot_longer pivot_wider placing primary qualify references returning select show some summarize
    symmetric table then to trailing true union unique unpivot using variadic when where window with
"""


def quote(name: str) -> str:
    """An identifier."""
    return '"' + name.replace('"', '""') + '"'


def readable(name: str) -> str:
    """An identifier as a user would write it: quoted only when it must be."""
    return name if re.fullmatch(r"[A-Za-z_]\w*", name, re.A) and name.lower() not in _RESERVED.split() else quote(name)


def text(value: str) -> str:
    """A text literal; DuckDB's parser takes no NUL."""
    return " || chr(0) || ".join("'" + part.replace("'", "''") + "'" for part in value.split("\0"))


def utc_text(value: datetime | str) -> str:
    """A timestamp as ISO 8601 in UTC; one without a zone is UTC already."""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    if moment.tzinfo is None:
        return moment.isoformat() + "+00:00"
    return moment.astimezone(UTC).isoformat()


def duckdb_type(column: Column) -> str:
    inner = (
        f"STRUCT({', '.join(f'{quote(f.name)} {duckdb_type(f)}' for f in column.fields)})"
        if column.kind == "record"
        else COLUMN_TYPES[column.kind].duckdb
    )
    return inner + "[]" * column.repeated


def in_words(column: Column) -> str:
    """What the column holds, as a user would say it."""
    return ("lists of " if column.repeated else "") + WORDS[column.kind]


def definition(column: Column) -> str:
    """The column in CREATE TABLE."""
    parts = [quote(column.name), duckdb_type(column)]
    if column.has_default and column.default is not None:
        parts.append(f"DEFAULT {literal(column)}")
    if not column.nullable:
        parts.append("NOT NULL")
    return " ".join(parts)


def literal(column: Column) -> str:
    """The column's default as SQL."""
    return f"CAST({_literal(column, column.default)} AS {duckdb_type(column)})"


def _literal(column: Column, value: Any) -> str:
    if value is None:
        return "NULL"
    if column.repeated:
        one = column.model_copy(update={"repeated": False})
        return f"[{', '.join(_literal(one, item) for item in value)}]"
    if column.kind == "record":
        return f"{{{', '.join(f'{text(f.name)}: {_literal(f, value.get(f.name))}' for f in column.fields)}}}"
    if column.kind == "json":
        return text(json.dumps(value))
    if column.kind == "boolean":
        return "true" if value else "false"
    if column.kind == "bytes":
        raw = value.encode() if isinstance(value, str) else bytes(value)
        return f"from_base64('{base64.b64encode(raw).decode()}')"
    if column.kind == "timestamp":
        return text(utc_text(value))
    return text(str(value))


def same_name(columns: Sequence[Column], name: str) -> Column | None:
    """The column of that name."""
    return next((column for column in columns if column.name == name), None)
