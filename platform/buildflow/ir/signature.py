"""A handler as data: what a function takes and gives, read from source or from the real object.

The compiler reads source with `ast`, a process reads what it imported; the one checker in `binding` sees only
these values. They are plain dataclasses because a large project makes tens of thousands of them.
"""

import re
from dataclasses import dataclass, replace
from typing import Any, Literal

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
    "list",  # also tuple, set, Iterator, Generator: many of `item`
    "union",
    "named",  # a class whose fields are not known, by its dotted name
]


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a source file."""

    file: str
    line: int = 1
    column: int = 1

    def span(self, length: int = 1) -> Span:
        return Span(self.file, self.line, self.column, self.line, self.column + length)


@dataclass(frozen=True, slots=True)
class ShapeField:
    """One field of a record. `required` is False where it has a default, or may be missing; `init` is False where
    the constructor does not take it."""

    name: str
    shape: "Shape"
    required: bool = True
    has_constant: bool = False
    constant: str | int | float | bool | None = None
    place: Place | None = None
    init: bool = True


@dataclass(frozen=True, slots=True)
class Shape:
    """A type as data. `name` is its dotted name where it has one; `text` is how the user wrote it; `is_plain` says
    that it is a class of the project's own as which surely nothing can be read, neither a request nor JSON."""

    kind: ShapeKind
    name: str = ""
    text: str = ""
    nullable: bool = False
    item: "Shape | None" = None
    options: tuple["Shape", ...] = ()
    fields: tuple[ShapeField, ...] = ()
    place: Place | None = None
    is_plain: bool = False

    @property
    def is_batch(self) -> bool:
        """Whether an element of this type is a batch: `list[T]` alone is. A tuple or a set is an element that is
        one."""
        return self.kind == "list" and re.match(r"(\w+\.)*[Ll]ist\[", self.text) is not None

    def replace(self, **changes: Any) -> "Shape":
        """The same with some fields changed."""
        return replace(self, **changes)

    def model_copy(self, *, update: dict[str, Any]) -> "Shape":
        """The former name of `replace`."""
        return replace(self, **update)


UNKNOWN = Shape(kind="unknown")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter. `annotated` is False where nothing is written; `variadic` for `*args` and `**kwargs`;
    `positional_only` where it cannot be given by name.

    `marker` is FastAPI's word for where it comes from, in lower case ("path", "query", "header", "cookie", "body",
    "form", "file", "depends", "security"), "" where none is written.
    """

    name: str
    place: Place
    shape: Shape = UNKNOWN
    annotated: bool = False
    required: bool = True
    variadic: bool = False
    positional_only: bool = False
    marker: str = ""


@dataclass(frozen=True, slots=True)
class Signature:
    """A function, or a class as its constructor."""

    name: str
    """As `package.module:function`."""
    place: Place
    parameters: tuple[Parameter, ...] = ()
    returns: Shape = UNKNOWN
    is_async: bool = False
    is_generator: bool = False


def anything(name: str, place: Place) -> Signature:
    """What cannot be read takes anything and gives anything."""
    rest = Parameter(name="arguments", place=place, required=False, variadic=True)
    return Signature(name, place, (rest,))
