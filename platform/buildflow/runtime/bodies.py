"""What a request holds as rows: the body of a collector that has no handler.

A JSON object is a row, a JSON array many; of newline-delimited JSON each line is one; a form, or the query of a GET,
is a row of text that becomes what the columns are.
"""

import types
from collections.abc import Sequence
from datetime import date, datetime, time
from typing import Annotated, Any, NotRequired, Union

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import Base64Bytes, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from typing_extensions import TypedDict

from buildflow.ir.columns import Column, Kind
from buildflow.ir.graph import Resource
from buildflow.loading import named

JSON_LINES = frozenset(f"application/{name}" for name in ("x-ndjson", "ndjson", "jsonl", "jsonlines", "x-jsonlines"))
FORMS = frozenset(("application/x-www-form-urlencoded", "multipart/form-data"))
WITHOUT_BODY = frozenset(("GET", "HEAD"))
LARGE = 100_000
"""Bytes from which a body is read beside the event loop."""
MOST_ERRORS = 100
"""Wrong fields that an answer tells of."""

Errors = list[dict[str, Any]]

_TYPES: dict[Kind, Any] = {
    "string": str,
    "integer": Annotated[int, Field(ge=-(2**63), lt=2**63)],
    "float": float,
    "boolean": bool,
    "bytes": Base64Bytes,
    "timestamp": datetime,
    "date": date,
    "time": time,
    "json": Any,
}


def row_type(resource: Resource) -> Any:
    """What one row is: a record of the columns, the type that is declared for messages, or anything."""
    if resource.columns:
        return _record(resource.columns, resource.key)
    declared = resource.spec.get("message")
    return named(declared) if declared else Any


def _record(columns: Sequence[Column], name: str) -> Any:
    fields = {c.name: _field(c, f"{name}.{c.name}") for c in columns}
    made = _typed_dict(name, fields)
    made.__pydantic_config__ = ConfigDict(extra="forbid")
    return made


_typed_dict: Any = TypedDict


def _field(column: Column, name: str) -> Any:
    kind = _record(column.fields, name) if column.kind == "record" else _TYPES[column.kind]
    if column.repeated:
        kind = _list_of(kind)
    if column.nullable:
        kind = kind | None
    return NotRequired[kind] if column.nullable or column.has_default else kind


def _list_of(kind: Any) -> Any:
    return types.GenericAlias(list, (kind,))


class Bodies:
    """Reads requests as rows of one type. What is wrong is a 422 that names each field, as FastAPI's are."""

    def __init__(self, resource: Resource) -> None:
        kind = row_type(resource)
        many = _list_of(kind)
        self._row: TypeAdapter[Any] = TypeAdapter(kind)
        self._rows: TypeAdapter[list[Any]] = TypeAdapter(many)
        either: Any = Union[kind, many]  # noqa: UP007 - they are values here
        self._either: TypeAdapter[Any] = TypeAdapter(either)
        self._columns = {c.name: c for c in resource.columns}

    async def read(self, request: Request) -> Any:
        """A row, or a list of rows."""
        if request.method in WITHOUT_BODY:
            return self._from_text(request.query_params.multi_items(), "query")
        kind = content_type(request)
        if kind in FORMS:
            async with request.form() as form:
                return self._from_text(form.multi_items(), "body")
        if kind in JSON_LINES:
            read = self._from_lines
        elif is_json(kind):
            read = self._from_json
        else:
            raise HTTPException(415, "send JSON (application/json), lines of JSON (application/x-ndjson) or a form")
        body = await body_of(request)
        return read(body) if len(body) < LARGE else await run_in_threadpool(read, body)

    def schema(self, reference: str) -> dict[str, Any]:
        """The request's body in OpenAPI. `reference` is the address of a definition, with `{model}` in it."""
        one, either = (a.json_schema(ref_template=reference) for a in (self._row, self._either))
        content = {"application/json": {"schema": either}, "application/x-ndjson": {"schema": one}}
        return {"required": True, "content": {**content, "application/x-www-form-urlencoded": {"schema": one}}}

    def _from_json(self, body: bytes) -> Any:
        many = body.lstrip()[:1] == b"["
        try:
            return self._rows.validate_json(body) if many else self._row.validate_json(body)
        except ValidationError as exc:
            raise RequestValidationError(_errors(exc, "body")) from exc

    def _from_lines(self, body: bytes) -> list[Any]:
        rows = []
        errors: Errors = []
        for number, line in enumerate(body.splitlines()):
            try:
                if line.strip():
                    rows.append(self._row.validate_json(line))
            except ValidationError as exc:
                errors += _errors(exc, "body", number)
        if errors:
            raise RequestValidationError(errors[:MOST_ERRORS])
        return rows

    def _from_text(self, items: Sequence[tuple[str, Any]], place: str) -> Any:
        """Text that is empty is no value, except where the column holds text."""
        values: dict[str, Any] = {}
        for name, value in items:
            column = self._columns.get(name)
            if value == "" and column is not None and column.kind != "string":
                continue
            if column is not None and column.repeated:
                values.setdefault(name, []).append(value)
            else:
                values[name] = value
        try:
            return self._row.validate_python(values)
        except ValidationError as exc:
            raise RequestValidationError(_errors(exc, place)) from exc


def _errors(exc: ValidationError, *place: str | int) -> Errors:
    """As FastAPI tells them, without the input: it may be the whole body."""
    found = exc.errors(include_url=False, include_input=False, include_context=False)
    return [{**error, "loc": (*place, *error["loc"])} for error in found[:MOST_ERRORS]]


def content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def is_json(kind: str) -> bool:
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


async def body_of(request: Request) -> bytes:
    try:
        return await request.body()
    except ClientDisconnect as exc:
        raise HTTPException(400, "the request's body ended too early") from exc
