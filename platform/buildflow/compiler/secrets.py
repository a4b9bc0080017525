"""What must not stand in the file: secrets in clear, and references where nothing resolves them."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from pydantic import BaseModel

from buildflow.compiler.validate import Declaration
from buildflow.diagnostics import Diagnostic, Severity, Span
from buildflow.spec.document import Mapping, Node, Scalar, at, walk
from buildflow.spec.interpolation import places, references
from buildflow.spec.values import is_secret

_SOUNDS_SECRET = re.compile(
    r"(^|[_.-])(password|passwd|passphrase|secret|token|api[_-]?key|private_?key|access_?key|secret_?key|authorization|cookie)$",
    re.IGNORECASE,
)
LOOKS_SECRET = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|\b(AKIA|ASIA)[A-Z0-9]{16}\b|\b(ghp|gho|ghs)_[A-Za-z0-9]{36}\b"
    r"|\bsk_live_[A-Za-z0-9]{16,}|\bxox[bapr]-[A-Za-z0-9-]{10,}"
)
_URL_WITH_PASSWORD = re.compile(r"^[a-z][a-z0-9+.-]*://[^/\s:@]*:([^@/\s]+)@")
_VALUES = ("stacks", "dependencies", "services", "variables", "primitives", "options")
"""Sections that hold values which a process uses; names in the others are not secrets."""
_NAMES = {"columns", "inject", "filter", "examples"}
"""Below these keys stand names and types."""


def check_secrets(declaration: Declaration) -> list[Diagnostic]:
    """Secrets that are written down, and references that stand where nothing resolves them."""
    marked = dict(_marked(declaration))
    found = [d for path, node in marked.items() if (d := _marked_in_clear(path, node))]
    for path, node in _scalars(declaration):
        if path not in marked and (reason := _clear(path, node)):
            hint = "write ${secret.NAME}, and give NAME in the environment or in the stack's `secrets`"
            found.append(Diagnostic("BF124", reason, node.span, hint, severity=Severity.WARNING))
        if node.unknown and path not in marked and not _resolved_later(path):
            found += _unresolved(path, node)
    return found


def secrets_named(declaration: Declaration) -> Iterator[tuple[str, Span]]:
    """Each `${secret.NAME}` that a process will look up, with its place."""
    marked = dict(_marked(declaration))
    for path, node in _scalars(declaration):
        if node.unknown and (path in marked or _resolved_later(path)):
            yield from ((name, place) for root, name, place in places(node) if root == "secret" and name)


def _marked(declaration: Declaration) -> Iterator[tuple[tuple[Any, ...], Scalar]]:
    """The values of fields that are secrets, by path."""
    stack = declaration.stack
    if stack is not None:
        yield from _secret_fields(stack, declaration.root, ("stacks", declaration.stack_name))
    for key, (_, spec) in declaration.primitives.items():
        yield from _secret_fields(spec, declaration.root, ("primitives", key))


def _secret_fields(model: BaseModel, root: Node, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Scalar]]:
    for below in _secret_paths(type(model)):
        node = at(root, (*path, *below))
        if isinstance(node, Scalar) and node.value is not None:
            yield (*path, *below), node


@cache
def _secret_paths(model: type[BaseModel]) -> tuple[tuple[str, ...], ...]:
    """Where a model of this type holds secrets."""
    found: list[tuple[str, ...]] = []
    for name, info in model.model_fields.items():
        if is_secret(info.annotation):
            found.append((name,))
        elif isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            found += [(name, *rest) for rest in _secret_paths(info.annotation)]
    return tuple(found)


def _marked_in_clear(path: tuple[Any, ...], node: Scalar) -> Diagnostic | None:
    text = str(node.value)
    if any(root == "secret" for root, _ in references(text)):
        return None
    name = str(path[-1])
    put_in = (
        "comes out of a ${...} that is put in when the file is compiled" if node.interpolated else "stands in clear"
    )
    hint = f"write ${{secret.{name.upper()}}}, and give {name.upper()} in the environment or the stack's `secrets`"
    return Diagnostic("BF124", f"`{name}` is a secret and {put_in}", node.span, hint)


def _scalars(declaration: Declaration) -> Iterator[tuple[tuple[Any, ...], Scalar]]:
    root = declaration.root
    stacks = root.get("stacks")
    own = stacks.get(declaration.stack_name) if isinstance(stacks, Mapping) else None
    for section in root.pairs:
        node = own if section == "stacks" else root.get(section)
        start = ("stacks", declaration.stack_name) if section == "stacks" else (section,)
        for path, inner in walk(node, start) if node is not None else ():
            if isinstance(inner, Scalar) and isinstance(inner.value, str):
                yield path, inner


def _clear(path: tuple[Any, ...], node: Scalar) -> str:
    """Why this text seems to be a secret in clear, in words; empty when it does not."""
    text = str(node.value)
    if not text or node.interpolated or path[0] not in _VALUES or not _NAMES.isdisjoint(path):
        return ""
    if LOOKS_SECRET.search(text):
        return f"`{path[-1]}` looks like a secret, written in clear"
    if _URL_WITH_PASSWORD.match(text):
        return f"`{path[-1]}` holds a password, written in clear"
    named = str(path[-1]) if not isinstance(path[-1], int) else str(path[-2])
    return f"`{named}` sounds like a secret, written in clear" if _SOUNDS_SECRET.search(named) else ""


_LATER = (
    ("dependencies", "*", "with"),
    ("dependencies", "*", "headers"),
    ("dependencies", "*", "base_url"),
    ("services", "*", "middleware"),
    ("stacks", "*", "broker_url"),
    ("stacks", "*", "state_url"),
    ("stacks", "*", "aws", "aws_access_key_id"),
)
"""Where each process puts secrets and outputs in for itself."""


def _resolved_later(path: tuple[Any, ...]) -> bool:
    return any(
        len(path) >= len(place) and all(b in ("*", a) for a, b in zip(path, place, strict=False)) for place in _LATER
    )


def _unresolved(path: tuple[Any, ...], node: Scalar) -> Iterator[Diagnostic]:
    for root, rest, place in places(node):
        if root in ("secret", "primitives") and rest and path[0] != "variables":
            message = f"`${{{root}.{rest}}}` is not known here: `{path[-1]}` is needed before a process starts"
            hint = "such references belong below `with:`, or into a field that is a secret"
            yield Diagnostic("BF125", message, place, hint)
