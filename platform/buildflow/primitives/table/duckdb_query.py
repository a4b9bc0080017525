"""Reading a DuckDB file with any SELECT, as Python values.

Two guards make it reading only, also on the connection of a process that writes: the statement must be one
SELECT, and it runs in a read-only transaction (since DuckDB 2.0 a SELECT may hold an INSERT in its WITH).
"""

import json
from collections.abc import Callable, Sequence
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildflow.errors import BuildflowError
from buildflow.interrupts import whole
from buildflow.primitives.table.duckdb_columns import quote
from buildflow.primitives.table.duckdb_file import database

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Connection
    from duckdb.sqltypes import DuckDBPyType as Type
else:
    Connection = Type = Any

Decode = Callable[[Any], Any]
_ZONED = "TIMESTAMP WITH TIME ZONE"


@whole()
def query(path: Path, sql: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
    """The rows of one SELECT. Zoned timestamps come as aware datetimes in UTC, JSON as values, records as
    mappings. Raises `BuildflowError` with DuckDB's words for SQL that it refuses."""
    import duckdb

    _require_select(sql)
    with database(path).reading() as connection:
        connection.execute("BEGIN TRANSACTION READ ONLY")
        try:
            return _fetch(connection, sql, list(parameters))
        except duckdb.Error as exc:
            raise BuildflowError(f"DuckDB refuses this query: {exc}") from exc
        finally:
            connection.execute("ROLLBACK")


def _require_select(sql: str) -> None:
    import duckdb

    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as exc:
        raise BuildflowError(f"DuckDB refuses this query: {exc}") from exc
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise BuildflowError("a query is one SELECT: it reads only")


def _fetch(connection: Connection, sql: str, parameters: list[Any]) -> list[dict[str, Any]]:
    """Runs `sql` as it is unless a column holds zoned timestamps, which DuckDB hands out only through pytz:
    those are asked for as UTC without a zone, and get it back here."""
    result = connection.execute(sql, parameters)
    names = _unique([column[0] for column in result.description])
    types: list[Type] = [column[1] for column in result.description]
    if any(_ZONED in str(kind) for kind in types):
        result = connection.execute(_without_zones(sql, types), parameters)
    decoders = [_decoder(kind) for kind in types]
    rows = result.fetchall()
    for index, decode in enumerate(decoders):
        if decode is not None:
            rows = [(*row[:index], decode(row[index]), *row[index + 1 :]) for row in rows]
    return [dict(zip(names, row, strict=True)) for row in rows]


def _without_zones(sql: str, types: Sequence[Type]) -> str:
    columns = [f"c{i}" for i in range(len(types))]
    values = [f"CAST({c} AS {_plain(t)})" if _ZONED in str(t) else c for c, t in zip(columns, types, strict=True)]
    return f"SELECT {', '.join(values)} FROM (\n{sql.rstrip().rstrip(';')}\n) AS q({', '.join(columns)})"


def _children(kind: Type) -> dict[str, Any]:
    """A nested type's parts: a list has `child`, a map `key` and `value`, an array `child` and `size`."""
    return dict(kind.children)


def _plain(kind: Type) -> str:
    """The type with its zoned timestamps as plain ones."""
    if kind.id == "list":
        return _plain(_children(kind)["child"]) + "[]"
    if kind.id == "array":
        return f"{_plain(_children(kind)['child'])}[{_children(kind)['size']}]"
    if kind.id == "struct":
        return f"STRUCT({', '.join(f'{quote(n)} {_plain(t)}' for n, t in _children(kind).items())})"
    if kind.id == "map":
        return f"MAP({_plain(_children(kind)['key'])}, {_plain(_children(kind)['value'])})"
    return "TIMESTAMP" if str(kind) == _ZONED else str(kind)


def _decoder(kind: Type) -> Decode | None:
    """What turns DuckDB's Python value into ours; None when it is the same."""
    decode = _inner_decoder(kind)
    return None if decode is None else lambda value: None if value is None else decode(value)


def _inner_decoder(kind: Type) -> Decode | None:
    if str(kind) == "JSON":
        return json.loads
    if str(kind) == _ZONED:
        return lambda value: value.replace(tzinfo=UTC)
    if kind.id in ("list", "array"):
        item = _decoder(_children(kind)["child"])
        return None if item is None else lambda value: [item(v) for v in value]
    if kind.id == "struct":
        fields = {name: d for name, t in _children(kind).items() if (d := _decoder(t)) is not None}
        return None if not fields else lambda value: value | {n: d(value[n]) for n, d in fields.items()}
    if kind.id == "map":
        to_value = _decoder(_children(kind)["value"])
        return None if to_value is None else lambda value: {k: to_value(v) for k, v in value.items()}
    return None


def _unique(names: Sequence[str]) -> list[str]:
    """Names of result columns; a second `id` becomes `id_1`, or a mapping would lose it."""
    taken: dict[str, None] = {}
    for name in names:
        candidate, number = name, 0
        while candidate in taken:
            number += 1
            candidate = f"{name}_{number}"
        taken[candidate] = None
    return list(taken)
