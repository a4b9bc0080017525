"""pydantic's paths as the document's, past the branches of unions: one mistake, told once."""

from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from buildflow.spec import document
from buildflow.spec.document import Mapping, Node, at

Path = tuple[Any, ...]

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
