"""`package.module:function`: what it names, and what was meant where it names nothing."""

import sys
from collections.abc import Iterable

from buildflow.compiler.source.bindings import Bound, Imported
from buildflow.compiler.source.lookup import Defined, Lookup, Meaning, Outside, Package, Unread
from buildflow.compiler.source.modules import Module, Problem, Unreadable
from buildflow.diagnostics import closest, did_you_mean
from buildflow.ir.signature import Place


class References:
    """Finds what references name."""

    def __init__(self, lookup: Lookup) -> None:
        self.lookup = lookup
        self.modules = lookup.modules

    def find(self, reference: str) -> Meaning | Problem:
        """What a reference names, or why it names nothing."""
        name, _, attribute = reference.partition(":")
        module = self.modules.get(name)
        if isinstance(module, Problem):
            return module
        if module is None:
            return Unread(Place(name)) if self._is_made_up(name) else self._no_module(reference)
        found: Meaning = Package(name)
        parts = attribute.split(".")
        for index, part in enumerate(parts):
            inner = self._compiled(name, part) if isinstance(module, Unreadable) else self.lookup.attribute(found, part)
            if inner is None:
                return self._no_name(reference, found, parts, index)
            found = inner
        if isinstance(found, Unread) and found.place is None:
            return Unread(Place(module.file if isinstance(module, Module) else name))
        return found

    def _is_made_up(self, name: str) -> bool:
        """Whether a module exists that has no file of its own, as `os.path`."""
        return name in sys.modules and not self.modules.finder.owns(name.partition(".")[0])

    def _compiled(self, name: str, part: str) -> Meaning | None:
        """A name of a module without source; those that Python itself is made of can be asked."""
        if name not in sys.builtin_module_names or name not in sys.modules:
            return Unread()
        return Outside(f"{name}.{part}") if hasattr(sys.modules[name], part) else None

    # mistakes

    def _no_module(self, reference: str) -> Problem:
        name, _, attribute = reference.partition(":")
        parent, _, last = name.rpartition(".")
        exists = bool(parent) and self._is_there(parent)
        candidates = self.candidates(name)
        if exists or not parent:
            hint = did_you_mean(last, [candidate.rpartition(".")[2] for candidate in candidates])
        else:
            hint = did_you_mean(name, candidates)
        near = closest(name, candidates)
        where = f' ("{parent}" exists)' if exists else ""
        right = self._whole(f"{near}:{attribute}") if near else ""
        return Problem("BF302", f'there is no module "{name}"{where}', hint, wrong=reference, right=right)

    def candidates(self, name: str) -> list[str]:
        """The modules that `name` may be meant to be, as whole dotted names: those of the package that it names, or
        of the nearest one where a package on the way is misspelt."""
        package = ""
        for part in name.split(".")[:-1]:
            inside = f"{package}.{part}" if package else part
            if not self._is_there(inside):
                near = closest(part, self._below(package))
                inside = f"{package}.{near}" if package and near else near or ""
            if not inside:
                return []
            package = inside
        return [f"{package}.{last}" if package else last for last in self._below(package)]

    def _below(self, package: str) -> list[str]:
        own = self.modules.finder.below(package)
        return own if package else [*own, *sys.stdlib_module_names, "buildflow", "fastapi", "pydantic", "starlette"]

    def _is_there(self, package: str) -> bool:
        """Whether there is such a package to speak of; any folder beside an installed module would do for Python."""
        found = self.modules.finder.find(package)
        return found is not None and not (found.is_namespace and found.is_installed)

    def _no_name(self, reference: str, outer: Meaning, parts: list[str], index: int) -> Problem:
        name, part = reference.partition(":")[0], parts[index]
        names = sorted(self._public(outer))
        near = closest(part, names)
        right = self._whole(f"{name}:{'.'.join([*parts[:index], near, *parts[index + 1 :]])}") if near else ""
        message, otherwise, place = f'module "{name}" has no "{".".join(parts[: index + 1])}"', "", None
        module = self.modules.get(outer.name) if isinstance(outer, Package) else None
        if isinstance(module, Module):
            otherwise = f"define it in {module.file}"
            bound = module.names.bound.get(part)
            if bound is not None and isinstance(imported := bound.alternatives[0], Imported):
                message = f'module "{module.name}" imports "{imported.name}" from "{imported.module}", which has none'
                otherwise, place, names = "", module.place(imported.statement), self._exported(imported.module)
                return Problem("BF303", message, did_you_mean(imported.name, names), place, reference)
        return Problem("BF303", message, did_you_mean(part, names, otherwise), place, reference, right)

    def _whole(self, reference: str) -> str:
        """A reference if it names something, corrected further where it has to be; else ""."""
        found = self.find(reference)
        return found.right if isinstance(found, Problem) else reference

    def _exported(self, name: str) -> list[str]:
        module = self.modules.get(name)
        return sorted(self._public(Package(name))) if isinstance(module, Module) else self.candidates(name)

    def _public(self, outer: Meaning) -> Iterable[str]:
        """The names that a module or a class shows of its own."""
        if isinstance(outer, Package):
            module = self.modules.get(outer.name)
            if isinstance(module, Unreadable):
                yield from (n for n in vars(sys.modules[outer.name]) if not n.startswith("_"))
            elif isinstance(module, Module):
                yield from self._shown(module, set())
        elif isinstance(outer, Defined):
            for ancestor in self.lookup.ancestry(self.lookup.class_of(outer) or outer):
                if isinstance(ancestor.meaning, Defined) and hasattr(ancestor.meaning.node, "bases"):
                    yield from self._own(self.lookup.body(ancestor.meaning).bound)

    def _shown(self, module: Module, seen: set[str]) -> Iterable[str]:
        """A module's names, those that it has by `import *` among them."""
        yield from self._own(module.names.bound)
        seen.add(module.name)
        for star in module.names.stars:
            source = self.modules.get(star) if star not in seen and not self.lookup.is_opaque(star) else None
            if isinstance(source, Module):
                exported = source.exported
                yield from (n for n in self._shown(source, seen) if exported is None or n in exported)

    def _own(self, bound: dict[str, Bound]) -> Iterable[str]:
        for name, one in bound.items():
            binding = one.alternatives[0]
            borrowed = isinstance(binding, Imported) and self.lookup.is_opaque(binding.module)
            if not name.startswith("_") and not borrowed:
                yield name
