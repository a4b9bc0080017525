"""Rows as lines that can be kept as they come, and the file that such lines become.

A line is one row as JSON: as `RowEncoder` writes it where the columns are declared, as a message would hold it
where they are not.
"""

import atexit
import csv
import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from buildflow.errors import InvalidRow, ResourceFailed, ServiceUnavailable
from buildflow.ir.columns import Column
from buildflow.primitives.rows import RowEncoder, describe
from buildflow.primitives.table.duckdb_columns import duckdb_type, quote, text

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Connection
else:
    Connection = Any

Format = Literal["json", "jsonl", "csv", "parquet"]
_LINE = 1 << 20
"""Bytes of a line that DuckDB makes room for at least; its own default takes longer to make than a small file."""

_OPTIONS = {
    "json": "FORMAT json",
    "jsonl": "FORMAT json",
    "csv": "FORMAT csv, HEADER",
    "parquet": "FORMAT parquet",
}


class RowFormat:
    """The rows of one `owner`, in words (`bucket "orders"`), in one format. Parquet needs columns."""

    def __init__(self, owner: str, format: Format, columns: Sequence[Column]) -> None:
        self.format = format
        self.columns = tuple(columns)
        self.as_it_is = format in ("json", "jsonl") and not columns
        """Whether the lines are the file."""
        self._encoder = RowEncoder(owner, columns) if columns else None

    def lines(self, rows: Sequence[Any]) -> bytes:
        """The rows, a line each. Raises `InvalidRow`, in words, when one does not fit."""
        if self._encoder is not None:
            texts = self._encoder.encode([[row] for row in rows])
            return "".join([f"{line}\n" for line in texts]).encode()
        return b"".join([self._line(row) + b"\n" for row in rows])

    def _line(self, row: Any) -> bytes:
        line = json_text(row)
        if self.format == "csv" and not line.startswith(b"{"):
            raise InvalidRow(f"a line of CSV is a mapping or a record, this is {describe(row)}")
        return line

    def convert(self, conversions: Sequence["Conversion"], scratch: Path) -> None:
        """Write the files that lines become, unless they are so `as_it_is`. What does not fit into memory goes below
        `scratch`."""
        if not self.columns:
            for conversion in conversions:
                _write_csv(conversion.lines, conversion.target)
            return
        import duckdb

        with _duckdb(scratch) as connection:
            for conversion in conversions:
                target = text(str(conversion.target))
                options = f"({_OPTIONS[self.format]}, USE_TMP_FILE false)"
                try:
                    connection.execute(f"COPY ({self._select(conversion)}) TO {target} {options}")
                except duckdb.Error as exc:
                    raise ResourceFailed(f"DuckDB cannot write {conversion.target}: {exc}") from exc

    def _select(self, conversion: "Conversion") -> str:
        keyed = [(f"r.c{index}", column) for index, column in enumerate(self.columns)]
        wire = ", ".join(f"c{index}: {text(duckdb_type(_wire(column)))}" for index, column in enumerate(self.columns))
        values = ", ".join(f"{self._value(key, column)} AS {quote(column.name)}" for key, column in keyed)
        return (
            f"SELECT {values} FROM read_json({text(str(conversion.lines))}, format='newline_delimited', "
            f"columns={{{wire}}}, maximum_object_size={max(conversion.longest, _LINE)}) AS r"
        )

    def _value(self, value: str, column: Column) -> str:
        if self.format == "parquet":
            return _typed(value, column)
        if self.format == "csv" and (column.repeated or column.kind == "record"):
            return f"to_json({_plain(value, column)})"
        if self.format == "csv" and column.kind == "float":
            return value
        return _plain(value, column)


class Conversion(NamedTuple):
    """A file of lines, the file to be made of them, and what no line is longer than, in bytes."""

    lines: Path
    target: Path
    longest: int


@contextmanager
def _duckdb(scratch: Path) -> Iterator[Connection]:
    """A DuckDB of its own, one at a time. A fork waits for its end, since DuckDB's threads would not come along."""
    import duckdb

    with _one_at_a_time:
        if _ending.is_set():
            raise ServiceUnavailable("this process is about to end")
        connection = duckdb.connect(":memory:", config={"temp_directory": str(scratch / "duckdb.tmp"), "threads": 1})
        try:
            connection.execute("SET TimeZone = 'UTC'")
            yield connection
        finally:
            connection.close()


def json_text(row: Any) -> bytes:
    """A row as JSON. Raises `InvalidRow`, in words, for one that is none."""
    from buildflow.primitives.messages import encode  # `check` names files, and writes none

    if isinstance(row, bytes | bytearray | memoryview):
        raise InvalidRow("JSON holds no bytes")
    try:
        return json.dumps(row, ensure_ascii=False).encode() if isinstance(row, str) else encode(row)
    except UnicodeEncodeError as exc:
        raise InvalidRow(f"text holds what is no Unicode character: {exc}") from exc


# Columns: what a line holds, and what a file is to hold. Lines have JSON's own types, and text for all others:
# bytes of a column as base64, bytes inside records and lists as DuckDB's \x00\xff.

_NATIVE = ("integer", "float", "boolean")


def _wire(column: Column) -> Column:
    """The column as a line holds it."""
    if column.kind == "record":
        return column.model_copy(update={"fields": tuple(map(_wire, column.fields))})
    return column if column.kind in _NATIVE else column.model_copy(update={"kind": "string"})


def _typed(value: str, column: Column) -> str:
    """A line's value as the column's own type."""
    if column.kind == "bytes" and not column.repeated:
        return f"from_base64({value})"
    return f"CAST({value} AS {duckdb_type(column)})"


def _plain(value: str, column: Column, depth: int = 0) -> str:
    """A line's value as programs without types read it: times as ISO 8601, bytes as base64, JSON unfolded, and
    what is no number (nan, inf), of which JSON has none, as text."""
    if column.repeated:
        item = f"x{depth}"
        one = column.model_copy(update={"repeated": False})
        return f"list_transform({value}, lambda {item}: {_plain(item, one, depth + 1)})"
    if column.kind == "record":
        fields = ", ".join(
            f"{quote(f.name)} := {_plain(f'{value}.{quote(f.name)}', f, depth + 1)}" for f in column.fields
        )
        return f"CASE WHEN {value} IS NOT NULL THEN struct_pack({fields}) END"
    if column.kind == "bytes" and depth:
        return f"to_base64(CAST({value} AS BLOB))"
    if column.kind == "json":
        return f"CAST({value} AS JSON)"
    if column.kind == "float":
        return f"CASE WHEN isfinite({value}) THEN to_json({value}) ELSE to_json(CAST({value} AS VARCHAR)) END"
    return value


def _write_csv(lines: Path, target: Path) -> None:
    """Records without columns: a cell for every name that one of them has, in the order of discovery."""
    with open(lines, encoding="utf-8") as records:
        names = list(dict.fromkeys(name for record in records for name in json.loads(record)))
    with open(lines, encoding="utf-8") as records, open(target, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for record in map(json.loads, records):
            writer.writerow([_cell(record.get(name)) for name in names])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


_one_at_a_time = threading.Lock()
_ending = threading.Event()


def _at_exit() -> None:
    """Let a conversion end: a thread that returns from DuckDB into a finished interpreter aborts it."""
    _ending.set()
    if _one_at_a_time.acquire(timeout=2.0):
        _one_at_a_time.release()


os.register_at_fork(
    before=lambda: _one_at_a_time.acquire() and None,
    after_in_parent=_one_at_a_time.release,
    after_in_child=_one_at_a_time.release,
)
atexit.register(_at_exit)
