"""What a name means: followed through imports, aliases, packages and classes to what defines it.

Three answers differ: a meaning; `Unread`, where something is there or may be and cannot be read; None, where surely
nothing is there.
"""

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from buildflow.compiler.source import known
from buildflow.compiler.source.bindings import Assigned, Binding, Definition, Imported, Names, names_of
from buildflow.compiler.source.modules import Module, Modules
from buildflow.ir.signature import Place


@dataclass(frozen=True, slots=True, eq=False)
class Defined:
    """A class, a function, or the expression that a name was assigned; `path` is its name within its module, `owner`
    the class whose body it is in, `reached` the class that it was asked of, which may have inherited it; `is_bound`
    where an object was asked."""

    module: Module
    node: Definition | ast.expr
    path: str
    statement: ast.AST
    owner: "Defined | None" = None
    reached: "Defined | None" = None
    is_alias: bool = False
    is_bound: bool = False

    @property
    def name(self) -> str:
        return known.canonical(f"{self.module.name}.{self.path}")

    @property
    def place(self) -> Place:
        return self.module.place(self.statement)

    @property
    def scope(self) -> "Scope":
        return Scope(self.module, self.owner, self.reached or self.owner)


@dataclass(frozen=True, slots=True)
class Outside:
    """A name of a package that is never read: `datetime.date`, `typing.Optional`, `fastapi.Query`."""

    name: str


@dataclass(frozen=True, slots=True)
class Package:
    """A module."""

    name: str


@dataclass(frozen=True, slots=True)
class Unread:
    """Something that cannot be read; `place` is the nearest place to show."""

    place: Place | None = None


UNREAD: Final = Unread()
Meaning = Defined | Outside | Package | Unread


@dataclass(frozen=True, slots=True)
class Scope:
    """Where an expression stands: a module, a class body in it; `me` is what `Self` means."""

    module: Module
    owner: Defined | None = None
    me: Defined | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """From a class to one of its bases: the base, and the types that it was given (`Base[int]`)."""

    base: Defined
    arguments: tuple[ast.expr, ...]
    scope: Scope


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A class in the order of inheritance; `steps` lead to it. Its meaning is None where it cannot be known."""

    meaning: Defined | Outside | None
    steps: tuple[Step, ...] = ()


@dataclass
class Lookup:
    """Finds what names mean. Each name and each class is looked up once."""

    modules: Modules
    _bodies: dict[ast.ClassDef, Names] = field(default_factory=dict)
    _ancestry: dict[ast.AST, tuple[Ancestor, ...]] = field(default_factory=dict)
    _members: dict[tuple[ast.AST, str], Meaning | None] = field(default_factory=dict)
    _types: dict[tuple[ast.AST, str], Meaning | None] = field(default_factory=dict)
    _opaque: dict[str, bool] = field(default_factory=dict)

    # names

    def name(self, module: Module, name: str) -> Meaning | None:
        """What a name means in the code of a module, built-in names included."""
        found = self.own(module, name)
        if (found is None or found is UNREAD) and (builtin := known.builtin(name)):
            return Outside(builtin)
        return found

    def own(self, module: Module, name: str) -> Meaning | None:
        """What `module.name` means, submodules aside."""
        if name not in module.meanings:
            module.meanings[name] = UNREAD  # a circle of imports gives this
            module.meanings[name] = self._own(module, name)
        found: Meaning | None = module.meanings[name]
        return found

    def _own(self, module: Module, name: str) -> Meaning | None:
        bound = module.names.bound.get(name)
        unsure = module.changes_itself and not bound
        for star in reversed(module.names.stars[bound.stars if bound else 0 :]):
            found = self._exported(star, name)
            if found is not None and found is not UNREAD:
                return found
            unsure = unsure or found is UNREAD
        if bound:
            return self._one_of(bound.alternatives, module, None)
        return UNREAD if unsure else None

    def _exported(self, source: str, name: str) -> Meaning | None:
        """What `from source import *` gives a name."""
        module = self.modules.get(source)
        if not isinstance(module, Module):
            return UNREAD
        exported = module.exported
        if (name not in exported) if exported is not None else name.startswith("_"):
            return None
        if self.is_opaque(source):
            return Outside(known.canonical(f"{source}.{name}")) if exported or module.names.get(name) else None
        return self.own(module, name)

    def _one_of(self, alternatives: Iterable[Binding], module: Module, owner: Defined | None) -> Meaning | None:
        """The meaning of a name that is bound to one thing, or to alternatives that mean the same."""
        meanings = [self._bound(one, module, owner) for one in alternatives]
        first, *others = meanings
        if all(other == first for other in others):
            return first
        last = [one for one in meanings if isinstance(one, Defined)][-1:]
        return Unread(last[0].place if last else Place(module.file))

    def _bound(self, binding: Binding, module: Module, owner: Defined | None) -> Meaning | None:
        if isinstance(binding, Imported):
            return self._imported(binding, module)
        prefix = f"{owner.path}." if owner else ""
        if not isinstance(binding, Assigned):
            return Defined(module, binding, prefix + binding.name, binding, owner)
        value = binding.value
        if value is None:
            return Unread(module.place(binding.statement))
        if isinstance(value, ast.Name | ast.Attribute):
            found = self.resolve(value, Scope(module, owner))
            return Unread(module.place(binding.statement)) if found is None else found
        name = getattr(getattr(binding.statement, "target", None), "id", "") or _target(binding.statement)
        return Defined(module, value, prefix + name, binding.statement, owner, is_alias=binding.is_alias)

    def _imported(self, binding: Imported, module: Module) -> Meaning | None:
        found = self._dotted(binding.module, binding.name)
        return Unread(module.place(binding.statement)) if isinstance(found, Unread) else found

    def _dotted(self, package: str, name: str) -> Meaning | None:
        if self.is_opaque(package):
            return Outside(known.canonical(f"{package}.{name}" if name else package))
        if not name:
            return Package(package) if self.modules.get(package) is not None else UNREAD
        found = self.attribute(Package(package), name)
        if package.startswith("buildflow.types") and not isinstance(found, Defined):
            return Outside(known.canonical(f"{package}.{name}"))  # types of providers that are not installed
        return found

    def is_opaque(self, module: str) -> bool:
        """Whether a module's names are taken as they are."""
        top = module.partition(".")[0]
        if top not in self._opaque:
            self._opaque[top] = top in known.OPAQUE and not self.modules.finder.owns(top)
        return self._opaque[top]

    # attributes

    def resolve(self, node: ast.expr, scope: Scope) -> Meaning | None:
        """What a name or a dotted name means where it stands."""
        if isinstance(node, ast.Name):
            inner = self._in_body(node.id, scope.owner) if scope.owner else None
            return inner or self.name(scope.module, node.id)
        if isinstance(node, ast.Attribute):
            outer = self.resolve(node.value, scope)
            return self.attribute(outer, node.attr) if outer is not None else None
        return UNREAD

    def attribute(self, outer: Meaning, name: str) -> Meaning | None:
        """What `outer.name` means."""
        if isinstance(outer, Package):
            return self._of_module(outer.name, name)
        if isinstance(outer, Outside):
            return Outside(known.canonical(f"{outer.name}.{name}"))
        if isinstance(outer, Unread):
            return UNREAD
        if isinstance(outer.node, ast.ClassDef):
            return self.member(outer, name)
        if isinstance(outer.node, ast.FunctionDef | ast.AsyncFunctionDef):
            return UNREAD if outer.node.decorator_list else None
        return self._of_object(outer, name)

    def _of_module(self, package: str, name: str) -> Meaning | None:
        module = self.modules.get(package)
        if module is None and self.modules.finder.owns(package.partition(".")[0]):
            return None
        if not isinstance(module, Module):
            return UNREAD
        found = self.own(module, name)
        if (found is None or found is UNREAD) and self.modules.get(f"{package}.{name}") is not None:
            return Package(f"{package}.{name}")
        return found

    def _of_object(self, found: Defined, name: str) -> Meaning | None:
        """A method of an object that the module made: `service = Service()`."""
        cls = self.class_of(found)
        member = self.member(cls, name) if cls else None
        if cls and member is None and self.is_plain(cls) and not _may_be_set(name, cls.module, found.module):
            return None
        if not isinstance(member, Defined) or isinstance(member.node, ast.expr):
            return UNREAD  # its constructor may have set it
        return replace(member, is_bound=True)

    def class_of(self, found: Defined) -> Defined | None:
        """The class whose constructor made an object, if it is sure that it did."""
        if not isinstance(found.node, ast.Call):
            return None
        cls = self.resolve(found.node.func, found.scope)
        if not isinstance(cls, Defined) or not isinstance(cls.node, ast.ClassDef) or self.is_changed(cls):
            return None
        return None if self.member(cls, "__new__") is not None else cls

    def is_changed(self, cls: Defined) -> bool:
        """Whether a class may be other than it is written: a decorator or a metaclass has its hands in it."""
        decorators = {self.outside(d, cls.scope) for d in getattr(cls.node, "decorator_list", ())}
        return bool(decorators - known.HARMLESS_CLASS_DECORATORS - known.DATACLASS) or self.metaclass(cls)

    def _in_body(self, name: str, owner: Defined) -> Meaning | None:
        """A type that a class body defines for itself. Fields and methods whose names are those of types do not
        count: `date: date | None = None` means the module's."""
        key = (owner.node, name)
        if key not in self._types:
            self._types[key] = None  # `Line = Line` means the module's
            bound = self.body(owner).bound.get(name)
            types = [one for one in bound.alternatives if _may_be_type(one)] if bound else []
            self._types[key] = self._one_of(types, owner.module, owner) if types else None
        return self._types[key]

    def body(self, cls: Defined) -> Names:
        """The names that a class body binds."""
        assert isinstance(cls.node, ast.ClassDef)
        if cls.node not in self._bodies:
            self._bodies[cls.node] = names_of(cls.node.body, cls.module.name, cls.module.is_package)
        return self._bodies[cls.node]

    def member(self, cls: Defined, name: str) -> Meaning | None:
        """What `cls.name` means, inherited members included."""
        key = (cls.node, name)
        if key not in self._members:
            self._members[key] = UNREAD
            self._members[key] = self._member(cls, name)
        return self._members[key]

    def _member(self, cls: Defined, name: str) -> Meaning | None:
        for ancestor in self.ancestry(cls):
            found = ancestor.meaning
            if found is None or (isinstance(found, Outside) and found.name not in known.HARMLESS_BASES):
                return Unread(cls.place)
            if isinstance(found, Defined) and isinstance(found.node, ast.ClassDef):
                bound = self.body(found).bound.get(name)
                meaning = self._one_of(bound.alternatives, found.module, found) if bound else None
                if isinstance(meaning, Defined):
                    return replace(meaning, reached=cls)
                if meaning is not None:
                    return meaning
            elif isinstance(found, Defined):
                return Unread(cls.place)
        return Unread(cls.place) if self.metaclass(cls) else None

    # classes

    def ancestry(self, cls: Defined) -> tuple[Ancestor, ...]:
        """A class and what it inherits from, nearest first. A base of several is behind all that inherit from it."""
        if cls.node not in self._ancestry:
            self._ancestry[cls.node] = ()  # a class that inherits from itself
            found = [Ancestor(cls)]
            for base in getattr(cls.node, "bases", ()):
                found += self._inherited(base, cls.scope)
            self._ancestry[cls.node] = _each_once(found)
        return self._ancestry[cls.node]

    def _inherited(self, base: ast.expr, scope: Scope) -> list[Ancestor]:
        arguments: tuple[ast.expr, ...] = ()
        if isinstance(base, ast.Subscript):
            arguments = tuple(base.slice.elts) if isinstance(base.slice, ast.Tuple) else (base.slice,)
            base = base.value
        if isinstance(base, ast.Call):  # class Point(namedtuple("Point", "x y"))
            made = Defined(scope.module, base, "", base, scope.owner)
            return [Ancestor(made if self.outside(base, scope) in known.RECORD_CALLS else None)]
        found = self.resolve(base, scope)
        if isinstance(found, Outside):
            return [Ancestor(found)]
        if not isinstance(found, Defined):
            return [Ancestor(None)]
        if isinstance(found.node, ast.Subscript):  # Base = Page[Order]
            return self._inherited(found.node, found.scope)
        if isinstance(found.node, ast.ClassDef):
            step = Step(found, arguments, scope)
            return [Ancestor(a.meaning, (step, *a.steps)) for a in self.ancestry(found)]
        is_record = isinstance(found.node, ast.Call) and self.outside(found.node, found.scope) in known.RECORD_CALLS
        return [Ancestor(found if is_record else None)]

    def metaclass(self, cls: Defined) -> bool:
        """Whether a class, or one that it inherits from, has a metaclass that may do anything."""
        for ancestor in self.ancestry(cls):
            found = ancestor.meaning
            if isinstance(found, Defined) and isinstance(found.node, ast.ClassDef):
                for keyword in found.node.keywords:
                    if keyword.arg == "metaclass" and not self._is_harmless(keyword.value, found.scope):
                        return True
        return False

    def is_plain(self, cls: Defined) -> bool:
        """Whether a class of the project is surely nothing but what its body says, and says nothing of how it could
        be read from a request or from JSON."""
        if not isinstance(cls.node, ast.ClassDef) or not self.modules.finder.owns(cls.module.name.partition(".")[0]):
            return False
        if cls.node.decorator_list or cls.node.keywords or cls.module.changes_itself:
            return False
        bases = [a.meaning for a in self.ancestry(cls)[1:]]
        if any(not isinstance(base, Outside) or base.name != "builtins.object" for base in bases):
            return False
        return not any(name in self.body(cls).bound for name in known.READ_BY)

    def _is_harmless(self, node: ast.expr, scope: Scope) -> bool:
        found = self.resolve(node, scope)
        return isinstance(found, Outside) and found.name in known.HARMLESS_METACLASSES

    def outside(self, node: ast.expr, scope: Scope) -> str:
        """The dotted name of what is outside, calls aside (`lru_cache()` is `functools.lru_cache`), else ""."""
        found = self.resolve(node.func if isinstance(node, ast.Call) else node, scope)
        return found.name if isinstance(found, Outside) else ""


def _may_be_set(name: str, *modules: Module) -> bool:
    """Whether something may give an object an attribute that its class has not; the bodies of functions are known as
    text only."""
    signs = (f".{name}".encode(), b"setattr", b"getattr", b"__dict__", b"vars(")
    return any(sign in module.source for module in modules for sign in signs)


def _target(statement: ast.AST) -> str:
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id
    return getattr(getattr(statement, "name", None), "id", "")


def _may_be_type(binding: Binding) -> bool:
    if isinstance(binding, Assigned):
        return binding.is_alias or isinstance(binding.statement, ast.Assign)
    return isinstance(binding, ast.ClassDef | Imported)


def _each_once(found: list[Ancestor]) -> tuple[Ancestor, ...]:
    """The last of those that are there twice counts: `class D(B, C)` has what both inherit from behind both."""
    seen: dict[object, Ancestor] = {}
    for ancestor in reversed(found):
        meaning = ancestor.meaning
        seen.setdefault(meaning.node if isinstance(meaning, Defined) else meaning or ancestor, ancestor)
    return tuple(reversed(seen.values()))
