"""`platform query`: what a table holds, also while the app runs."""

import csv
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from buildflow.cli.project import (
    Choice,
    FileOption,
    JsonOption,
    SetOption,
    StackOption,
    connected,
    correct,
    need_applied,
    refuse_two_formats,
)
from buildflow.cli.terminal import put_json, say, table
from buildflow.compiler import DEFAULT_FILE
from buildflow.diagnostics import did_you_mean
from buildflow.errors import UnknownName
from buildflow.ir.graph import Resource
from buildflow.primitives.registry import all_primitives


class Format(StrEnum):
    table = "table"
    json = "json"
    csv = "csv"


def query(
    name: Annotated[str, typer.Argument(metavar="TABLE", help="The table, or the database, by its key.")],
    sql: Annotated[str | None, typer.Option("--sql", help="A SELECT instead of all rows.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=0, help="Rows at most.")] = None,
    file: FileOption = Path(DEFAULT_FILE),
    stack: StackOption = None,
    values: SetOption = None,
    format: Annotated[
        Format | None, typer.Option("--format", help="How to print the rows.", show_default="table")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print a table's rows: as a table, as JSON (a list of rows) or as CSV. Reading only."""
    refuse_two_formats(as_json, format)
    choice = Choice(file, stack, values)
    result = correct(choice, as_json=as_json)
    handles = {r.key: all_primitives()[r.type].handle for r in result.plan.resources}
    tables = [key for key, handle in handles.items() if handle in _READ]
    if name not in tables:
        raise UnknownName(f'there is no table "{name}"', hint=did_you_mean(name, tables))
    need_applied(result, choice, name)
    with connected(result) as connections:
        handle = connections.handle(name)
        if handles[name] == "buildflow.types.Database":
            rows = handle.read(sql or _all_rows(result.plan.resource(name)))
        else:
            rows = handle.query(sql) if sql else handle.rows(limit=limit)
    rows = rows[:limit] if limit is not None else rows
    if as_json or format is Format.json:
        put_json([{k: _json(v) for k, v in row.items()} for row in rows])
    elif format is Format.csv:
        _csv(rows)
    else:
        if rows:
            table(rows)
        say(f"{len(rows)} row{'' if len(rows) == 1 else 's'}")


_READ = ("buildflow.types.Table", "buildflow.types.Database")


def _all_rows(database: Resource) -> str:
    """The statement for what a database has as a sink. Raises `BadParameter` for one that is none."""
    if not (table := database.spec.get("table")):
        raise typer.BadParameter(f'"{database.key}" is a database without `table:`', param_hint="--sql")
    return f'SELECT * FROM "{table}"'


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _json(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_json(v) for v in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value.isoformat() if hasattr(value, "isoformat") else value


def _csv(rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    writer = csv.writer(sys.stdout)
    writer.writerow(rows[0])
    for row in rows:
        values = (_json(v) for v in row.values())
        writer.writerow([json.dumps(v) if isinstance(v, list | dict) else v for v in values])
