"""What is said about one field: its description, its default as its user would write it, its examples."""

from typing import Any

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from buildflow.compiler.schema.marks import flat
from buildflow.compiler.schema.texts import Schema, said, written


def about(info: FieldInfo) -> Schema:
    """What an editor shows about a field."""
    words, default = info.description or "", default_of(info)
    shown = str(default).lower() if isinstance(default, bool) else default
    described = said(words)
    if isinstance(default, str | int | float):
        described["markdownDescription"] = f"{words}\n\nDefault: `{shown}`"
    return described | ({"default": default} if default is not None else {})


def default_of(info: FieldInfo) -> Any:
    """A field's default; None where there is none worth showing."""
    if info.is_required() or info.default_factory is not None or isinstance(info.default, BaseModel):
        return None
    parser = next((mark.func for mark in flat(info.metadata) if isinstance(mark, BeforeValidator)), None)
    return None if info.default == "" else written(info.default, parser)


def examples(info: FieldInfo) -> Schema:
    return {"examples": info.examples} if info.examples else {}
