"""What the names of a module or a class body are bound to, statement by statement, without running any.

A later binding replaces an earlier one. Where the way is open (`if`, `try`), all of them are kept: the names have
alternatives.
"""

import ast
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Assigned:
    """`name = value`; None where the value is no one expression (a loop, a `with`, an unpacking)."""

    statement: ast.AST
    value: ast.expr | None = None
    is_alias: bool = False
    """Declared as a type: `TypeAlias`, `type X = ...`."""


@dataclass(frozen=True, slots=True)
class Imported:
    """`from module import name`; a module itself where `name` is ""."""

    statement: ast.AST
    module: str
    name: str = ""


Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
Binding = Definition | Assigned | Imported


@dataclass(frozen=True, slots=True)
class Bound:
    """What one name is bound to: one thing, or alternatives. `stars` is how many `import *` stand before it."""

    alternatives: tuple[Binding, ...]
    stars: int = 0


@dataclass
class Names:
    """The names of one block. `stars` are the modules of all `from module import *`, in order."""

    module: str
    is_package: bool
    bound: dict[str, Bound] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)
    outer: "Names | None" = None

    def get(self, name: str) -> tuple[Binding, ...]:
        found = self.bound.get(name)
        if found is None:
            return self.outer.get(name) if self.outer else ()
        return found.alternatives

    def bind(self, name: str, *alternatives: Binding) -> None:
        self.bound[name] = Bound(alternatives, len(self.stars))

    def branch(self, body: Iterable[ast.stmt]) -> "Names":
        """The names of a block that may or may not run."""
        inner = Names(self.module, self.is_package, stars=self.stars, outer=self)
        inner.read(body)
        return inner

    def join(self, *branches: "Names") -> None:
        """One of the branches ran, nobody knows which."""
        for name in dict.fromkeys(name for branch in branches for name in branch.bound):
            self.bind(name, *dict.fromkeys(one for branch in branches for one in branch.get(name)))

    def read(self, body: Iterable[ast.stmt]) -> None:
        for node in body:
            reader = _READERS.get(type(node))
            if reader:
                reader(node, self)


def names_of(body: Iterable[ast.stmt], module: str, is_package: bool) -> Names:
    names = Names(module, is_package)
    names.read(body)
    return names


def _define(node: Definition, names: Names) -> None:
    names.bind(node.name, node)


def _assign(node: ast.Assign, names: Names) -> None:
    for target in node.targets:
        _unpack(target, node.value, node, names)


def _unpack(target: ast.expr, value: ast.expr | None, node: ast.AST, names: Names) -> None:
    if isinstance(target, ast.Name):
        names.bind(target.id, Assigned(node, value))
    elif isinstance(target, ast.Starred):
        _unpack(target.value, None, node, names)
    elif isinstance(target, ast.Tuple | ast.List):
        values = value.elts if isinstance(value, ast.Tuple | ast.List) else []
        starred = any(isinstance(one, ast.Starred) for one in (*values, *target.elts))
        paired = len(values) == len(target.elts) and not starred
        for index, inner in enumerate(target.elts):
            _unpack(inner, values[index] if paired else None, node, names)


def _annotated(node: ast.AnnAssign, names: Names) -> None:
    if isinstance(node.target, ast.Name) and node.value is not None:
        is_alias = ast.unparse(node.annotation).endswith("TypeAlias")
        names.bind(node.target.id, Assigned(node, node.value, is_alias))


def _augmented(node: ast.AugAssign, names: Names) -> None:
    _unpack(node.target, None, node, names)


def _delete(node: ast.Delete, names: Names) -> None:
    for target in node.targets:
        if isinstance(target, ast.Name):
            names.bound.pop(target.id, None)


def _import(node: ast.Import, names: Names) -> None:
    for alias in node.names:
        first = alias.name.partition(".")[0]
        names.bind(alias.asname or first, Imported(node, alias.name if alias.asname else first))


def _import_from(node: ast.ImportFrom, names: Names) -> None:
    base = _absolute(node, names)
    for alias in node.names:
        if alias.name == "*":
            names.stars.append(base)
        else:
            names.bind(alias.asname or alias.name, Imported(node, base, alias.name))


def _absolute(node: ast.ImportFrom, names: Names) -> str:
    if not node.level:
        return node.module or ""
    parts = names.module.split(".")
    keep = len(parts) - node.level + int(names.is_package)
    return ".".join([*parts[: max(keep, 0)], *([node.module] if node.module else [])])


def _if(node: ast.If, names: Names) -> None:
    rest: list[ast.stmt] = node.orelse
    truth, is_certain = _truth(node.test)
    if truth is None:
        names.join(names.branch(node.body), names.branch(rest))
        return
    taken, other = (node.body, rest) if truth else (rest, node.body)
    if not is_certain:
        names.bound |= names.branch(other).bound
    names.read(taken)


def _truth(test: ast.expr) -> tuple[bool | None, bool]:
    """Whether a condition holds, if that can be known; and whether it does for certain. `TYPE_CHECKING` holds where
    types are read, but what stands in its `else` exists when the program runs."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        truth, is_certain = _truth(test.operand)
        return (None if truth is None else not truth), is_certain
    if isinstance(test, ast.Name | ast.Attribute) and ast.unparse(test).endswith("TYPE_CHECKING"):
        return True, False
    if isinstance(test, ast.Constant):
        return bool(test.value), True
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        return _compared(ast.unparse(test.left), test.ops[0], test.comparators[0]), True
    return None, True


def _compared(left: str, operator: ast.cmpop, right: ast.expr) -> bool | None:
    if left == "__name__" and isinstance(right, ast.Constant) and right.value == "__main__":
        return isinstance(operator, ast.NotEq)
    if left == "sys.version_info" and isinstance(right, ast.Tuple):
        wanted = tuple(e.value for e in right.elts if isinstance(e, ast.Constant) and isinstance(e.value, int))
        if len(wanted) == len(right.elts) and type(operator) in _ORDER:
            return _ORDER[type(operator)](sys.version_info[:], wanted)
    return None


_ORDER: dict[type[ast.cmpop], Callable[[tuple[object, ...], tuple[int, ...]], bool]] = {
    ast.GtE: lambda version, wanted: version >= wanted,
    ast.Gt: lambda version, wanted: version > wanted,
    ast.Lt: lambda version, wanted: version < wanted,
    ast.LtE: lambda version, wanted: version <= wanted,
}


def _try(node: ast.Try, names: Names) -> None:
    whole = names.branch([*node.body, *node.orelse])
    handlers = [names.branch(h.body) for h in node.handlers if not _leaves(h.body)]
    names.join(whole, *handlers)
    names.read(node.finalbody)


def _leaves(body: list[ast.stmt]) -> bool:
    """Whether a block ends without going on behind it."""
    last = body[-1]
    if isinstance(last, ast.Expr) and isinstance(last.value, ast.Call):
        return ast.unparse(last.value.func) in ("sys.exit", "exit", "quit", "os._exit")
    return isinstance(last, ast.Raise | ast.Return | ast.Continue | ast.Break)


def _loop(node: ast.For | ast.AsyncFor | ast.While, names: Names) -> None:
    inner = names.branch([])
    if not isinstance(node, ast.While):
        _unpack(node.target, None, node, inner)
    inner.read(node.body)
    names.join(inner, names.branch([]))
    names.join(names.branch(node.orelse), names.branch([]))


def _with(node: ast.With | ast.AsyncWith, names: Names) -> None:
    for item in node.items:
        if item.optional_vars is not None:
            _unpack(item.optional_vars, None, node, names)
    names.read(node.body)


def _match(node: ast.Match, names: Names) -> None:
    names.join(*(names.branch(case.body) for case in node.cases), names.branch([]))


_READERS: dict[type[ast.stmt], Callable[..., None]] = {
    ast.ClassDef: _define,
    ast.FunctionDef: _define,
    ast.AsyncFunctionDef: _define,
    ast.Assign: _assign,
    ast.AnnAssign: _annotated,
    ast.AugAssign: _augmented,
    ast.Delete: _delete,
    ast.Import: _import,
    ast.ImportFrom: _import_from,
    ast.If: _if,
    ast.Try: _try,
    ast.TryStar: _try,
    ast.For: _loop,
    ast.AsyncFor: _loop,
    ast.While: _loop,
    ast.With: _with,
    ast.AsyncWith: _with,
    ast.Match: _match,
}
if sys.version_info >= (3, 12):

    def _type_alias(node: ast.TypeAlias, names: Names) -> None:
        names.bind(node.name.id, Assigned(node, node.value, is_alias=True))

    _READERS[ast.TypeAlias] = _type_alias
