"""Handlers and row types, read from source without importing them: `ref -> Signature | Shape`.

The standard library's `ast` does the reading: it gives the line and column of every parameter, and costs a
twentieth of what importing a documentation tool would (docs/decisions/0002). A file is a step:

    files -> modules (bindings) -> lookup -> shapes (records, unions, wrappers) -> signatures (constructors, markers)

What cannot be known is `unknown`, and nothing is claimed about it.
"""

import ast
from pathlib import Path

from buildflow.compiler.source.lookup import Defined, Lookup, Package
from buildflow.compiler.source.modules import Modules, Problem, shown_path
from buildflow.compiler.source.references import References
from buildflow.compiler.source.shapes import Shapes
from buildflow.compiler.source.signatures import Signatures
from buildflow.ir.signature import UNKNOWN, Shape, Signature

__all__ = ["Problem", "Sources", "shown_path"]


class Sources:
    """The modules that one compilation looks at, each read once. `root` is the project's folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        lookup = self._lookup = Lookup(Modules(root))
        self._references = References(lookup)
        self._shapes = Shapes(lookup)
        self._signatures = Signatures(lookup, self._shapes)
        self._read: dict[str, Signature | Problem] = {}

    def signature(self, reference: str) -> Signature | Problem:
        """What `package.module:function` takes and gives; a class as its constructor."""
        if reference not in self._read:
            self._read[reference] = self._signature(reference)
        return self._read[reference]

    def _signature(self, reference: str) -> Signature | Problem:
        found = self._references.find(reference)
        if isinstance(found, Problem):
            return found
        if isinstance(found, Package):
            hint = f'name a function in it: "{found.name}:function"'
            return Problem("BF303", f"{reference} is a module", hint, wrong=reference)
        signature = self._signatures.of(found, reference)
        if signature is None:
            place = found.place if isinstance(found, Defined) else None
            return Problem("BF303", f"{reference} is no function", "name a function", place, reference)
        return signature

    def handler(self, reference: str) -> Signature | Problem:
        """The same of what handles requests or elements, which a class that only makes objects does not."""
        found = self._references.find(reference)
        return (self._no_handler(found, reference) if isinstance(found, Defined) else None) or self.signature(reference)

    def _no_handler(self, found: Defined, reference: str) -> Problem | None:
        if not isinstance(found.node, ast.ClassDef) or not self._lookup.is_plain(found):
            return None
        own, name = self._lookup.body(found).bound, found.node.name
        methods = [m for m, bound in own.items() if isinstance(bound.alternatives[0], ast.FunctionDef) and m[0] != "_"]
        if "__call__" not in own and ("__init__" in own or "__new__" in own):
            return None  # its constructor may do the work
        hint = "name a function"
        if methods or "__call__" in own:
            thing = name.lower()
            method = "" if "__call__" in own else f".{methods[0]}"
            hint = f"make one in its module, `{thing} = {name}()`, and name {found.module.name}:{thing}{method}"
        message = f"{reference} is a class, and making an object of it handles nothing"
        return Problem("BF303", message, hint, found.place, reference)

    def shape(self, reference: str) -> Shape | Problem:
        """The type that `package.module:Class` names."""
        found = self._references.find(reference)
        if isinstance(found, Problem):
            return found
        if isinstance(found, Defined) and isinstance(found.node, ast.FunctionDef | ast.AsyncFunctionDef):
            return Problem("BF310", f"{reference} is a function, no type", "name a class", found.place, reference)
        return self._shapes.defined(found) if isinstance(found, Defined) else UNKNOWN

    def names(self, reference: str) -> Problem | None:
        """Why `package.module:Name` names nothing, if it does not."""
        found = self._references.find(reference)
        return found if isinstance(found, Problem) else None

    def candidates(self, module: str) -> list[str]:
        """The modules that a misspelt dotted name may be meant to be, as whole dotted names: those of the package
        that it names, or of the nearest one where a package on the way is misspelt."""
        return self._references.candidates(module)
