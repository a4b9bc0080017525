"""Compiler and schema agree on every field of every model: whatever stands there, both take it, or neither does."""

import contextlib
import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from buildflow.compiler import compile_file
from buildflow.compiler.schema.fields import default_of
from buildflow.compiler.schema.marks import flat
from buildflow.primitives.registry import all_primitives
from buildflow.spec.document import parse, plain
from buildflow.spec.project import BUILT_INS, OVERLAYS, SECTIONS, Project
from tests.unit.compiler.test_schema_golden import OF_FORM, ROOT, compare, takes_more_than_one_field

Path_ = tuple[Any, ...]

FILE: dict[str, Any] = {"project": "shop", "stacks": {"local": {"provider": "local"}}}

VALUES: tuple[Any, ...] = (True, 5, 0, -1, 5.5, "text", "", "30s", None, ["a"], [5], {}, {"a": 1})
"""Of every type, and texts of several forms."""

SAMPLES = {
    "stacks": {"provider": "local"},
    "dependencies": {"factory": "app:f"},
    "services": {},
    "routes": {"handler": "app:f"},
    "consumers": {"source": "jobs", "handler": "app:f"},
}
"""An entry of each section with what it requires. A section that is not here needs a line."""


@dataclass(frozen=True)
class Field:
    """One field of a model, in a file that holds little else."""

    path: Path_
    info: FieldInfo
    file: dict[str, Any]

    @property
    def key(self) -> str:
        return str(self.path[-1])

    def with_value(self, value: Any) -> Any:
        return put(self.file, self.path, value)


def fields(model: type[BaseModel], path: Path_, file: dict[str, Any]) -> Iterator[Field]:
    """The fields of a model at a place, and those of the models inside it."""
    for name, info in model.model_fields.items():
        here = (*path, info.alias or name)
        yield Field(here, info, file)
        for inner, deeper in models_in(info.annotation):
            if inner not in SECTIONS.values():
                yield from fields(inner, (*here, *deeper), put(file, (*here, *deeper), required(inner)))


def models_in(annotation: Any) -> Iterator[tuple[type[BaseModel], Path_]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, ()
    for inner in get_args(annotation):
        yield from ((model, (0, *path) if get_origin(annotation) is list else path) for model, path in models_in(inner))


def required(model: type[BaseModel]) -> dict[str, Any]:
    """What a model requires: its first example, or a text, a list or a number that fits."""
    values = {str: "app:f", int: 5, list: ["*"], Literal: ""}
    return {
        info.alias or name: (info.examples or [values[get_origin(info.annotation) or info.annotation]])[0]
        for name, info in model.model_fields.items()
        if info.is_required()
    }


def put(file: Any, path: Path_, value: Any) -> Any:
    """A copy of the file with a value at a place; what is missing on the way is made."""
    if not path:
        return deepcopy(value)
    key, *rest = path
    if isinstance(key, int):
        return [put(file[key] if isinstance(file, list) else None, tuple(rest), value)]
    inside = file if isinstance(file, dict) else {}
    return {**inside, key: put(inside.get(key), tuple(rest), value)}


@cache
def example(type: str) -> Any:
    """A primitive's body, as its example.yaml has it."""
    text = (ROOT / f"platform/buildflow/primitives/{type}/example.yaml").read_text()
    bodies = plain(parse(text, "example.yaml")[0].root)["primitives"].values()
    return next(body for body in bodies if body["type"] == type)


def by_name() -> dict[str, list[Field]]:
    entries = {
        **{section: (model, (section, "GET /" if section == "routes" else "a"), SAMPLES[section])
           for section, model in SECTIONS.items()},
        **{name: (model, ("dependencies", "a"), {**required(model), "type": name})
           for name, model in BUILT_INS.items()},
        **{p.type: (p.spec, ("primitives", "a"), example(p.type)) for p in all_primitives().values()},
    }  # fmt: skip
    inside = {name: list(fields(model, path, put(FILE, path, body))) for name, (model, path, body) in entries.items()}
    return {"the file itself": list(fields(Project, (), FILE)), **inside}


FIELDS = by_name()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "app.py").write_text("def f(): ...\n")
    with contextlib.chdir(tmp_path):
        yield tmp_path


def verdicts(file: Any, path: Path_) -> tuple[bool, bool]:
    """Whether the compiler and the schema each see a mistake of form at a place. Of a key that holds nothing, the
    compiler may say that it is missing."""
    Path("buildflow.yaml").write_text(json.dumps(file))
    comparison = compare(compile_file(Path("buildflow.yaml"), environment={}))
    mistakes = [m for m in comparison.mistakes if m.diagnostic.code in OF_FORM]
    alone = [m for m in mistakes if not takes_more_than_one_field(m, comparison.root)]
    missing = [p for m in alone if m.diagnostic.code == "BF202" for p in m.places]
    compiler = any(p[: len(path)] == path for m in alone for p in m.places) or path[:-1] in missing
    return compiler, any(complaint[: len(path)] == path for complaint in comparison.complaints)


def reads_texts(field: Field) -> bool:
    """Whether a text is read as something else here: of that, the schema sees the form only."""
    inner = [mark for choice in get_args(field.info.annotation) for mark in getattr(choice, "__metadata__", ())]
    return any(isinstance(mark, BeforeValidator) for mark in flat([*field.info.metadata, *inner]))


def is_known(field: Field, value: Any, compiler: bool) -> bool:
    """Whether a disagreement is one of those that have to be."""
    return compiler and isinstance(value, str) and reads_texts(field)


@pytest.mark.parametrize("name", FIELDS)
def test_every_value_of_every_field(name: str, folder: Path) -> None:
    disagreed = []
    for field in FIELDS[name]:
        for value in VALUES:
            compiler, schema = verdicts(field.with_value(value), field.path)
            if compiler != schema and not (isinstance(value, str | bool | float) and is_known(field, value, compiler)):
                disagreed.append((field.path, value, "the compiler" if compiler else "the schema"))
    assert disagreed == []


@pytest.mark.parametrize("name", FIELDS)
def test_defaults_and_examples_are_right(name: str, folder: Path) -> None:
    """As they stand in the schema, which is as their user would write them."""
    for field in FIELDS[name]:
        default = default_of(field.info)
        for value in [*(field.info.examples or ()), *([] if default is None else [default])]:
            assert verdicts(field.with_value(value), field.path) == (False, False), (field.path, value)


@pytest.mark.parametrize("name", FIELDS)
def test_a_reference_may_stand_wherever_a_text_is_read(name: str, folder: Path) -> None:
    for field in FIELDS[name]:
        default = default_of(field.info)
        if isinstance(default, str | int | float):
            written = str(default).lower() if isinstance(default, bool) else default
            reference = f"${{env.MISSING:-{written}}}"
            assert verdicts(field.with_value(reference), field.path) == (False, False), field.path


@pytest.mark.parametrize("name", FIELDS)
def test_numbers_end_where_they_end(name: str, folder: Path) -> None:
    for field in FIELDS[name]:
        for right, wrong in edges(field.info):
            if right is not None:
                assert verdicts(field.with_value(right), field.path) == (False, False), (field.path, right)
            assert verdicts(field.with_value(wrong), field.path) == (True, True), (field.path, wrong)


def edges(info: FieldInfo) -> Iterator[tuple[Any, Any]]:
    """The last right number and the first wrong one."""
    for mark in flat(info.metadata):
        if isinstance(mark, Ge):
            yield mark.ge, mark.ge - 1  # type: ignore[operator]
        elif isinstance(mark, Le):
            yield mark.le, mark.le + 1  # type: ignore[operator]
        elif isinstance(mark, Gt):
            yield None, mark.gt


@pytest.mark.parametrize("name", FIELDS)
def test_unknown_keys_and_missing_ones(name: str, folder: Path) -> None:
    for field in FIELDS[name]:
        unknown = (*field.path[:-1], "surely_unknown")
        assert verdicts(put(field.file, unknown, 1), unknown) == (True, True), unknown
        if field.info.is_required() and field.key != "type":
            owner = field.path[:-1]
            assert verdicts(without(field.file, field.path), owner) == (True, True), field.path


def without(file: Any, path: Path_) -> Any:
    key, *rest = path
    if isinstance(key, int):
        return [without(file[key], tuple(rest))]
    return {k: without(v, tuple(rest)) if k == key else v for k, v in file.items() if rest or k != key}


@pytest.mark.parametrize("name", FIELDS)
def test_below_an_overlay_every_field_is_optional(name: str, folder: Path) -> None:
    """There `null` removes, and what is written still has to be of the right form. Lists are whole there."""
    for field in FIELDS[name]:
        if field.path[0] in OVERLAYS and 0 not in field.path and len(field.path) > 1 and field.key != "type":
            path = ("stacks", "cloud", *field.path)
            base = put(field.file, ("stacks", "cloud", "provider"), "local")
            assert not verdicts(put(base, path, None), path)[1], path
            for value in (True, 5.5, "text", ["a"], {"a": 1}):
                compiler, schema = verdicts(put(base, path, value), path)
                known = isinstance(value, str | bool | float) and is_known(field, value, compiler)
                assert compiler <= schema or known, (path, value)
