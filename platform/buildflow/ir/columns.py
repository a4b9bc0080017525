"""A table's columns as portable values; each store maps the kinds to its own types."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Kind = Literal["string", "integer", "float", "boolean", "bytes", "timestamp", "date", "time", "json", "record"]


class Column(BaseModel):
    """One column: `kind`, whether it may be null, whether it repeats, a record's inner columns.

    `default` is what rows written before the column existed read as; `has_default` tells it from null.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Kind
    nullable: bool = False
    repeated: bool = False
    fields: tuple["Column", ...] = ()
    has_default: bool = False
    default: Any = None
