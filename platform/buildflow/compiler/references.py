"""Names in the file that mean something else in it: found, fitting, or reported with what was probably meant."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from buildflow.compiler.validate import Declaration
from buildflow.diagnostics import Diagnostic, Related, Span, did_you_mean, misspelt
from buildflow.primitives.base import Role
from buildflow.primitives.registry import driver, providers_of

NO_AUTH = "none"
"""What a route writes to switch its service's `auth` off."""


@dataclass
class Resolution:
    declaration: Declaration
    found: list[Diagnostic] = field(default_factory=list)
    selected: bool = True

    def report(self, code: str, message: str, *path: Any, hint: str = "", related: tuple[Related, ...] = ()) -> None:
        self.found.append(Diagnostic(code, message, self.place(*path), hint, related))

    def place(self, *path: Any) -> Span:
        return self.declaration.span(*path) if len(path) > 2 else self.declaration.key_span(*path)

    def misnamed(self, message: str, name: str, known: Iterable[str], otherwise: str, *path: Any) -> None:
        self.found.append(misspelt("BF210", message, self.place(*path), name, known, otherwise))


def refer(target: str, path: tuple[Any, ...], state: Resolution) -> bool:
    """Whether `target` is a primitive that can be used; reports it where there is none."""
    declaration = state.declaration
    if target in declaration.primitives:
        return True
    if ("primitives", target) not in declaration.broken:
        known = [*declaration.primitives, *(k for s, k in declaration.broken if s == "primitives")]
        message = f'there is no primitive "{target}"'
        state.misnamed(message, target, known, "declare it below `primitives:`", *path)
    return False


def check_role(target: str, role: Role, path: tuple[Any, ...], state: Resolution) -> None:
    """Report a primitive that is no source (or sink), or none yet on its provider."""
    if not refer(target, path, state):
        return
    primitive, spec = state.declaration.primitives[target]
    if role not in primitive.roles:
        code = "BF212" if role is Role.SOURCE else "BF213"
        fitting = [k for k, (p, _) in state.declaration.primitives.items() if role in p.roles]
        hint = did_you_mean("", fitting, f"no primitive here is a {role}")
        state.report(code, f'"{target}" is a {primitive.type}, which is no {role}', *path, hint=hint)
        return
    provider = spec.provider or (state.declaration.stack.provider if state.declaration.stack else "local")
    has_driver = provider in providers_of(primitive.type)
    if state.selected and has_driver and not hasattr(driver(primitive.type, provider), role.value):
        message = f'a {primitive.type} is no {role} on "{provider}" yet'
        state.report("BF217", message, *path, hint=f"name another {role}")


def check_auth(name: str | None, path: tuple[Any, ...], state: Resolution) -> None:
    """`auth` names a dependency."""
    declaration = state.declaration
    if name is None or name in declaration.dependencies or ("dependencies", name) in declaration.broken:
        return
    if name != NO_AUTH or path[0] != "routes":
        message = f'there is no dependency "{name}"'
        state.misnamed(message, name, declaration.dependencies, "declare it below `dependencies:`", *path)
