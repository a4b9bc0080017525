"""Handlers and factories as real objects: imported by name, read as Signatures, checked once more.

The compiler read the source; this is what the process really imported. The same checker runs on both.
"""

import collections.abc
import dataclasses
import datetime
import inspect
import types
import typing
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from buildflow.binding.parameters import Names, bind, check_element, element_parameter
from buildflow.errors import HandlerRejected
from buildflow.ir.runtime import HandlerPlan, RuntimePlan
from buildflow.ir.signature import UNKNOWN, Parameter, Place, Shape, ShapeKind, Signature
from buildflow.loading import load as load
from buildflow.primitives.registry import all_primitives


def load_handler(plan: HandlerPlan, runtime: RuntimePlan, *, source: str = "") -> Any:
    """A handler, checked against its plan: what it takes may have changed since the plan was made."""
    function = load(plan.function)
    signature = signature_of(function, plan.function)
    handles = {r.key: all_primitives()[r.type].handle for r in runtime.resources}
    names = Names(dependencies=[d.key for d in runtime.dependencies], handles=handles)
    explicit = {i.parameter: i.key for i in plan.inject}
    bound = bind(signature, names, explicit=explicit)
    problems = [p for p in bound.problems if p.code != "BF305"]
    if source:
        element, more = element_parameter(signature, bound)
        problems += more
        if element is not None:
            problems += check_element(element, plan.element_type, source)
    if problems:
        raise HandlerRejected(f"{plan.function}: {problems[0].message}", hint=problems[0].hint)
    return function


def hints_of(function: Any) -> dict[str, Any]:
    """The annotations of a function, resolved; those that cannot be are left out."""
    target = getattr(function, "__init__", function) if isinstance(function, type) else function
    try:
        return typing.get_type_hints(target, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {k: v for k, v in getattr(target, "__annotations__", {}).items() if not isinstance(v, str)}


def signature_of(function: Any, name: str) -> Signature:
    """A real function or class as a Signature."""
    place = Place(file=getattr(inspect.getmodule(function), "__file__", None) or name)
    try:
        inspected = inspect.signature(function)
    except (TypeError, ValueError):
        anything = Parameter(name="arguments", required=False, variadic=True, place=place)
        return Signature(name=name, parameters=(anything,), place=place)
    hints = hints_of(function)
    parameters = [
        Parameter(
            name=p.name,
            shape=shape_of(hints[p.name]) if p.name in hints else UNKNOWN,
            annotated=p.annotation is not inspect.Parameter.empty,
            required=p.default is inspect.Parameter.empty,
            variadic=p.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD),
            place=place,
        )
        for p in inspected.parameters.values()
    ]
    return Signature(
        name=name,
        parameters=tuple(parameters),
        returns=shape_of(hints["return"]) if "return" in hints else UNKNOWN,
        is_async=inspect.iscoroutinefunction(function),
        is_generator=inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function),
        place=place,
    )


_SCALARS: dict[Any, ShapeKind] = {
    str: "string",
    int: "integer",
    float: "float",
    bool: "boolean",
    bytes: "bytes",
    datetime.datetime: "timestamp",
    datetime.date: "date",
    datetime.time: "time",
    dict: "mapping",
    type(None): "none",
    list: "list",
    tuple: "list",
    set: "list",
}
_MANY = (collections.abc.Iterable, collections.abc.AsyncIterable)


def shape_of(annotation: Any) -> Shape:
    """A real annotation as a Shape, deep enough for parameters; row types are the compiler's business."""
    origin = get_origin(annotation)
    text = getattr(annotation, "__name__", None) or str(annotation)
    if origin is typing.Annotated:
        return shape_of(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        options = [shape_of(a) for a in get_args(annotation)]
        real = [o for o in options if o.kind != "none"]
        nullable = len(real) < len(options)
        if len(real) == 1:
            return real[0].model_copy(update={"nullable": nullable})
        return Shape(kind="union", text=text, nullable=nullable, options=tuple(real))
    if origin is Literal:
        return UNKNOWN
    base = origin or annotation
    if base in _SCALARS and base not in (list, tuple, set):
        return Shape(kind=_SCALARS[base], text=text)
    if isinstance(base, type) and issubclass(base, collections.abc.Mapping) and not _is_record(base):
        return Shape(kind="mapping", text=text)
    if base in (list, tuple, set) or (isinstance(base, type) and origin and issubclass(base, _MANY)):
        inner = get_args(annotation)
        return Shape(kind="list", text=text, item=shape_of(inner[0]) if inner else None)
    if not isinstance(base, type):
        return UNKNOWN
    name = f"{base.__module__}.{base.__qualname__}"
    if name.startswith("buildflow.types."):
        name = f"buildflow.types.{base.__name__}"
    item = shape_of(get_args(annotation)[0]) if get_args(annotation) else None
    return Shape(kind="record" if _is_record(base) else "named", name=name, text=text, item=item)


def _is_record(cls: type) -> bool:
    return (
        dataclasses.is_dataclass(cls)
        or issubclass(cls, BaseModel)
        or (issubclass(cls, tuple) and hasattr(cls, "_fields"))
        or typing.is_typeddict(cls)
    )


def evaluated_signature(function: Any, given: collections.abc.Collection[str] = ()) -> inspect.Signature:
    """A function's signature with its annotations evaluated. Those of `given` parameters, and of what it returns,
    may name what is imported for type checkers alone: they are left out then."""
    try:
        return inspect.signature(function, eval_str=True)
    except NameError:
        written = inspect.signature(function)
    names = getattr(inspect.unwrap(function), "__globals__", {})
    parameters = [
        p.replace(annotation=Any if p.name in given else _evaluated(p.annotation, names))
        for p in written.parameters.values()
    ]
    try:
        returns = _evaluated(written.return_annotation, names)
    except NameError:
        returns = inspect.Signature.empty
    return written.replace(parameters=parameters, return_annotation=returns)


def _evaluated(annotation: Any, names: dict[str, Any]) -> Any:
    return eval(annotation, names) if isinstance(annotation, str) else annotation
