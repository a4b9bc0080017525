"""Modules, parsed and indexed; each file is read once."""

import ast
import gc
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import decode_source
from pathlib import Path
from typing import Any, Final

from buildflow.compiler.source.bindings import Names, names_of
from buildflow.compiler.source.declarations import refused
from buildflow.compiler.source.files import Finder, Location
from buildflow.ir.signature import Place

_LARGEST_INSTALLED = 250_000
"""Bytes. An installed module beyond that holds no row type, and would take longer to read than the whole project."""

_SAVE = "save it as UTF-8, or name its encoding in its first line: # coding: latin-1"
_CHANGES_ITSELF = re.compile(
    rb"(?<![\w.])(?:exec\(|(?:globals|vars|locals)\(\)(?:\[|\.update))|sys\.modules\[__name__\]"
)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a reference could not be read: a code, words, a hint, and the place in the source if there is one.

    `wrong` is the whole reference as it was written and `right` the one that was probably meant, if one is near.
    """

    code: str
    message: str
    hint: str = ""
    place: Place | None = None
    wrong: str = ""
    right: str = ""


@dataclass(frozen=True, eq=False)
class Module:
    """One parsed file and the names it binds."""

    name: str
    file: str
    is_package: bool = False
    names: Names = field(default_factory=lambda: Names("", False), repr=False)
    source: bytes = field(default=b"", repr=False)
    meanings: dict[str, Any] = field(default_factory=dict, repr=False)
    """What was looked up already, by name (`lookup.py`)."""

    @cached_property
    def exported(self) -> frozenset[str] | None:
        """The names in `__all__`; None where there is none, or it is computed."""
        found = self.names.get("__all__")
        value = getattr(found[0], "value", None) if len(found) == 1 else None
        if not isinstance(value, ast.List | ast.Tuple):
            return None
        texts = [e.value for e in value.elts if isinstance(e, ast.Constant) and isinstance(e.value, str)]
        return frozenset(texts) if len(texts) == len(value.elts) else None

    @cached_property
    def changes_itself(self) -> bool:
        """Whether it may have names that no statement shows."""
        return bool(self.names.get("__getattr__")) or bool(_CHANGES_ITSELF.search(self.source))

    @cached_property
    def changes_path(self) -> bool:
        """Whether it may have submodules that no folder shows."""
        return b"__path__" in self.source

    @cached_property
    def _lines(self) -> list[str] | None:
        return None if self.source.isascii() else decode_source(self.source).split("\n")

    def place(self, node: ast.AST) -> Place:
        """Where a node begins. `ast` counts bytes of UTF-8, whatever the file is written in."""
        line, offset = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
        if self._lines is not None:
            offset = len(self._lines[line - 1].encode()[:offset].decode("utf-8", "replace"))
        return Place(self.file, line, offset + 1)


class Unreadable:
    """A module that exists and has no source to read."""


UNREADABLE: Final = Unreadable()


class Modules:
    """The modules of one compilation. `root` is the project's folder."""

    def __init__(self, root: Path) -> None:
        self.finder = Finder(root)
        self._read: dict[str, Module | Problem | Unreadable | None] = {}

    def get(self, name: str) -> Module | Problem | Unreadable | None:
        """A module by its dotted name; a Problem where it, or a package around it, is no Python; None where there is
        none."""
        if name not in self._read:
            self._read[name] = self._get(name)
        return self._read[name]

    def _get(self, name: str) -> Module | Problem | Unreadable | None:
        parent, location = name.rpartition(".")[0], self.finder.find(name)
        outer = self.get(parent) if parent and (location is None or not location.is_installed) else None
        if isinstance(outer, Problem):
            return outer
        if location is not None:
            return _read(name, location)
        may_have = isinstance(outer, Unreadable) or (isinstance(outer, Module) and outer.changes_path)
        return UNREADABLE if may_have else None


def shown_path(path: Path | str) -> str:
    """A path as the user would write it: relative to where they are."""
    whole, here = os.path.realpath(path), os.path.join(os.getcwd(), "")
    return whole.removeprefix(here) if whole.startswith(here) else str(path)


def _read(name: str, location: Location) -> Module | Problem | Unreadable:
    if location.is_namespace:
        return Module(name, shown_path(location.folders[0]), is_package=True)
    if not location.file:
        return UNREADABLE
    shown = shown_path(location.file)
    try:
        if location.is_installed and os.path.getsize(location.file) > _LARGEST_INSTALLED:
            return UNREADABLE
        source = Path(location.file).read_bytes()
    except OSError as exc:
        return Problem("BF302", f"{shown} cannot be read: {(exc.strerror or 'it failed').lower()}")
    try:
        with _quickly():
            tree = ast.parse(source, filename=location.file)
            if b"yield" not in source:
                _forget_bodies(tree.body)
    except SyntaxError as exc:
        if "codec can't decode" in exc.msg:
            place = _after(source, _undecodable(source), shown)
            return Problem("BF308", f"{shown} is no valid Python: it is no UTF-8 text", _SAVE, place)
        place = _after(source, source.find(b"\0"), shown) if b"\0" in source else _place_of(exc, shown)
        return Problem("BF308", f"{shown} is no valid Python: {exc.msg}", place=place)
    except (ValueError, RecursionError, MemoryError) as exc:  # an expression that is nested too deeply
        return Problem("BF308", f"{shown} is no valid Python: {exc or 'too deeply nested'}", place=Place(shown))
    is_package = bool(location.folders)
    module = Module(name, shown, is_package, names_of(tree.body, name, is_package), source)
    if not location.is_installed and (found := refused(tree.body, module.names)):
        message = f"{shown} cannot be imported: {found.why}"
        return Problem("BF308", message, found.hint, module.place(found.node))
    return module


@contextmanager
def _quickly() -> Iterator[None]:
    """Without warnings about what is read; and without collecting garbage meanwhile, which takes as long as all the
    rest where a program has set no thresholds: a tree is all new objects and no circles."""
    collects = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        if collects:
            gc.enable()


def _forget_bodies(body: list[ast.stmt]) -> None:
    """What functions do is of no interest unless they may be generators, and is most of a tree."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = []
        elif isinstance(node, ast.ClassDef):
            _forget_bodies(node.body)


def _place_of(exc: SyntaxError, shown: str) -> Place:
    return Place(shown, max(exc.lineno or 1, 1), max(exc.offset or 1, 1))


def _undecodable(source: bytes) -> int:
    """Where the first byte is that is no UTF-8: Python says it to the line at best."""
    try:
        source.decode()
    except UnicodeDecodeError as exc:
        return exc.start
    return 0


def _after(source: bytes, offset: int, shown: str) -> Place:
    """The place of a byte."""
    before = source[:offset].decode("utf-8", "replace").rpartition("\n")[2]
    return Place(shown, source.count(b"\n", 0, offset) + 1, len(before) + 1)
