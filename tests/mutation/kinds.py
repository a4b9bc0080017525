"""What kinds of YAML values an annotation of a model takes."""

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from buildflow.spec.document import Mapping, Node, Sequence

_KINDS: dict[Any, str] = {
    **{str: "text", bool: "true or false", int: "number", float: "number", list: "list", dict: "mapping"},
    NoneType: "empty",
}


def kind_of(node: Node) -> str:
    """What a node is, in the words of `accepts`."""
    if isinstance(node, Mapping):
        return "mapping"
    if isinstance(node, Sequence):
        return "list"
    return _KINDS[type(node.value)]


def accepts(annotation: Any) -> set[str]:
    """What an annotation takes; "anything" where that is not said. A number for a text is a mistake."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        read = any(type(mark).__name__ == "BeforeValidator" for mark in arguments[1:])
        return accepts(arguments[0]) | ({"text"} if read else set())
    if origin in (Union, UnionType):
        return set().union(*map(accepts, arguments))
    if origin is Literal:
        return {_KINDS[type(value)] for value in arguments}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {"mapping", "empty"}
    return {_KINDS.get(origin or annotation, "anything")}


def branch(annotation: Any, node: Node, marks: tuple[Any, ...] = ()) -> tuple[Any, tuple[Any, ...]]:
    """The part of an annotation that a node of this kind has, and what it is marked with."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return branch(inner, node, (*marks, *more))
    if get_origin(annotation) in (Union, UnionType):
        choices = [a for a in get_args(annotation) if a is not NoneType]
        fitting = [a for a in choices if kind_of(node) in accepts(a)] or choices
        return branch(fitting[0], node, marks)
    return annotation, marks
