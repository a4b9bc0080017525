"""Messages of queues and topics as bytes; where a type is declared for them, none is sent that is not of it."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from buildflow.errors import BadMessage, HandlerRejected, InvalidRow
from buildflow.ir.graph import Indexed, Resource
from buildflow.loading import named
from buildflow.primitives.base import row_values
from buildflow.validation import in_words, json_reader

Encoder = Callable[[Any], bytes]


def encode(row: Any) -> bytes:
    """A message's bytes: bytes and text as they are, everything else as JSON. Raises `InvalidRow` in words.

    A pydantic model goes by its own rules, aliases included, so that the model reads it back.
    """
    if isinstance(row, bytes | bytearray | memoryview):
        return bytes(row)
    if isinstance(row, str):
        return row.encode()
    try:
        plain = row if isinstance(row, BaseModel) or not _has_fields(row) else row_values(row, ())
        return json.dumps(
            to_jsonable_python(plain, bytes_mode="base64", inf_nan_mode="constants"),
            allow_nan=False,
            ensure_ascii=False,
            separators=(",", ":"),
        ).encode()
    except (PydanticSerializationError, TypeError, ValueError) as exc:
        raise InvalidRow(f"a {type(row).__name__} cannot be sent as JSON: {exc}") from exc


def _has_fields(row: Any) -> bool:
    return isinstance(row, Mapping) or hasattr(row, "__dataclass_fields__") or hasattr(row, "_asdict")


def encoder(resource: Resource, resources: Indexed) -> Encoder:
    """`encode` for one queue, topic or subscription. Where the type of its messages is declared, they are read as a
    consumer will read them, and `BadMessage` names the field that is wrong."""
    carrier = resource
    if topic := resource.references.get("topic"):
        carrier = resources.by_key[topic]
    declared = carrier.spec.get("message")
    if not declared:
        return encode
    kind = named(declared)
    try:
        read = json_reader(kind)
    except (PydanticSchemaGenerationError, PydanticUserError) as exc:
        words = f'{declared}, which "{carrier.key}" carries, cannot be read from JSON'
        raise HandlerRejected(words, hint="make it a dataclass, a pydantic model or a TypedDict") from exc
    about = f'"{carrier.key}" carries {getattr(kind, "__name__", declared)}'

    def encode_checked(row: Any) -> bytes:
        body = encode(row)
        try:
            read(body)
        except ValidationError as exc:
            raise BadMessage(f"{about}: {in_words(exc)}") from None
        return body

    return encode_checked
