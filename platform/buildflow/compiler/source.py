"""Handlers and row types, read from source without importing them: `ref -> Signature | Shape`.

The standard library's `ast` does the reading: it gives the line and column of every parameter, and costs a
twentieth of what importing a documentation tool would (docs/decisions/0002).
"""

import ast
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from buildflow.diagnostics import did_you_mean
from buildflow.ir.signature import UNKNOWN, Parameter, Place, Shape, ShapeField, ShapeKind, Signature


@dataclass(frozen=True)
class Module:
    """One parsed file: what it defines, and what its names were imported as. `lines` are its bytes: `ast` counts
    columns in them."""

    name: str
    file: str
    is_package: bool
    definitions: dict[str, ast.stmt]
    imports: dict[str, str]
    stars: tuple[str, ...] = ()
    lines: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Problem:
    """Why a reference could not be read: a code, words, a hint, and the place in the source if there is one."""

    code: str
    message: str
    hint: str = ""
    place: Place | None = None
    wrong: str = ""
    right: str = ""


_BUILTINS: dict[str, ShapeKind] = {
    "str": "string",
    "int": "integer",
    "float": "float",
    "bool": "boolean",
    "bytes": "bytes",
    "datetime.datetime": "timestamp",
    "datetime.date": "date",
    "datetime.time": "time",
    "dict": "mapping",
    "None": "none",
    "list": "list",
    "tuple": "list",
    "set": "list",
}
_MANY = {
    *("list", "tuple", "set", "frozenset", "typing.List", "typing.Tuple", "typing.Set"),
    *(
        f"{module}.{name}"
        for module in ("typing", "collections.abc")
        for name in ("Sequence", "Iterable", "Iterator", "Generator", "AsyncIterator", "AsyncGenerator",
                     "AsyncIterable", "Collection")
    ),
}  # fmt: skip
_MAPPINGS = {
    *("dict", "typing.Dict"),
    *(f"{module}.{name}" for module in ("typing", "collections.abc") for name in ("Mapping", "MutableMapping")),
}
_TRANSPARENT = {"typing.Annotated", "typing_extensions.Annotated", "typing.Required", "typing.NotRequired",
                "typing.Final", "typing.ReadOnly"}  # fmt: skip
_RECORDS = {"pydantic.BaseModel", "typing.NamedTuple", "typing.TypedDict", "typing_extensions.TypedDict"}
_OPAQUE = {"fastapi", "starlette", "collections", "_collections_abc"}
"""Packages whose classes are never rows or elements: known by name, not worth reading."""
_MAX_DEPTH = 12
_UNREAD = ast.Pass(lineno=1, col_offset=0)
"""Stands for a definition whose source is not there to be read."""


def shown_path(path: Path) -> str:
    """A path as the user would write it: relative to where they are."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


@dataclass
class Sources:
    """The modules that one compilation looks at, each read once. `root` is the project's folder; `being_read`
    are the classes whose fields are being read, so that a type that holds itself ends."""

    root: Path
    modules: dict[str, Module | Problem | None] = field(default_factory=dict)
    being_read: set[str] = field(default_factory=set)

    def signature(self, reference: str) -> Signature | Problem:
        """What `package.module:function` takes and gives; a class as its constructor."""
        found = self._definition(reference)
        if isinstance(found, Problem):
            return found
        module, node = found
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return self._function(reference, node, module)
        if isinstance(node, ast.ClassDef):
            return self._constructor(reference, node, module)
        return Signature(
            name=reference,
            parameters=(_anything(_place(module, node)),),
            place=_place(module, node),
        )

    def shape(self, reference: str) -> Shape | Problem:
        """The type that `package.module:Class` names."""
        found = self._definition(reference)
        if isinstance(found, Problem):
            return found
        module, node = found
        return self._shape_of_definition(module, node, depth=0)

    def names(self, reference: str) -> Problem | None:
        """Why `package.module:Name` names nothing, if it does not."""
        found = self._definition(reference)
        return found if isinstance(found, Problem) else None

    # finding

    def module(self, name: str) -> Module | Problem | None:
        """A module by its dotted name; `None` when no file holds it."""
        if name not in self.modules:
            self.modules[name] = self._read(name)
        return self.modules[name]

    def _read(self, name: str) -> Module | Problem | None:
        path = self._file_of(name)
        if path is None:
            return None
        shown = shown_path(path)
        try:
            source = path.read_bytes()
            with warnings.catch_warnings(action="ignore"):
                tree = ast.parse(source, filename=str(path))
        except SyntaxError as exc:
            place = Place(file=shown, line=exc.lineno or 1, column=exc.offset or 1)
            return Problem("BF308", f"{shown} is no valid Python: {exc.msg}", place=place)
        except (ValueError, RecursionError, MemoryError) as exc:  # null bytes; an expression nested too deeply
            return Problem("BF308", f"{shown} is no valid Python: {exc}", place=Place(file=shown))
        except OSError as exc:
            return Problem("BF302", f"{shown} cannot be read: {(exc.strerror or 'it failed').lower()}")
        definitions: dict[str, ast.stmt] = {}
        imports: dict[str, str] = {}
        stars: list[str] = []
        is_package = path.name == "__init__.py"
        for node in _top_level(tree.body):
            _note(node, name, is_package, definitions, imports, stars)
        lines = tuple(source.splitlines())
        return Module(name, shown, is_package, definitions, imports, tuple(stars), lines)

    def _file_of(self, name: str) -> Path | None:
        parts = name.split(".")
        for base in (self.root, *(Path(p) for p in sys.path if p)):
            stem = base.joinpath(*parts)
            if (stem / "__init__.py").is_file():
                return stem / "__init__.py"
            if stem.with_name(stem.name + ".py").is_file():
                return stem.with_name(stem.name + ".py")
        return None

    def _definition(self, reference: str) -> tuple[Module, ast.stmt] | Problem:
        """The statement that defines what a reference names; `_UNREAD` where it exists and cannot be read."""
        name, _, attribute = reference.partition(":")
        module = self.module(name)
        if isinstance(module, Problem):
            return module
        if module is None and _is_compiled(name):
            return Module(name, name, False, {}, {}), _UNREAD
        if module is None:
            parent = name.rpartition(".")[0]
            hint = did_you_mean(name.rpartition(".")[2], self._siblings(parent))
            where = f' ("{parent}" exists)' if parent and self._exists(parent) else ""
            return Problem("BF302", f'there is no module "{name}"{where}', hint)
        node: ast.stmt | None = None
        owner = module
        for part in attribute.split("."):
            found = self._member(owner, part) if node is None else self._inner(owner, node, part)
            if found is None and node is None and self._may_hold(owner, part):
                return owner, _UNREAD
            if found is None:
                hint = did_you_mean(part, self._public(owner, node), f"define it in {owner.file}")
                return Problem("BF303", f'module "{name}" has no "{attribute}"', hint)
            owner, node = found
        assert node is not None
        return owner, node

    def _public(self, module: Module, node: ast.stmt | None) -> list[str]:
        """The names that a module, or a class in it, shows."""
        named = [i for _, cls in self._mro(module, node) for i in cls.body] if isinstance(node, ast.ClassDef) else []
        names = [getattr(item, "name", "_") for item in named] if node else [*module.definitions, *module.imports]
        return [name for name in names if not name.startswith("_")]

    def _may_hold(self, module: Module, name: str) -> bool:
        """Whether a module may have a name that its source does not show: imported from what has no source, or
        made up when asked for."""
        return (
            name in module.imports
            or "__getattr__" in module.definitions
            or any(not isinstance(self.module(star), Module) for star in module.stars)
        )

    def _siblings(self, parent: str) -> list[str]:
        folder = self.root.joinpath(*parent.split(".")) if parent else self.root
        if not folder.is_dir():
            return []
        files = [p.stem for p in folder.glob("*.py") if p.stem != "__init__"]
        return files + [p.parent.name for p in folder.glob("*/__init__.py")]

    def _exists(self, name: str) -> bool:
        return self.root.joinpath(*name.split(".")).is_dir() or self.module(name) is not None

    def _member(self, module: Module, name: str, depth: int = 0) -> tuple[Module, ast.stmt] | None:
        """A module's name, followed through its imports."""
        if name in module.definitions:
            return module, module.definitions[name]
        if depth > _MAX_DEPTH:
            return None
        if name in module.imports:
            return self._dotted(module.imports[name], depth + 1)
        for star in module.stars:
            other = self.module(star)
            if isinstance(other, Module) and (found := self._member(other, name, depth + 1)):
                return found
        return None

    def _dotted(self, name: str, depth: int = 0) -> tuple[Module, ast.stmt] | None:
        """The definition of `package.module.Name`."""
        parent, _, last = name.rpartition(".")
        if not parent or name.partition(".")[0] in _OPAQUE:
            return None
        module = self.module(parent)
        if isinstance(module, Module):
            return self._member(module, last, depth)
        outer = self._dotted(parent, depth + 1) if depth < _MAX_DEPTH else None
        return self._inner(*outer, last) if outer else None

    def _inner(self, module: Module, node: ast.stmt, name: str) -> tuple[Module, ast.stmt] | None:
        """A member of a class, inherited ones included; of an object, something that cannot be read."""
        if not isinstance(node, ast.ClassDef):
            return None if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else (module, _UNREAD)
        for owner, cls in self._mro(module, node):
            for item in cls.body:
                if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and item.name == name:
                    return owner, item
        return None if all(self._bases(module, node)) else (module, _UNREAD)

    # reading

    def _function(
        self, reference: str, node: ast.FunctionDef | ast.AsyncFunctionDef, module: Module, *, method: bool = False
    ) -> Signature:
        arguments = node.args
        positional = [*arguments.posonlyargs, *arguments.args]
        first_default = len(positional) - len(arguments.defaults)
        parameters = [self._parameter(a, module, i < first_default) for i, a in enumerate(positional)][int(method) :]
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
            parameters.append(self._parameter(argument, module, default is None))
        for variadic in (arguments.vararg, arguments.kwarg):
            if variadic:
                parameters.append(self._parameter(variadic, module, False).model_copy(update={"variadic": True}))
        if any(not _is_known_decorator(d) for d in node.decorator_list):
            parameters = [_anything(_place(module, node))]
        return Signature(
            name=reference,
            parameters=tuple(parameters),
            returns=self._shape(node.returns, module) if node.returns else UNKNOWN,
            is_async=isinstance(node, ast.AsyncFunctionDef),
            is_generator=_yields(node),
            place=_place(module, node),
        )

    def _constructor(self, reference: str, node: ast.ClassDef, module: Module) -> Signature:
        place = _place(module, node)
        returns = Shape(kind="named", name=_canonical(f"{module.name}.{node.name}"), text=node.name)
        for owner, cls in self._mro(module, node):
            init = _method(cls, "__init__")
            if init is not None:
                found = self._function(reference, init, owner, method=True)
                return found.model_copy(update={"returns": returns, "place": place})
        record = self._shape_of_definition(module, node, depth=0)
        if record.kind != "record":
            known = all(owner is not None for owner in self._bases(module, node))
            rest = () if known else (_anything(place),)
            return Signature(name=reference, parameters=rest, returns=returns, place=place)
        parameters = tuple(
            Parameter(name=f.name, shape=f.shape, annotated=True, required=f.required, place=f.place or place)
            for f in record.fields
        )
        return Signature(name=reference, parameters=parameters, returns=record, place=place)

    def _parameter(self, node: ast.arg, module: Module, required: bool) -> Parameter:
        return Parameter(
            name=node.arg,
            shape=self._shape(node.annotation, module) if node.annotation else UNKNOWN,
            annotated=node.annotation is not None,
            required=required,
            place=_place(module, node),
        )

    def _shape(self, node: ast.expr, module: Module, depth: int = 0) -> Shape:
        """An annotation as a Shape. What cannot be known is `unknown`."""
        text = ast.unparse(node)
        if depth > _MAX_DEPTH:
            return UNKNOWN
        if isinstance(node, ast.Constant):
            if node.value is None:
                return Shape(kind="none", text="None")
            if isinstance(node.value, str):
                try:
                    return self._shape(ast.parse(node.value, mode="eval").body, module, depth + 1)
                except (SyntaxError, ValueError):
                    return UNKNOWN
            return UNKNOWN
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            sides = (self._shape(side, module, depth + 1) for side in (node.left, node.right))
            return union(tuple(sides), text)
        if isinstance(node, ast.Subscript):
            return self._subscript(node, module, text, depth)
        if isinstance(node, ast.Name | ast.Attribute):
            return self._named(self._qualified(node, module), module, text, depth)
        return UNKNOWN

    def _subscript(self, node: ast.Subscript, module: Module, text: str, depth: int) -> Shape:
        name = self._qualified(node.value, module)
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if name in _TRANSPARENT:
            return self._shape(inner[0], module, depth + 1)
        if name == "typing.Optional":
            return union((self._shape(inner[0], module, depth + 1), Shape(kind="none")), text)
        if name == "typing.Union":
            return union(tuple(self._shape(item, module, depth + 1) for item in inner), text)
        if name == "typing.Literal":
            return _literal(inner, text)
        if name in _MANY:
            return Shape(kind="list", text=text, item=self._shape(inner[0], module, depth + 1))
        if name in _MAPPINGS:
            return Shape(kind="mapping", text=text)
        shape = self._named(name, module, text, depth)
        return shape.model_copy(update={"item": self._shape(inner[0], module, depth + 1), "text": text})

    def _named(self, name: str, module: Module, text: str, depth: int) -> Shape:
        if name in _BUILTINS:
            return Shape(kind=_BUILTINS[name], text=text)
        if name in _MANY:
            return Shape(kind="list", text=text)
        if name in _MAPPINGS:
            return Shape(kind="mapping", text=text)
        if name in ("typing.Any", "object", ""):
            return UNKNOWN
        found = self._member(module, name) if "." not in name else self._dotted(name)
        if found is None:
            return Shape(kind="named", name=_canonical(name), text=text) if "." in name else UNKNOWN
        return self._shape_of_definition(*found, depth=depth + 1).model_copy(update={"text": text})

    def _qualified(self, node: ast.expr, module: Module) -> str:
        """The dotted name that an expression stands for in this module."""
        if isinstance(node, ast.Attribute):
            outer = self._qualified(node.value, module)
            return f"{outer}.{node.attr}" if outer else ""
        if not isinstance(node, ast.Name):
            return ""
        if node.id in module.definitions:
            return f"{module.name}.{node.id}"
        return module.imports.get(node.id, node.id)

    def _shape_of_definition(self, module: Module, node: ast.stmt, depth: int) -> Shape:
        if depth > _MAX_DEPTH:
            return UNKNOWN
        if isinstance(node, ast.Assign):
            return self._shape(node.value, module, depth + 1)
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            return self._shape(node.value, module, depth + 1)
        if sys.version_info >= (3, 12) and isinstance(node, ast.TypeAlias):
            return self._shape(node.value, module, depth + 1)
        if not isinstance(node, ast.ClassDef):
            return UNKNOWN
        name = _canonical(f"{module.name}.{node.name}")
        place = _place(module, node)
        if name in self.being_read or not self._is_record(module, node):
            return Shape(kind="named", name=name, text=node.name, place=place)
        fields: dict[str, ShapeField] = {}
        self.being_read.add(name)
        for owner, cls in reversed(list(self._mro(module, node))):
            fields |= {f.name: f for f in self._fields(owner, cls, depth)}
        self.being_read.discard(name)
        return Shape(kind="record", name=name, text=node.name, fields=tuple(fields.values()), place=place)

    def _fields(self, module: Module, node: ast.ClassDef, depth: int) -> Iterator[ShapeField]:
        total = not any(
            k.arg == "total" and isinstance(k.value, ast.Constant) and k.value.value is False for k in node.keywords
        )
        for item in node.body:
            if not isinstance(item, ast.AnnAssign) or not isinstance(item.target, ast.Name):
                continue
            head = item.annotation.value if isinstance(item.annotation, ast.Subscript) else item.annotation
            qualified = self._qualified(head, module)
            if qualified in ("typing.ClassVar", "dataclasses.InitVar", "dataclasses.KW_ONLY"):
                continue
            if item.target.id == "model_config":
                continue
            has_constant = isinstance(item.value, ast.Constant) and isinstance(
                item.value.value, str | int | float | bool | None
            )
            yield ShapeField(
                name=item.target.id,
                shape=self._shape(item.annotation, module, depth + 1),
                required=total and qualified != "typing.NotRequired" and not _has_default(item.value),
                has_constant=has_constant,
                constant=item.value.value if has_constant and isinstance(item.value, ast.Constant) else None,
                place=_place(module, item.target),
            )

    def _is_record(self, module: Module, node: ast.ClassDef) -> bool:
        for owner, cls in self._mro(module, node):
            decorators = {self._qualified(d.func if isinstance(d, ast.Call) else d, owner) for d in cls.decorator_list}
            if decorators & {"dataclasses.dataclass", "pydantic.dataclasses.dataclass"}:
                return True
            bases = {self._qualified(base, owner) for base in cls.bases}
            if bases & _RECORDS:
                return True
        return False

    def _bases(self, module: Module, node: ast.ClassDef) -> Iterator[tuple[Module, ast.ClassDef] | None]:
        """The base classes; `None` for one that is defined where nothing can be read."""
        for base in node.bases:
            name = self._qualified(base.value if isinstance(base, ast.Subscript) else base, module)
            if name in _RECORDS or name in ("object", "typing.Protocol", "typing.Generic", "abc.ABC"):
                continue
            found = self._dotted(name) if "." in name else self._member(module, name)
            yield (found[0], found[1]) if found and isinstance(found[1], ast.ClassDef) else None

    def _mro(self, module: Module, node: ast.ClassDef, depth: int = 0) -> Iterator[tuple[Module, ast.ClassDef]]:
        """The class and what it inherits from, nearest first, as far as it can be read."""
        yield module, node
        if depth < _MAX_DEPTH:
            for base in self._bases(module, node):
                if base:
                    yield from self._mro(*base, depth=depth + 1)


def union(shapes: tuple[Shape, ...], text: str) -> Shape:
    """`A | None` is A, nullable; several others are a union."""
    flat = [o for s in shapes for o in (s.options if s.kind == "union" else (s,))]
    nullable = any(s.kind == "none" or s.nullable for s in (*flat, *shapes))
    real = [s for s in flat if s.kind != "none"]
    if not real:
        return Shape(kind="none", text=text)
    if len(real) == 1:
        return real[0].model_copy(update={"nullable": nullable, "text": text})
    if any(s.kind == "unknown" for s in real):
        return UNKNOWN
    return Shape(kind="union", text=text, nullable=nullable, options=tuple(real))


def _literal(values: list[ast.expr], text: str) -> Shape:
    kinds: set[ShapeKind] = set()
    for value in values:
        constant = value.value if isinstance(value, ast.Constant) else None
        kinds.add("boolean" if isinstance(constant, bool) else "integer" if isinstance(constant, int) else "string")
    return Shape(kind=kinds.pop(), text=text) if len(kinds) == 1 else UNKNOWN


def _canonical(name: str) -> str:
    """Names that `buildflow.types` re-exports are known by that module's name."""
    if name.startswith("buildflow.types."):
        return f"buildflow.types.{name.rpartition('.')[2]}"
    return name


def _is_compiled(name: str) -> bool:
    """Whether a module exists that has no Python source: built in, or an extension."""
    if name in sys.builtin_module_names:
        return True
    stem = Path(*name.split("."))
    return any(Path(base, f"{stem}{suffix}").is_file() for base in sys.path for suffix in EXTENSION_SUFFIXES)


def _anything(place: Place) -> Parameter:
    """A function whose parameters cannot be read takes anything."""
    return Parameter(name="arguments", required=False, variadic=True, place=place)


def _is_known_decorator(node: ast.expr) -> bool:
    """Decorators that leave the parameters as they are written."""
    text = ast.unparse(node.func if isinstance(node, ast.Call) else node)
    return text.rpartition(".")[2] in {
        *("contextmanager", "asynccontextmanager", "staticmethod", "override", "cache", "lru_cache", "wraps"),
    }


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """A module's statements, those below `if`, `with` and `try` included."""
    for node in body:
        if isinstance(node, ast.If):
            yield from _top_level([*node.body, *node.orelse])
        elif isinstance(node, ast.With):
            yield from _top_level(node.body)
        elif isinstance(node, ast.Try):
            inner = [*node.body, *(s for h in node.handlers for s in h.body), *node.orelse, *node.finalbody]
            yield from _top_level(inner)
        else:
            yield node


def _note(
    node: ast.stmt,
    module: str,
    is_package: bool,
    definitions: dict[str, ast.stmt],
    imports: dict[str, str],
    stars: list[str],
) -> None:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        definitions[node.name] = node
    elif isinstance(node, ast.Assign):
        names = (n.id for target in node.targets for n in ast.walk(target) if isinstance(n, ast.Name))
        definitions |= dict.fromkeys(names, node)
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        definitions[node.target.id] = node
    elif sys.version_info >= (3, 12) and isinstance(node, ast.TypeAlias):
        definitions[node.name.id] = node
    elif isinstance(node, ast.Import):
        for alias in node.names:
            imports[alias.asname or alias.name.partition(".")[0]] = (
                alias.name if alias.asname else alias.name.partition(".")[0]
            )
    elif isinstance(node, ast.ImportFrom):
        base = _absolute(node, module, is_package)
        for alias in node.names:
            if alias.name == "*":
                stars.append(base)
            else:
                imports[alias.asname or alias.name] = f"{base}.{alias.name}"


def _absolute(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    keep = len(parts) - node.level + int(is_package)
    return ".".join([*parts[:keep], *([node.module] if node.module else [])])


def _place(module: Module, node: ast.AST) -> Place:
    line, offset = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
    before = module.lines[line - 1][:offset] if line <= len(module.lines) else b""
    return Place(file=module.file, line=line, column=len(before.decode("utf-8", "replace")) + 1)


def _method(node: ast.ClassDef, name: str) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    for item in node.body:
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and item.name == name:
            return item
    return None


def _yields(node: ast.AST) -> bool:
    """Whether the function itself yields, inner functions aside."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(child, ast.Yield | ast.YieldFrom) or _yields(child):
            return True
    return False


def _has_default(value: ast.expr | None) -> bool:
    """Whether a field has a default; `field(...)` and `Field(...)` only with `default` or `default_factory`."""
    if value is None:
        return False
    if isinstance(value, ast.Call) and ast.unparse(value.func).rpartition(".")[2] in ("field", "Field"):
        first = value.args[0] if value.args else None
        if first is not None:
            return not (isinstance(first, ast.Constant) and first.value is ...)
        return any(k.arg in ("default", "default_factory") for k in value.keywords)
    return True
