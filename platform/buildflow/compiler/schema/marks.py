"""What stands beside an annotation, as keywords: bounds, lengths, patterns."""

from collections.abc import Iterable, Iterator
from typing import Any

from annotated_types import Ge, GroupedMetadata, Gt, Le, Lt, MaxLen, MinLen
from pydantic.fields import FieldInfo

from buildflow.compiler.schema.texts import Schema, only_interpolated, text_like
from buildflow.primitives.base import ColumnsReference, MessageReference
from buildflow.spec.project import HANDLER
from buildflow.spec.values import SecretMark

Marks = tuple[Any, ...]


def flat(marks: Iterable[Any]) -> Iterator[Any]:
    """`Annotated[int, Field(gt=0)]` keeps its bounds inside the Field, `StringConstraints` inside itself."""
    for mark in marks:
        inner = mark.metadata if isinstance(mark, FieldInfo) else mark if isinstance(mark, GroupedMetadata) else None
        yield from (mark,) if inner is None else flat(inner)


def bounds(marks: Marks, *, whole: bool) -> Schema:
    """The least and the most; of whole numbers the numbers themselves, which reads better than "above 0"."""
    result: Schema = {}
    for mark in marks:
        limit: Any = next((getattr(mark, name) for name in ("ge", "gt", "le", "lt") if hasattr(mark, name)), None)
        if isinstance(mark, Ge | Le):
            result["minimum" if isinstance(mark, Ge) else "maximum"] = limit
        elif isinstance(mark, Gt):
            result |= {"minimum": limit + 1} if whole else {"exclusiveMinimum": limit}
        elif isinstance(mark, Lt):
            result |= {"maximum": limit - 1} if whole else {"exclusiveMaximum": limit}
    return result


def lengths(marks: Marks, least: str, most: str) -> Schema:
    result: Schema = {}
    for mark in marks:
        if isinstance(mark, MinLen):
            result[least] = mark.min_length
        elif isinstance(mark, MaxLen):
            result[most] = mark.max_length
    return result


def likeness(marks: Marks) -> Schema:
    """What a text has to look like, if not just any will do."""
    for mark in marks:
        if isinstance(mark, ColumnsReference | MessageReference):
            return text_like(HANDLER, "Write `package.module:Class`.")
        if isinstance(mark, SecretMark):
            return only_interpolated("Write `${secret.NAME}`: a secret never stands in the file.")
        if pattern := getattr(mark, "pattern", None):
            return text_like(pattern)
    return {}
