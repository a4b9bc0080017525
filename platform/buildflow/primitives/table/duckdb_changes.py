"""What new columns mean for a table that exists: which change, and what of people's data it would lose."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from buildflow.ir.columns import Column
from buildflow.primitives.table.duckdb_columns import (
    definition,
    duckdb_type,
    in_words,
    literal,
    quote,
    same_name,
    text,
)


@dataclass(frozen=True)
class ColumnChange:
    """One difference. `words` is its line in the plan; `loses` what goes with it, "" for nothing; `replaces`
    says why no row can stay, "" when they can."""

    words: str
    loses: str = ""
    replaces: str = ""


def differences(old: Sequence[Column], new: Sequence[Column], prefix: str = "") -> Iterator[ColumnChange]:
    """Every difference of two sets of columns (or of a record's fields), by name; order does not matter."""
    thing = "field" if prefix else "column"
    for column in old:
        if same_name(new, column.name) is None:
            path = prefix + column.name
            yield ColumnChange(f"columns.{path}: removed", f'{thing} "{path}" ({in_words(column)}) and its values')
    for column in new:
        before, path = same_name(old, column.name), prefix + column.name
        if before is not None:
            yield from _difference(before, column, path, thing)
        elif column.nullable or column.has_default:
            yield ColumnChange(f"columns.{path}: added")
        else:
            yield ColumnChange(f"columns.{path}: added", replaces=f'{thing} "{path}" is required and has no default')


def _difference(old: Column, new: Column, path: str, thing: str) -> Iterator[ColumnChange]:
    if converts(old, new):
        if old.kind != new.kind:
            yield ColumnChange(f"columns.{path}: {in_words(old)} -> {in_words(new)}")
        yield from _nullability(old, new, path, thing)
        yield from differences(old.fields, new.fields, f"{path}.")
        if (old.has_default, old.default) != (new.has_default, new.default):
            yield ColumnChange(f"columns.{path}: default changed")
        return
    words = f"columns.{path}: {in_words(old)} -> {in_words(new)}"
    lost = f'the values of {thing} "{path}" ({in_words(old)}), which is to hold {in_words(new)}'
    if new.nullable or new.has_default:
        yield ColumnChange(words, lost)
    else:
        yield ColumnChange(words, replaces=f"{lost}, is required and has no default")


def _nullability(old: Column, new: Column, path: str, thing: str) -> Iterator[ColumnChange]:
    if old.nullable == new.nullable:
        return
    if new.nullable:
        yield ColumnChange(f"columns.{path}: may be empty now")
    elif new.has_default:
        yield ColumnChange(f"columns.{path}: required now, empty values become its default")
    elif thing == "column":
        yield ColumnChange(f"columns.{path}: required now", f'every row whose column "{path}" is empty')
    else:
        yield ColumnChange(
            f"columns.{path}: required now", replaces=f'field "{path}" becomes required and has no default'
        )


def converts(old: Column, new: Column) -> bool:
    """Whether each old value is a new value, if perhaps written differently."""
    same = old.kind == new.kind or (old.kind, new.kind) == ("integer", "float")
    return same and old.repeated == new.repeated


def alter_statements(table: str, old: Sequence[Column], new: Sequence[Column]) -> list[str]:
    """Bring a table (quoted name) from old to new columns, in one transaction.

    Columns that may be empty are added in place, at once. Anything else builds the table anew from itself: one
    way for nested fields, types and constraints, which ALTER TABLE covers in part, not in one transaction with
    the values that they need, and differently in each version.
    """
    added = [c for c in new if same_name(old, c.name) is None]
    if all(same_name(new, c.name) == c for c in old) and all(c.nullable for c in added):
        return [_add(table, column) for column in added]
    if [_without_default(c) for c in old] == [_without_default(c) for c in new]:
        return [_set_default(table, c) for c in new if same_name(old, c.name) != c]
    return _rebuild(table, old, new)


def _add(table: str, column: Column) -> str:
    default = f" DEFAULT {literal(column)}" if column.has_default and column.default is not None else ""
    return f"ALTER TABLE {table} ADD COLUMN {quote(column.name)} {duckdb_type(column)}{default}"


def _without_default(column: Column) -> Column:
    return column.model_copy(update={"has_default": False, "default": None})


def _set_default(table: str, column: Column) -> str:
    has = column.has_default and column.default is not None
    change = f"SET DEFAULT {literal(column)}" if has else "DROP DEFAULT"
    return f"ALTER TABLE {table} ALTER COLUMN {quote(column.name)} {change}"


def _rebuild(table: str, old: Sequence[Column], new: Sequence[Column]) -> list[str]:
    schema, name = split_name(table)
    temporary = f"{schema}.{quote('_buildflow_new')}"
    values = ", ".join(
        f"CAST({_converted(same_name(old, c.name), c, f't.{quote(c.name)}')} AS {duckdb_type(c)})" for c in new
    )
    kept = " AND ".join(
        f"t.{quote(c.name)} IS NOT NULL"
        for c in new
        if not c.nullable and not c.has_default and (before := same_name(old, c.name)) and before.nullable
    )
    return [
        f"CREATE TABLE {temporary} ({', '.join(map(definition, new))})",
        f"INSERT INTO {temporary} SELECT {values} FROM {table} AS t" + (f" WHERE {kept}" if kept else ""),
        f"DROP TABLE {table}",
        f"ALTER TABLE {temporary} RENAME TO {name}",
    ]


def split_name(table: str) -> tuple[str, str]:
    """The quoted schema and the quoted name of `"schema"."name"`."""
    schema, name = table.split('"."', 1)
    return schema + '"', '"' + name


def _converted(old: Column | None, new: Column, value: str, depth: int = 0) -> str:
    """An old value as SQL for the new column: its default where there is none that fits."""
    default = literal(new) if new.has_default else "NULL"
    if old is None or not converts(old, new):
        return default
    if new.kind == "record" and old.fields != new.fields:
        value = _each_record(value, new.repeated, depth, lambda v, d: _fields(old, new, v, d))
    return f"coalesce({value}, {default})" if old.nullable and not new.nullable and new.has_default else value


def _each_record(value: str, repeated: bool, depth: int, convert: Callable[[str, int], str]) -> str:
    if not repeated:
        return f"CASE WHEN {value} IS NULL THEN NULL ELSE {convert(value, depth)} END"
    item = f"item{depth}"
    return f"list_transform({value}, lambda {item}: {convert(item, depth + 1)})"


def _fields(old: Column, new: Column, value: str, depth: int) -> str:
    parts = []
    for field in new.fields:
        inner = f"struct_extract({value}, {text(field.name)})"
        converted = _converted(same_name(old.fields, field.name), field, inner, depth)
        parts.append(f"{text(field.name)}: CAST({converted} AS {duckdb_type(field)})")
    return f"{{{', '.join(parts)}}}"
