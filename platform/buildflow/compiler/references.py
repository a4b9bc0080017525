"""Names in the file that mean something else in it: found, fitting, or reported with what was probably meant."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from buildflow.compiler.validate import Declaration
from buildflow.diagnostics import Diagnostic, Related, Span, did_you_mean, misspelt
from buildflow.primitives.base import Role, Spec
from buildflow.primitives.registry import driver, providers_of

NO_AUTH = "none"
"""What a route writes to switch its service's `auth` off."""


@dataclass
class Resolution:
    declaration: Declaration
    found: list[Diagnostic] = field(default_factory=list)
    selected: bool = True

    @cached_property
    def fitting(self) -> dict[Role, list[str]]:
        """The keys of the primitives of each role."""
        primitives = self.declaration.primitives.items()
        return {role: [key for key, (p, _) in primitives if role in p.roles] for role in Role}

    def report(self, code: str, message: str, *path: Any, hint: str = "", related: tuple[Related, ...] = ()) -> None:
        self.found.append(Diagnostic(code, message, self.place(*path), hint, related))

    def place(self, *path: Any) -> Span:
        return self.declaration.span(*path) if len(path) > 2 else self.declaration.key_span(*path)

    def misnamed(self, message: str, name: str, known: Iterable[str], otherwise: str, *path: Any) -> None:
        self.found.append(misspelt("BF210", message, self.place(*path), name, known, otherwise))


def provider_of(spec: Spec, declaration: Declaration) -> str:
    """Where a primitive of this stack lives."""
    return spec.provider or (declaration.stack.provider if declaration.stack else "local")


def refer(target: str, path: tuple[Any, ...], state: Resolution, fitting: Iterable[str] | None = None) -> bool:
    """Whether `target` is a primitive that can be used; reports it where there is none. `fitting` are the keys that
    could stand there."""
    declaration = state.declaration
    if not declaration.knows(*path):
        return False
    if target in declaration.primitives:
        return True
    if output := re.fullmatch(r"\$\{primitives\.(\w+)[^{}]*\}", target):
        message = f"`{path[-1]}` names a primitive by its key, this is an output"
        state.report("BF211", message, *path, hint=f"{BY_KEY}`{path[-1]}: {output[1]}`")
    elif target in declaration.dependencies:
        state.report("BF211", f'"{target}" is a dependency; `{path[-1]}` has to name a primitive', *path, hint=_DECLARE)
    elif ("primitives", target) not in declaration.broken:
        broken = [k for s, k in declaration.broken if s == "primitives"]
        known = [*(declaration.primitives if fitting is None else fitting), *broken]
        message = f'there is no primitive "{target}"'
        state.misnamed(message, target, known, _DECLARE, *path)
    return False


BY_KEY = "write the key: "
"""How the hint begins of what is all that there is to say of an output in the place of a key."""

_DECLARE = "declare it below `primitives:`"


def check_role(target: str, role: Role, path: tuple[Any, ...], state: Resolution) -> None:
    """Report a primitive that is no source (or sink), or none yet on its provider."""
    fitting, declaration = state.fitting[role], state.declaration
    if not refer(target, path, state, fitting):
        return
    primitive, spec = declaration.primitives[target]
    if role not in primitive.roles:
        code = "BF212" if role is Role.SOURCE else "BF213"
        hint = did_you_mean("", fitting) or f"no primitive here is a {role}: declare one below `primitives:`"
        state.report(code, f'"{target}" is a {primitive.type}, which is no {role}', *path, hint=hint)
        return
    if role is Role.SINK and declaration.knows("primitives", target) and (why := spec.no_sink()):
        state.report("BF213", f'"{target}" is no sink: {why}', *path, hint="declare them there")
        return
    provider = provider_of(spec, declaration)
    has_driver = provider in providers_of(primitive.type) and declaration.knows("primitives", target, "provider")
    if state.selected and has_driver and not hasattr(driver(primitive.type, provider), role.value):
        message = f'a {primitive.type} is no {role} on "{provider}" yet'
        state.report("BF217", message, *path, hint=f"name another {role}")


def check_auth(name: str | None, path: tuple[Any, ...], state: Resolution) -> None:
    """`auth` names a dependency."""
    declaration = state.declaration
    if name is None or ("dependencies", name) in declaration.broken:
        return
    if name in declaration.dependencies:
        if not declaration.knows("dependencies", name, "scope"):
            return
        if declaration.dependencies[name].scope in ("global", "replica"):
            message = f'"{name}" is built once a process, so it refuses no request'
            place = (Related("it is declared here", declaration.key_span("dependencies", name)),)
            state.report("BF320", message, *path, hint=f"give {name} `scope: request`", related=place)
        elif not getattr(declaration.dependencies[name], "required", True):
            message = f'"{name}" is not required, so it lets every request in'
            place = (Related("it is declared here", declaration.key_span("dependencies", name, "required")),)
            hint = f"take `required: false` out of {name}, or name a dependency whose factory refuses by raising"
            state.report("BF211", message, *path, hint=hint, related=place)
        return
    if name == NO_AUTH:
        if path[0] != "routes":
            hint = "leave `auth` out: `none` is what a route writes to switch its service's off"
            state.report("BF210", f'there is no dependency "{name}"', *path, hint=hint)
    elif name in declaration.primitives:
        actual = declaration.primitives[name][0].type
        hint = "declare a dependency whose factory refuses by raising, and name that"
        state.report("BF211", f'"{name}" is a {actual}; `auth` has to name a dependency', *path, hint=hint)
    else:
        message = f'there is no dependency "{name}"'
        if name.lower() in ("none", "null", "no", "off"):
            of_route = path[0] == "routes"
            hint = "write `auth: none` to switch the service's off" if of_route else "leave `auth` out"
            state.report("BF210", message, *path, hint=hint)
            return
        state.misnamed(message, name, declaration.dependencies, "declare it below `dependencies:`", *path)
