"""pydantic's paths as the document's, past the branches of unions: one mistake, told once; and a body with mistakes
as a model all the same: what is wrong is taken out, so that the rest can be checked."""

from copy import copy
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError, create_model
from pydantic.fields import FieldInfo

from buildflow.spec import document
from buildflow.spec.document import Mapping, Node, at

Path = tuple[Any, ...]
M = TypeVar("M", bound=BaseModel)

WRONG_TYPE = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "finite_number": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
"""What pydantic calls a value of the wrong type, and what would have been right."""


def location(loc: Path, model: type[BaseModel], node: Node) -> tuple[Path, tuple[Path, ...]]:
    """A path of pydantic's as one of the document, and the unions that it led through: behind each of them pydantic
    puts the name of the union's branch."""
    result: list[Any] = []
    unions: list[Path] = []
    annotation: Any = model
    skip = False
    for part in loc:
        if skip:
            skip = False
            continue
        result.append(part)
        annotation = annotation_at(annotation, part)
        if is_union(annotation):
            unions.append(tuple(result))
            annotation = _branch(annotation, at(node, tuple(result)))
            skip = True
    return tuple(result), tuple(unions)


def annotation_at(annotation: Any, part: Any) -> Any:
    """The annotation of what stands at `part` in a value of this annotation."""
    annotation = bare(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        info = field_of(annotation, part)
        return _plain(info.annotation) if info else None
    arguments = get_args(annotation)
    return bare(arguments[-1]) if arguments and get_origin(annotation) in (list, dict, tuple) else None


def _plain(annotation: Any) -> Any:
    return annotation if is_union(annotation) else bare(annotation)


def bare(annotation: Any) -> Any:
    """Without `Annotated` and without `| None`."""
    if get_origin(annotation) is Annotated:
        return bare(get_args(annotation)[0])
    choices = [a for a in get_args(annotation) if a is not NoneType]
    if get_origin(annotation) in (Union, UnionType) and len(choices) == 1:
        return bare(choices[0])
    return annotation


def _branch(annotation: Any, node: Node) -> Any:
    """The branch of a union that a node of this kind is probably meant to be."""
    for choice in map(bare, get_args(annotation)):
        is_mapping = get_origin(choice) is dict or (isinstance(choice, type) and issubclass(choice, BaseModel))
        if (isinstance(node, Mapping) and is_mapping) or (
            isinstance(node, document.Sequence) and get_origin(choice) is list
        ):
            return choice
    return None


def is_union(annotation: Any) -> bool:
    choices = [a for a in get_args(annotation) if a is not NoneType]
    return get_origin(annotation) in (Union, UnionType) and len(choices) > 1


def one_per_union(details: list[Any], model: type[BaseModel], node: Node) -> list[Any]:
    """Every branch of a union complains: keep what went deepest, or say once what would have fitted."""
    for detail in details:
        detail["loc"], detail["unions"] = location(detail["loc"], model, node)
    return _chosen(details, 0)


def _chosen(details: list[Any], level: int) -> list[Any]:
    result: list[Any] = []
    unions: dict[Path, list[Any]] = {}
    for detail in details:
        inside = detail["unions"][level : level + 1]
        (unions.setdefault(inside[0], []) if inside else result).append(detail)
    for place, branches in unions.items():
        deeper = [b for b in branches if len(b["loc"]) > len(place)]
        of_value = [b for b in branches if b["type"] not in WRONG_TYPE]
        branches[0]["wanted"] = " or ".join(
            dict.fromkeys(WRONG_TYPE.get(b["type"], "something else") for b in branches)
        )
        result += _chosen(deeper, level + 1) if deeper else (of_value or branches)[:1]
    return result


def field_of(model: type[BaseModel], name: Any) -> FieldInfo | None:
    return next((f for n, f in model.model_fields.items() if name in (n, f.alias)), None)


MAX_ROUNDS = 10
"""What is taken out may leave the next thing incomplete: a class its middleware, a middleware its list."""


def rebuild(model: type[M], values: Any, details: list[Any], node: Mapping) -> tuple[M | None, set[Path]]:
    """The model of `values` (they are changed) without what the `details` of a validation complain about, and the
    paths of that. None where too little is left."""
    out: set[Path] = set()
    for _ in range(MAX_ROUNDS):
        missing = {d["loc"][0] for d in details if d["type"] == "missing" and len(d["loc"]) == 1}
        places = {_nearest(_place(d), values) for d in details if d["loc"][:1] not in {(name,) for name in missing}}
        if () in places or not all(_holds_text(model, name) for name in missing):
            return None, out
        model = _with_defaults(model, frozenset(missing)) if missing else model
        out |= places | {d["loc"] for d in details}
        for place in places:
            _take_out(place, values)
        try:
            return model.model_validate(values), out
        except ValidationError as error:
            details = one_per_union(error.errors(include_url=False), model, node)
    return None, out


def _place(detail: Any) -> Path:
    key = detail["ctx"]["key"] if detail["type"] == "refused" else ""
    return (*detail["loc"], key) if key else detail["loc"]


def _nearest(path: Path, values: Any) -> Path:
    """The last key on the way to `path` that is there. A list goes as a whole: the places in it have to stay."""
    there: Path = ()
    for index, part in enumerate(path):
        if isinstance(values, dict) and part in values:
            there = path[: index + 1]
        elif not (isinstance(values, list) and isinstance(part, int) and part < len(values)):
            break
        values = values[part]
    return there


def _take_out(path: Path, values: Any) -> None:
    if _nearest(path, values) == path:  # it went with what is around it
        for part in path[:-1]:
            values = values[part]
        del values[path[-1]]


def _holds_text(model: type[BaseModel], name: str) -> bool:
    """Whether "" can stand for a required field."""
    info = field_of(model, name)
    return info is not None and str in (info.annotation, *get_args(info.annotation))


@cache
def _with_defaults(model: type[M], names: frozenset[str]) -> type[M]:
    """The model with "" as the default of these fields."""
    fields: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        if name in names or info.alias in names:
            optional = copy(info)
            optional.default = ""
            fields[name] = (info.annotation, optional)
    return create_model(model.__name__, __base__=model, **fields)
