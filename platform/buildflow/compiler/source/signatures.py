"""Functions, and what else can be called, as Signatures."""

import ast
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from buildflow.compiler.source import known
from buildflow.compiler.source.constructors import constructor
from buildflow.compiler.source.lookup import UNREAD, Defined, Lookup, Meaning, Scope, Unread
from buildflow.compiler.source.markers import marker_of
from buildflow.compiler.source.shapes import Shapes
from buildflow.compiler.source.unions import union
from buildflow.ir.signature import UNKNOWN, Parameter, Place, Shape, Signature, anything

_MOST = 20
"""`a = partial(b)` and `b = partial(a)`: nobody gets that far."""

NOT_CALLABLE: Final = (
    *(ast.Constant, ast.JoinedStr, ast.List, ast.Tuple, ast.Dict, ast.Set),
    *(ast.ListComp, ast.DictComp, ast.SetComp, ast.GeneratorExp, ast.Compare),
)


class Signatures:
    """Reads what can be called; `name` is the reference that it was found by."""

    def __init__(self, lookup: Lookup, shapes: Shapes) -> None:
        self.lookup = lookup
        self.shapes = shapes

    def of(self, found: Meaning | None, name: str, depth: int = 0) -> Signature | None:
        """What it takes and gives; None where it surely cannot be called."""
        if not isinstance(found, Defined):
            return anything(name, (found.place if isinstance(found, Unread) else None) or Place(name.partition(":")[0]))
        if isinstance(found.node, ast.FunctionDef | ast.AsyncFunctionDef):
            return self.function(found, found.node, name)
        if isinstance(found.node, ast.ClassDef):
            return constructor(self.lookup, self.shapes, found, name, self.function)
        if isinstance(found.node, ast.Lambda):
            parameters = tuple(self._parameters(found.node.args, found.scope))
            return Signature(name, found.place, parameters)
        if isinstance(found.node, ast.Call) and depth < _MOST:
            return self._made(found, found.node, name, depth)
        if isinstance(found.node, NOT_CALLABLE) and b"global " not in found.module.source:
            return anything(name, found.place) if getattr(found.node, "value", 0) is None else None
        return anything(name, found.place)

    def function(self, found: Defined, node: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> Signature:
        """A function; a method as it is called: `self` is left out of a bound one."""
        decorators = [self.lookup.outside(d, found.scope) for d in node.decorator_list]
        if any(d not in known.HARMLESS_DECORATORS for d in decorators):
            return replace(anything(name, found.place), is_async=isinstance(node, ast.AsyncFunctionDef))
        takes_first = "builtins.classmethod" in decorators or (
            found.is_bound and "builtins.staticmethod" not in decorators
        )
        returns = awaited(self.shapes.of(node.returns, found.scope)) if node.returns else UNKNOWN
        manager = next((known.MANAGERS[d] for d in decorators if d in known.MANAGERS), None)
        return Signature(
            name=name,
            place=found.place,
            parameters=tuple(self._parameters(node.args, found.scope))[int(takes_first) :],
            returns=Shape("named", name=manager, text=returns.text, item=returns.item) if manager else returns,
            is_async=isinstance(node, ast.AsyncFunctionDef) and not manager,
            is_generator=not manager and yields(node),
        )

    def _parameters(self, arguments: ast.arguments, scope: Scope) -> Iterator[Parameter]:
        positional = [*arguments.posonlyargs, *arguments.args]
        defaults = [*[None] * (len(positional) - len(arguments.defaults)), *arguments.defaults]
        for index, (argument, default) in enumerate(zip(positional, defaults, strict=True)):
            yield self._parameter(argument, default, scope, positional_only=index < len(arguments.posonlyargs))
        for argument, given in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
            yield self._parameter(argument, given, scope)
        for variadic in (arguments.vararg, arguments.kwarg):
            if variadic:
                yield replace(self._parameter(variadic, None, scope), required=False, variadic=True)

    def _parameter(
        self, node: ast.arg, default: ast.expr | None, scope: Scope, *, positional_only: bool = False
    ) -> Parameter:
        marker, required = marker_of(self.lookup, node.annotation, default, scope)
        return Parameter(
            name=node.arg,
            place=scope.module.place(node),
            shape=self.shapes.of(node.annotation, scope) if node.annotation else UNKNOWN,
            annotated=node.annotation is not None,
            required=required,
            positional_only=positional_only,
            marker=marker,
        )

    def _made(self, found: Defined, node: ast.Call, name: str, depth: int) -> Signature | None:
        """What a call gave: `partial(f, 1)`, `cache(f)`, an object whose class has `__call__`."""
        maker = self.lookup.outside(node.func if isinstance(node.func, ast.Call) else node, found.scope)
        inner = self.of(self._argument(node, found), name, depth + 1) if node.args else None
        if inner is not None and maker == "functools.partial":
            return _partial(inner, node)
        if inner is not None and maker in known.HARMLESS_DECORATORS and maker not in known.MANAGERS:
            return inner
        cls = self.lookup.class_of(found)
        if cls is None:
            return anything(name, found.place)
        called = self.lookup.member(cls, "__call__")
        if called is None:
            return None
        is_method = isinstance(called, Defined) and not isinstance(called.node, ast.expr)
        return self.of(replace(called, is_bound=True) if is_method and isinstance(called, Defined) else UNREAD, name)

    def _argument(self, node: ast.Call, found: Defined) -> Meaning | None:
        first = node.args[0]
        if isinstance(first, ast.Name | ast.Attribute):
            return self.lookup.resolve(first, found.scope)
        return replace(found, node=first)


def _partial(inner: Signature, node: ast.Call) -> Signature:
    """`partial(f, 1, size=2)` takes what is left, and needs no size."""
    if any(isinstance(a, ast.Starred) for a in node.args) or any(k.arg is None for k in node.keywords):
        return anything(inner.name, inner.place)
    given = {keyword.arg for keyword in node.keywords}
    fixed = [p for p in inner.parameters if not p.variadic][: len(node.args) - 1]
    left = [p for p in inner.parameters if p not in fixed]
    return replace(inner, parameters=tuple(replace(p, required=p.required and p.name not in given) for p in left))


def awaited(shape: Shape) -> Shape:
    """What one gets from a function that returns an `Awaitable`."""
    if shape.name in known.AWAITABLES:
        return awaited(shape.item or UNKNOWN)
    if shape.kind == "union" and any(option.name in known.AWAITABLES for option in shape.options):
        return union([awaited(option) for option in shape.options], shape.text)
    return shape


def yields(function: ast.AST) -> bool:
    """Whether a function yields itself; those within it are others."""
    waiting = list(getattr(function, "body", []))
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            waiting += ast.iter_child_nodes(node)
    return False
