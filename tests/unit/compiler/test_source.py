"""Handlers and types read from source: what is known, where it stands, and what is left alone."""

from pathlib import Path

import pytest

from buildflow.compiler.source import Problem, Sources
from buildflow.ir.signature import Shape, Signature

PRELUDE = """\
from __future__ import annotations
import asyncio
import datetime as dt
import enum
import typing as t
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import InitVar, dataclass, field
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Generic, Literal, NamedTuple, NewType, NotRequired, Optional
from typing import TypedDict, TypeVar, Union
from pydantic import BaseModel, Field, PrivateAttr
from fastapi import Depends, Header, Path, Query
from other import Base, Far
import other as elsewhere
"""
OTHER = """\
from dataclasses import dataclass
from deep.down import Deepest as Far

@dataclass
class Base:
    id: int
    label: str = "x"
"""
DEEP = """\
from pydantic import BaseModel

class Deepest(BaseModel):
    depth: int
"""


def sources(folder: Path, text: str) -> Sources:
    (folder / "deep").mkdir()
    (folder / "deep/__init__.py").write_text("")
    (folder / "deep/down.py").write_text(DEEP)
    (folder / "other.py").write_text(OTHER)
    (folder / "app.py").write_text(PRELUDE + text)
    return Sources(folder)


def told(shape: Shape) -> str:
    """A shape in a word or two."""
    inner = shape.kind
    if shape.kind == "list":
        inner = f"list of {told(shape.item)}" if shape.item else "list"
    elif shape.kind == "union":
        inner = " | ".join(told(option) for option in shape.options)
    elif shape.kind in ("record", "named"):
        inner = f"{shape.kind} {shape.name.rpartition('.')[2]}"
    return inner + "?" * shape.nullable


ANNOTATIONS = {
    "int": "integer",
    "'int'": "integer",
    "Optional[int]": "integer?",
    "int | None": "integer?",
    "Union[int, None]": "integer?",
    "Union[int, str]": "integer | string",
    "Annotated[int, 'unit']": "integer",
    "list[Annotated[int, 'unit']]": "list of integer",
    "t.List[str]": "list of string",
    "Sequence[str]": "list of string",
    "tuple[str, ...]": "list of string",
    "Iterator[str]": "list of string",
    "AsyncIterator[Base]": "list of record Base",
    "dict[str, int]": "mapping",
    "t.Mapping[str, Any]": "mapping",
    "Literal['a', 'b']": "string",
    "Literal[1, 'b']": "integer | string",
    "dt.datetime": "timestamp",
    "dt.date | None": "date?",
    "bytes": "bytes",
    "Any": "unknown",
    "T": "unknown",
    "NotThere": "unknown",
    "UserId": "integer",
    "Ids": "list of integer",
    "elsewhere.Base": "record Base",
    "Far": "record Deepest",
    "Optional['Base']": "record Base?",
    "list[Base | None]": "list of record Base?",
    "None": "none",
}
NAMES = """
T = TypeVar("T")
UserId = NewType("UserId", int)
Ids = list[UserId]
"""


@pytest.mark.parametrize("annotation", ANNOTATIONS)
def test_annotations(annotation: str, tmp_path: Path) -> None:
    found = sources(tmp_path, f"{NAMES}\ndef f(x: {annotation}) -> {annotation}: ...\n").signature("app:f")
    assert isinstance(found, Signature)
    assert told(found.parameters[0].shape) == told(found.returns) == ANNOTATIONS[annotation]


RECORDS = {
    "a dataclass": ("@dataclass\nclass R:\n    a: int\n    b: str = 'x'\n    c: ClassVar[int] = 1\n", "a b?"),
    "default factories": ("@dataclass\nclass R:\n    a: list[int] = field(default_factory=list)\n", "a?"),
    "a field without a default": ("@dataclass\nclass R:\n    a: int = field()\n", "a"),
    "what only the constructor takes": ("@dataclass\nclass R:\n    a: int\n    seed: InitVar[int]\n", "a"),
    "a model": (
        "class R(BaseModel):\n    a: int = Field(...)\n    b: int = Field(1)\n    _c: int = PrivateAttr()\n",
        "a b?",
    ),
    "a typed dict": ("class R(TypedDict):\n    a: int\n    b: NotRequired[int]\n", "a b?"),
    "a typed dict that is not total": ("class R(TypedDict, total=False):\n    a: int\n", "a?"),
    "a functional typed dict": ("R = TypedDict('R', {'a': int, 'b': str})\n", "a b"),
    "a named tuple": ("class R(NamedTuple):\n    a: int\n    b: int = 0\n", "a b?"),
    "inheritance over modules": ("@dataclass\nclass R(Base):\n    extra: int = 0\n", "id label? extra?"),
    "a field that is overridden": ("@dataclass\nclass R(Base):\n    label: str = 'y'\n", "id label?"),
    "a base that is no dataclass": ("class Plain:\n    p: int\n\n@dataclass\nclass R(Plain):\n    a: int\n", "a"),
}


@pytest.mark.parametrize("case", RECORDS)
def test_records(case: str, tmp_path: Path) -> None:
    text, fields = RECORDS[case]
    shape = sources(tmp_path, text).shape("app:R")
    assert isinstance(shape, Shape)
    assert (shape.kind, shape.name) == ("record", "app.R")
    assert [f.name + "?" * (not f.required) for f in shape.fields] == fields.split()


LEFT_ALONE = {
    "a class of its own": "class R:\n    def __init__(self, a: int): self.a = a\n",
    "an enum": "class R(enum.Enum):\n    a = 1\n",
    "what a function makes": "def make(): ...\nR = make()\n",
    "what is imported from nowhere": "from not_installed import R\n",
    "a class that a decorator makes": "from not_installed import define\n\n@define\nclass R:\n    a: int\n",
    "a base that cannot be read": "from not_installed import Row\n\nclass R(Row):\n    a: int\n",
}


@pytest.mark.parametrize("case", LEFT_ALONE)
def test_what_cannot_be_known_is_no_record(case: str, tmp_path: Path) -> None:
    found = sources(tmp_path, f"{LEFT_ALONE[case]}\ndef f() -> R: ...\n").signature("app:f")
    assert isinstance(found, Signature)
    assert found.returns.kind in ("unknown", "named")


def test_places_are_those_of_the_file(tmp_path: Path) -> None:
    text = (
        "\n@dataclass\nclass Größe:\n    höhe: int; breite: int = 1\n\nasync def f(a, *, größe: Größe, b=2): yield a\n"
    )
    found = sources(tmp_path, text).signature("app:f")
    assert isinstance(found, Signature)
    first = PRELUDE.count("\n")
    assert (found.is_async, found.is_generator, found.place.line) == (True, True, first + 6)
    assert [(p.name, p.place.line, p.place.column, p.required) for p in found.parameters] == [
        ("a", first + 6, 13, True),
        ("größe", first + 6, 19, True),
        ("b", first + 6, 33, False),
    ]
    fields = found.parameters[1].shape.fields
    assert [(f.name, f.place.line, f.place.column) for f in fields if f.place] == [
        ("höhe", first + 4, 5),
        ("breite", first + 4, 16),
    ]


MARKERS = {
    "x: int = Path()": ("path", True),
    "x: Annotated[int, Path()]": ("path", True),
    "x: int = Query(None)": ("query", False),
    "x: int = Query(...)": ("query", True),
    "x: Annotated[str, Header()] = 'a'": ("header", False),
    "x = Depends(print)": ("depends", False),
    "x: int = elsewhere.Path()": ("", False),
    "x: int": ("", True),
}


@pytest.mark.parametrize("written", MARKERS)
def test_markers_of_fastapi(written: str, tmp_path: Path) -> None:
    found = sources(tmp_path, f"def f({written}): ...\n").signature("app:f")
    assert isinstance(found, Signature)
    assert (found.parameters[0].marker, found.parameters[0].required) == MARKERS[written]


OPAQUE = {
    "a decorator that is not known": "from not_installed import wrapped\n\n@wrapped\ndef f(a): ...\n",
    "an object": "f = print\n",
    "one of several definitions": "import sys\nif sys.argv:\n    def f(a): ...\nelse:\n    def f(b, c): ...\n",
    "made up when asked for": "def __getattr__(name): ...\n",
}


@pytest.mark.parametrize("case", OPAQUE)
def test_functions_that_cannot_be_read_take_anything(case: str, tmp_path: Path) -> None:
    found = sources(tmp_path, OPAQUE[case]).signature("app:f")
    assert isinstance(found, Signature)
    assert any(p.variadic for p in found.parameters)


WRONG = {
    "app:handel": ("BF303", "app:handle"),
    "ap:handle": ("BF302", "app:handle"),
    "depe.down:Deepest": ("BF302", "deep.down:Deepest"),
    "deep.dwon:Deepest": ("BF302", "deep.down:Deepest"),
    "app:Orders.creat": ("BF303", "app:Orders.create"),
    "nothing.like.it:f": ("BF302", ""),
}


@pytest.mark.parametrize("reference", WRONG)
def test_a_wrong_reference_knows_the_right_one(reference: str, tmp_path: Path) -> None:
    text = "def handle(): ...\n\nclass Orders:\n    @staticmethod\n    def create(): ...\n"
    problem = sources(tmp_path, text).signature(reference)
    assert isinstance(problem, Problem)
    assert (problem.code, problem.right) == WRONG[reference]


@pytest.mark.parametrize(
    ("source", "line", "column"), [(b"def f(:\n", 1, 7), (b"x = 1\n\tdef f(): ...", 2, 1), (b"a = 'b\n", 1, 5)]
)
def test_a_module_that_is_no_python_has_its_place(source: bytes, line: int, column: int, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_bytes(source)
    problem = Sources(tmp_path).signature("app:f")
    assert isinstance(problem, Problem)
    assert problem.place is not None
    assert (problem.code, problem.place.line, problem.place.column) == ("BF308", line, column)


def test_nothing_is_imported(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("raise SystemExit(3)\n\ndef f(a: int) -> None: ...\n")
    assert isinstance(Sources(tmp_path).signature("app:f"), Signature)
