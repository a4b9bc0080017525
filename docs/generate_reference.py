"""Write docs/reference.md from the models: `make generate`. A test fails when the file is not what this would write."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from buildflow.primitives.base import Primitive, Role
from buildflow.primitives.registry import all_primitives, providers_of
from buildflow.spec import project
from buildflow.spec.units import Duration, Size, in_words
from buildflow.spec.values import Cron, Rate, Secret, TimeZone, Url

TARGET = Path(__file__).parent / "reference.md"
HEAD = """# Reference

Every key of `buildflow.yaml`. Written by `make generate` from the models that the compiler checks against: do not edit.
[language.md](language.md) says how the parts work together.
"""
_NAMED = {
    "duration": Duration,
    "size": Size,
    "URL": Url,
    "rate": Rate,
    "cron expression": Cron,
    "time zone": TimeZone,
    "`${secret.NAME}`": Secret,
}
_PLAIN = {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "anything"}
_SECTIONS: dict[str, type[BaseModel]] = {
    "options": project.Options,
    "stacks.<name>": project.Stack,
    "dependencies.<key>": project.Dependency,
    "services.<key>": project.Service,
    'routes."METHOD /path"': project.Route,
    "consumers.<key>": project.Consumer,
}


def reference() -> str:
    """The whole page."""
    parts = [HEAD, "## The file\n", *_table(project.Project)]
    for title, model in _SECTIONS.items():
        parts += [f"\n## `{title}`\n", f"{_first_line(model)}\n", *_table(model)]
    parts += ["\n## Built-in dependencies\n", "A `type` below `dependencies.<key>` instead of a `factory`.\n"]
    for name, built_in in project.BUILT_INS.items():
        parts += [f"\n### `{name}`\n", f"{_first_line(built_in)}\n", *_table(built_in, skip=("type",))]
    parts += ["\n## Primitives\n", "What every primitive has:\n", *_table(_spec_base(), skip=("type",))]
    for primitive in all_primitives().values():
        parts += list(_primitive(primitive))
    return "\n".join(parts) + "\n"


def _spec_base() -> type[BaseModel]:
    return all_primitives()["bucket"].spec.__mro__[1]


def _primitive(primitive: Primitive) -> Iterator[str]:
    roles = ["store" if primitive.handle and Role.STORE in primitive.roles else ""]
    roles += [role.value for role in (Role.SOURCE, Role.SINK) if role in primitive.roles]
    handle = f" Handlers get a `{primitive.handle}`." if primitive.handle else ""
    carried = f" Its elements are `{primitive.element}`." if primitive.element else ""
    drivers = ", ".join(providers_of(primitive.type)) or "none yet"
    yield f"\n### `{primitive.type}`\n"
    about = f"{_first_line(primitive.spec)} Roles: {', '.join(filter(None, roles))}."
    yield f"{about}{handle}{carried} Drivers: {drivers}.\n"
    yield from _table(primitive.spec, skip=tuple(_spec_base().model_fields))
    example = Path(project.__file__).parents[1] / "primitives" / primitive.type / "example.yaml"
    yield f"\n```yaml\n{example.read_text('utf-8').rstrip()}\n```"


def _first_line(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split())


def _table(model: type[BaseModel], skip: Iterable[str] = ()) -> list[str]:
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
    return lines + [
        row for name, info in model.model_fields.items() if name not in skip for row in _rows("", name, info)
    ]


def _rows(above: str, name: str, info: FieldInfo) -> Iterator[str]:
    """A field's line, and those of the mapping below it."""
    key = f"{above}{info.alias or name}"
    inner = _model(info.annotation)
    value = "mapping" if inner and not _is_list(info.annotation) else _words(info)
    meaning = (info.description or "").replace("|", "\\|").replace("\n", " ")
    yield f"| `{key}` | {value} | {_default(info)} | {meaning} |"
    if inner and inner not in _SECTIONS.values():
        mark = "[]." if _is_list(info.annotation) else "."
        for below, field in inner.model_fields.items():
            yield from _rows(f"{key}{mark}", below, field)


def _is_list(annotation: Any) -> bool:
    return any(get_origin(choice) is list for choice in _choices(annotation))


def _choices(annotation: Any) -> list[Any]:
    if get_origin(annotation) in (Union, UnionType):
        return [c for c in get_args(annotation) if c is not NoneType]
    return [annotation]


def _model(annotation: Any) -> type[BaseModel] | None:
    for choice in _choices(annotation):
        inner = get_args(choice)[0] if get_origin(choice) is list else choice
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            return inner
    return None


def _words(info: FieldInfo) -> str:
    """What may be written for a field."""
    if any(getattr(mark, "pattern", "") == project.HANDLER for mark in info.metadata):
        return "`module:name`"
    whole = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation  # type: ignore[valid-type]
    return " or ".join(dict.fromkeys(_type(choice) for choice in _choices(whole)))


def _type(annotation: Any) -> str:
    for name, known in _NAMED.items():
        if annotation == known or (get_origin(known) is Annotated and _same(annotation, known)):
            return name
    if get_origin(annotation) is Annotated:
        return " or ".join(dict.fromkeys(_type(choice) for choice in _choices(get_args(annotation)[0])))
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) is list:
        return f"list of {_type(get_args(annotation)[0])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    if get_origin(annotation) is dict:
        return "mapping"
    return _PLAIN.get(annotation, "text")


def _same(annotation: Any, known: Any) -> bool:
    """Whether all marks of a known type are among a field's."""
    marks = getattr(annotation, "__metadata__", ())
    return bool(marks) and all(any(mark is other or mark == other for other in marks) for mark in known.__metadata__)


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "**required**"
    value = info.get_default(call_default_factory=True)
    if value in (None, "", [], {}) or isinstance(value, BaseModel):
        return ""
    if isinstance(value, float) and "duration" in _words(info):
        return f"`{in_words(value)}`"
    if isinstance(value, int) and "size" in _words(info):
        return f"`{value // 1_000_000}MB`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    TARGET.write_text(reference(), "utf-8")
    print(f"wrote {TARGET.name}")
