"""What the lowering of one stack knows: its declaration, its sources, and the mistakes found so far."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from buildflow.binding.columns import Unfit
from buildflow.binding.parameters import Bound, Names
from buildflow.compiler.source import Problem, Sources
from buildflow.compiler.validate import Declaration
from buildflow.diagnostics import Diagnostic, Related, Replacement, Severity, Span
from buildflow.ir.columns import Column
from buildflow.ir.graph import ResourceGraph
from buildflow.ir.runtime import HandlerPlan
from buildflow.ir.signature import UNKNOWN, Shape, Signature
from buildflow.primitives.base import MessageReference, Reference
from buildflow.spec.project import HANDLER, BuiltIn, Dependency


@dataclass
class Lowering:
    declaration: Declaration
    graph: ResourceGraph
    sources: Sources
    found: list[Diagnostic] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    columns: dict[str, tuple[Column, ...]] = field(default_factory=dict)
    of_request: dict[str, str] = field(default_factory=dict)
    """Dependencies that read the request, and what of it, in words."""
    takes_letters: dict[str, bool] = field(default_factory=dict)
    messages: dict[str, tuple[Shape, Span] | None] = field(default_factory=dict)

    @cached_property
    def names(self) -> Names:
        declaration = self.declaration
        return Names(
            dependencies=declaration.dependencies,
            handles={key: primitive.handle for key, (primitive, _) in declaration.primitives.items()},
            broken={key for section, key in declaration.broken if section in ("primitives", "dependencies")},
        )

    def unfit(
        self, problems: Iterable[Unfit | Problem], *path: Any, about: str, also: tuple[Related, ...] = ()
    ) -> None:
        """Problems of a function, told at the place in the YAML that names it; `also` are other places in it."""
        for problem in problems:
            message, span = f"{about}{problem.message}", self._span(problem, path)
            code = [Related("the code that this is about", problem.place.span())] if problem.place else []
            related = (*code, *also)
            hint = problem.hint or _HINTS.get(problem.code, "")
            if problem.code == "BF308" and problem.place:  # the mistake is there, however many lines name the file
                message, span, related = problem.message, problem.place.span(), (Related("it is named here", span),)
            severity = problem.severity if isinstance(problem, Unfit) else Severity.ERROR
            fix = _fix(problem, span)
            self.found.append(Diagnostic(problem.code, message, span, hint, related, severity, fix))

    def _span(self, problem: Unfit | Problem, path: tuple[Any, ...]) -> Span:
        below = problem.below if isinstance(problem, Unfit) else ()
        if problem.code == "BF307":  # the path is the route's key
            return self.declaration.key_span(*path[:-1])
        if problem.code == "BF323":
            return self.declaration.key_span(*path[:-1], *below)
        return self.declaration.span(*path[:-1], *below) if below else self.declaration.span(*path)

    def message(self, key: str) -> tuple[Shape, Span] | None:
        """What the messages of a queue, a topic, or a subscription of one are, and where that is declared."""
        if key not in self.messages:
            self.messages[key] = None  # for one that refers to itself
            self.messages[key] = self._read_message(key)
        return self.messages[key]

    def _read_message(self, key: str) -> tuple[Shape, Span] | None:
        spec = self.declaration.primitives[key][1] if key in self.declaration.primitives else None
        for name, info in type(spec).model_fields.items() if spec else ():
            if any(isinstance(m, Reference) and m.type == "topic" for m in info.metadata):
                return self.message(getattr(spec, name))
            if any(isinstance(m, MessageReference) for m in info.metadata) and getattr(spec, name) is not None:
                place = ("primitives", key, name)
                shape = self.row_type(getattr(spec, name), place, "type of messages")
                if shape and shape.is_plain:
                    hint = "make it a dataclass or a pydantic model"
                    self.unfit(
                        [Unfit("BF310", f"no message can be read as {shape.text}", hint, shape.place)], *place, about=""
                    )
                    return None
                return (shape, self.declaration.span(*place)) if shape else None
        return None

    def made(self, key: str) -> Shape:
        """What a dependency's factory gives, as far as that is known."""
        dependency = self.declaration.dependencies.get(key)
        if isinstance(dependency, BuiltIn) and dependency.gives_text:
            return Shape(kind="string", text="str")
        if not isinstance(dependency, Dependency):
            return UNKNOWN
        signature = self.sources.signature(dependency.factory)
        if not isinstance(signature, Signature):
            return UNKNOWN
        given = signature.returns
        if signature.is_generator or given.name == "contextlib.AbstractContextManager":
            given = given.item or UNKNOWN  # what it yields
        return given

    def signature(self, reference: str, *path: Any) -> Signature | None:
        """The function that the text at `path` names; None after a mistake."""
        if not self.declaration.knows(*path):
            return None
        read = self.sources.handler if path[-1] == "handler" else self.sources.signature
        signature = read(reference)
        if isinstance(signature, Problem):
            module, _, name = reference.partition(":")
            if signature.code == "BF302" and module.endswith(".py"):
                signature = replace(signature, hint=f"write {module.removesuffix('.py')}:{name}")
            self.unfit([signature], *path, about="")
            return None
        first = signature.parameters[0] if signature.parameters else None
        if first and first.name == "self" and "." in reference.partition(":")[2]:
            message = f"{reference} is a method of an object, and there is none to call it on"
            problem = Unfit("BF304", message, "make it a @staticmethod, or a function of the module", first.place)
            self.unfit([problem], *path, about="")
            return None
        return signature

    def row_type(self, declared: str, path: tuple[Any, ...], what: str = "row type") -> Shape | None:
        """The type that `module:Class` names; None after a mistake."""
        if not re.fullmatch(HANDLER, declared):
            self.unfit([Unfit("BF301", f'"{declared}" is no {what}', "write `package.module:Class`")], *path, about="")
            return None
        shape = self.sources.shape(declared)
        if isinstance(shape, Problem):
            code = "BF310" if shape.code in ("BF302", "BF303") else shape.code
            self.unfit([replace(shape, code=code)], *path, about="")
            return None
        return shape

    def use(self, bound: Bound) -> None:
        """Note what a function is injected with."""
        self.used.update(i.key for i in bound.inject)


_HINTS = {
    **dict.fromkeys(("BF302", "BF310"), "create it, or install the package that holds it"),
    "BF308": "correct it there: Python would say the same when it imports the module",
}
"""What to do where nothing more is known."""


def _fix(problem: Unfit | Problem, span: Span) -> Replacement | None:
    """What would put a misspelt name right, where the checker is sure of it."""
    return Replacement(span, problem.wrong, problem.right) if problem.wrong and problem.right else None


def handler_plan(signature: Signature, bound: Bound, element: str | None = None, carried: str = "") -> HandlerPlan:
    return HandlerPlan(function=signature.name, inject=bound.inject, element=element, element_type=carried)
