"""A handler as data: what a function takes and gives, read from source or from the real object.

The compiler reads source with griffe, a process reads what it imported; the one checker in `binding` sees
only these values.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from buildflow.diagnostics import Span

ShapeKind = Literal[
    "unknown",  # nothing can be said; nothing is claimed
    "none",
    "string",
    "integer",
    "float",
    "boolean",
    "bytes",
    "timestamp",
    "date",
    "time",
    "mapping",  # a dict, or anything JSON
    "record",
    "list",  # also tuple[T, ...], set, Iterator, Generator: many of `item`
    "union",
    "named",  # a class whose fields are not known, by its dotted name
]


class Place(BaseModel):
    """A place in a source file."""

    model_config = ConfigDict(frozen=True)

    file: str
    line: int = 1
    column: int = 1

    def span(self, length: int = 1) -> Span:
        return Span(self.file, self.line, self.column, self.line, self.column + length)


class ShapeField(BaseModel):
    """One field of a record."""

    model_config = ConfigDict(frozen=True)

    name: str
    shape: "Shape"
    required: bool = True
    has_constant: bool = False
    constant: str | int | float | bool | None = None
    place: Place | None = None


class Shape(BaseModel):
    """A type as data. `name` is its dotted name where it has one; `text` is how the user wrote it."""

    model_config = ConfigDict(frozen=True)

    kind: ShapeKind
    name: str = ""
    text: str = ""
    nullable: bool = False
    item: "Shape | None" = None
    options: tuple["Shape", ...] = ()
    fields: tuple[ShapeField, ...] = ()
    place: Place | None = None


UNKNOWN = Shape(kind="unknown")


class Parameter(BaseModel):
    """One parameter. `annotated` is False where nothing is written; `variadic` for `*args` and `**kwargs`."""

    model_config = ConfigDict(frozen=True)

    name: str
    shape: Shape = UNKNOWN
    annotated: bool = False
    required: bool = True
    variadic: bool = False
    marker: str = ""
    place: Place


class Signature(BaseModel):
    """A function, or a class as its constructor."""

    model_config = ConfigDict(frozen=True)

    name: str
    """As `package.module:function`."""
    parameters: tuple[Parameter, ...] = ()
    returns: Shape = UNKNOWN
    is_async: bool = False
    is_generator: bool = False
    place: Place
