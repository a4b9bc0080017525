"""What a file declares and nothing names: a warning each, because it is often a name misspelt elsewhere."""

import re
from collections.abc import Iterator

from buildflow.compiler.overlays import blocks
from buildflow.compiler.validate import Declaration
from buildflow.diagnostics import Diagnostic, Severity
from buildflow.spec.document import Mapping, Node, Scalar, walk

_VARIABLE = re.compile(r"\$\{\s*var\.([A-Za-z_]\w*)")


def warn_unused(declaration: Declaration, used: set[str], written: Mapping) -> list[Diagnostic]:
    """A warning for every primitive, dependency, service and variable that nothing names. `used` are the keys of
    primitives and dependencies that something names; `written` is the file before any `${...}` was put in."""
    elsewhere, anything = _used_elsewhere(written, declaration.stack_name)
    used = used | elsewhere | ({*declaration.primitives, *declaration.dependencies} if anything else set())
    found = [
        _unused(declaration, f"the {primitive.type}", "primitives", key, _IN_HANDLERS)
        for key, (primitive, _) in declaration.primitives.items()
        if key not in used
    ]
    found += [
        _unused(declaration, "the dependency", "dependencies", key, _IN_HANDLERS)
        for key in declaration.dependencies
        if key not in used
    ]
    services = {route.service for route in declaration.routes.values()} | elsewhere
    found += [
        _unused(declaration, "the service", "services", key, "remove it, or name it in a route: `service: ...`")
        for key in declaration.services
        if key not in services
    ]
    variables = declaration.root.get("variables")
    named = set(variables_in(written))
    found += [
        _unused(declaration, "the variable", "variables", key, f"remove it, or write ${{var.{key}}} where it belongs")
        for key in (variables.pairs if isinstance(variables, Mapping) else ())
        if key not in named
    ]
    return [*found, *_unused_settings(declaration, written)]


def _unused_settings(declaration: Declaration, written: Mapping) -> Iterator[Diagnostic]:
    """Settings of a cloud that the stack has nothing on."""
    stack = declaration.stack
    if stack is None:
        return
    used: set[str | None] = {stack.provider, *(spec.provider for _, spec in declaration.primitives.values())}
    used |= {(stack.secrets.store or "").partition("_")[0]}
    for _, node in walk(written):
        used |= set(re.findall(r"\$\{\s*stack\.(\w+)\.", str(node.value))) if isinstance(node, Scalar) else set()
    for name in ("aws", "gcp"):
        if name not in used and getattr(stack, name).model_fields_set:
            message = f'nothing of stack "{declaration.stack_name}" is on {name}, and its settings stand here'
            span = declaration.key_span("stacks", declaration.stack_name, name)
            hint = f"remove them, or write `provider: {name}` where they are meant for"
            yield Diagnostic("BF219", message, span, hint, severity=Severity.WARNING)


def _used_elsewhere(written: Mapping, selected: str) -> tuple[set[str], bool]:
    """The texts of the other stacks' overlays, and whether these bring handlers, which may name anything."""
    texts: set[str] = set()
    handlers = False
    for name, block in blocks(written):
        for path, node in walk(block) if name != selected else ():
            if isinstance(node, Scalar) and isinstance(node.value, str):
                texts |= {node.value, *re.findall(r"\$\{primitives\.(\w+)", node.value)}
                handlers = handlers or path[-1:] in (("handler",), ("factory",))
    return texts, handlers


_IN_HANDLERS = "remove it, or name it in a consumer, a route's handler or a dependency"


def variables_in(node: Node) -> Iterator[str]:
    """The names of all `${var.x}` below a node."""
    for _, inner in walk(node):
        if isinstance(inner, Scalar) and isinstance(inner.value, str) and "${" in inner.value:
            yield from _VARIABLE.findall(inner.value)


def _unused(declaration: Declaration, what: str, section: str, key: str, hint: str) -> Diagnostic:
    span = declaration.key_span(section, key)
    return Diagnostic("BF219", f'nothing uses {what} "{key}"', span, hint, severity=Severity.WARNING)
