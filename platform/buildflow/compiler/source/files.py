"""Where a module's source is: found as the import system finds it, without importing anything."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.machinery import BYTECODE_SUFFIXES, EXTENSION_SUFFIXES
from pathlib import Path

_INIT = ("__init__.py", *(f"__init__{suffix}" for suffix in (*EXTENSION_SUFFIXES, *BYTECODE_SUFFIXES)))


@dataclass(frozen=True, slots=True)
class Location:
    """One module: its source, "" where there is none to read; the folders that hold its submodules."""

    file: str = ""
    folders: tuple[str, ...] = ()
    is_installed: bool = True
    """Not the project's own."""
    is_namespace: bool = False
    """A folder without `__init__.py`."""
    is_open: bool = False
    """It may hold submodules that no folder shows."""


class Finder:
    """Finds the modules of a project and of what is installed; each folder is listed once."""

    def __init__(self, root: Path) -> None:
        self.root = os.path.abspath(root)
        self._found: dict[str, Location | None] = {}
        self._listed: dict[str, frozenset[str]] = {}

    def find(self, name: str) -> Location | None:
        """A module by its dotted name; None where there is none."""
        if name not in self._found:
            self._found[name] = self._find(name)
        return self._found[name]

    def owns(self, name: str) -> bool:
        """Whether a module is the project's own."""
        found = self.find(name)
        return found is not None and not found.is_installed

    def below(self, package: str) -> list[str]:
        """The modules directly in a package by their last names, in order; the project's own for ""."""
        found = self.find(package) if package else None
        folders = found.folders if found else () if package else (self.root,)
        return sorted({name for folder in folders for name in self._modules_in(folder)})

    def _find(self, name: str) -> Location | None:
        parent, _, last = name.rpartition(".")
        if not last.isidentifier():
            return None
        if not parent:
            return Location() if last in sys.builtin_module_names else self._top(last)
        outer = self.find(parent)
        if outer is None:
            return None
        return self._search(outer.folders, last, outer.is_installed)

    def _top(self, name: str) -> Location | None:
        own = self._search((self.root,), name, False)
        if own and not own.is_namespace:
            return own
        folders = tuple(p for p in sys.path if p and os.path.abspath(p) != self.root)
        installed = self._search(folders, name, True)
        if own and installed and installed.is_namespace:  # Python puts the folders together, the project's first
            return replace(own, folders=(*own.folders, *installed.folders))
        return installed or own or _hooked(name)

    def _search(self, folders: tuple[str, ...], name: str, is_installed: bool) -> Location | None:
        """The first of the folders that has it wins; plain folders count only where none has any."""
        portions = []
        for folder in folders:
            if found := _in_folder(folder, name, self._names, is_installed):
                return found
            if name in self._names(folder) and os.path.isdir(inside := os.path.join(folder, name)):
                portions.append(inside)
        return Location("", tuple(portions), is_installed, is_namespace=True) if portions else None

    def _names(self, folder: str) -> frozenset[str]:
        if folder not in self._listed:
            try:
                self._listed[folder] = frozenset(os.listdir(folder))
            except OSError:
                self._listed[folder] = frozenset()
        return self._listed[folder]

    def _modules_in(self, folder: str) -> list[str]:
        names = self._names(folder)
        modules = [name.removesuffix(".py") for name in names if name.endswith(".py") and name != "__init__.py"]
        packages = [name for name in names if any(n.endswith(".py") for n in self._inside(folder, name))]
        return [name for name in (*modules, *packages) if name.isidentifier()]

    def _inside(self, folder: str, name: str) -> frozenset[str]:
        return frozenset() if "." in name else self._names(os.path.join(folder, name))


def _in_folder(
    folder: str, name: str, names_in: Callable[[str], frozenset[str]], is_installed: bool
) -> Location | None:
    """A package, an extension, a module, compiled code alone: the import system's own order."""
    names = names_in(folder)
    if name in names:
        inside = os.path.join(folder, name)
        init = next((n for n in _INIT if n in names_in(inside)), None)
        if init:
            return Location(os.path.join(inside, init) if init == "__init__.py" else "", (inside,), is_installed)
    if any(f"{name}{suffix}" in names for suffix in EXTENSION_SUFFIXES):
        return Location(is_installed=is_installed)
    if f"{name}.py" in names:
        return Location(os.path.join(folder, f"{name}.py"), (), is_installed)
    if any(f"{name}{suffix}" in names for suffix in BYTECODE_SUFFIXES):
        return Location(is_installed=is_installed)
    return None


def _hooked(name: str) -> Location | None:
    """A top-level module that an import hook finds: an editable installation, an archive."""
    for finder in sys.meta_path:
        find_spec = getattr(finder, "find_spec", None)
        spec = find_spec(name, None) if find_spec else None
        if spec is not None:
            file = str(spec.origin) if str(spec.origin).endswith(".py") and os.path.isfile(str(spec.origin)) else ""
            return Location(file, tuple(spec.submodule_search_locations or ()), is_open=not file)
    return None
