"""What the language has and this version does not run yet: compiled, warned of, and refused by `run`.

A line goes when the run time keeps its promise. Nothing is ever ignored silently.
"""

from collections.abc import Callable, Iterator
from typing import Any

from buildflow.compiler.validate import Declaration
from buildflow.diagnostics import Diagnostic, Severity
from buildflow.spec.project import BuiltIn, Route, Service

CODE = "BF225"

_ROUTE: dict[str, Callable[[Route], bool]] = {"run_in": lambda r: r.run_in != "gateway"}
_SERVICE: dict[str, Callable[[Service], bool]] = {"replicas": lambda s: s.replicas != 1}
_DEPENDENCY: dict[str, Callable[[Any], bool]] = {"type": lambda d: isinstance(d, BuiltIn) and not d.runs}


def not_yet(declaration: Declaration) -> Iterator[Diagnostic]:
    """A warning for everything that compiles and does not run yet."""
    sections: tuple[tuple[str, Any, dict[str, Callable[[Any], bool]]], ...] = (
        ("dependencies", declaration.dependencies, _DEPENDENCY),
        ("services", declaration.services, _SERVICE),
        ("routes", declaration.routes, _ROUTE),
    )
    for section, entries, rules in sections:
        for key, entry in entries.items():
            for name in (name for name, uses in rules.items() if uses(entry)):
                message = f"`{section}.{key}.{name}` compiles, and this version does not run it yet"
                hint = "`platform run` refuses a project that needs it, rather than ignore it"
                span = declaration.key_span(section, key, name)
                yield Diagnostic(CODE, message, span, hint, severity=Severity.WARNING)
