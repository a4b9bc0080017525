"""`${...}` in strings: what can be known before a stack runs is put in; secrets and outputs stay references.

${env.X} ${env.X:-default} ${var.x} ${project} ${stack} ${stack.gcp.project}     put in here
${secret.X}                                                      resolved by each process for itself
${primitives.images.url}                                         an output, known after apply
$${                                                              a literal `${`
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from buildflow.diagnostics import Diagnostic, Replacement, Severity, Span, closest, misspelt
from buildflow.spec import document
from buildflow.spec.document import Node, Scalar
from buildflow.spec.project import Stack

_TOKEN = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ROOTS = ("env", "var", "secret", "project", "stack", "primitives")


@dataclass(frozen=True, slots=True)
class Scope:
    """What a stack's strings may refer to. `lenient` leaves what is not set as it is (the stacks that were not
    selected are checked for structure only)."""

    project: str
    stack: str
    environment: Mapping[str, str]
    variables: Mapping[str, Any]
    settings: Mapping[str, Any]
    """The selected stack's own block, for `${stack.gcp.project}`."""
    lenient: bool = False
    declared: Collection[str] = ()
    """The variables that the file declares, those not known yet included."""


def interpolate(node: Node, scope: Scope) -> tuple[Node, list[Diagnostic]]:
    """Every string below `node` with its `${...}` put in. A mistake leaves its text and gives a diagnostic."""
    found: list[Diagnostic] = []
    return _interpolate(node, scope, found), found


def _interpolate(node: Node, scope: Scope, found: list[Diagnostic]) -> Node:
    if isinstance(node, document.Mapping):
        found += [_in_a_key(pair.key) for key, pair in node.pairs.items() if "${" in key]
    if isinstance(node, Scalar):
        if isinstance(node.value, str):
            found += _of_other_tools(node, node.value, scope)
        return _scalar(node, scope, found) if isinstance(node.value, str) and "${" in node.value else node
    return document.with_values(node, lambda inner: _interpolate(inner, scope, found))


def _scalar(node: Scalar, scope: Scope, found: list[Diagnostic]) -> Scalar:
    text = str(node.value)
    malformed = False

    def put_in(match: re.Match[str]) -> str:
        nonlocal malformed
        if match[0] == "$${" or malformed:
            return match[0]  # `$${` is kept escaped until the process that uses the text resolves it
        if match[1] is None:
            malformed = True  # what follows is a part of it: one mistake
            found.append(_unclosed(text[match.end() :], _place(node, match), scope))
            return match[0]
        value = _resolve(match[1].strip(), scope, _place(node, match), found)
        return match[0] if value is None else str(value)

    result = _TOKEN.sub(put_in, text)
    return replace(node, value=result, interpolated=True, unknown=any(m[0] != "$${" for m in _TOKEN.finditer(result)))


_OTHER = re.compile(
    r"(?<![\w$])\$(?P<shell>[A-Z_][A-Z0-9_]+)\b"
    r"|(?<!\$)\$\((?P<make>[A-Z_][A-Z0-9_]*)\)"
    r"|(?<!\$)\{\{\s*(?P<root>env|secrets?|vars?)\.(?P<name>[A-Za-z_]\w*)\s*\}\}"
)
"""What shells, make, CI systems and templates put in. Lower-case names behind a dollar are too often just text."""


def _of_other_tools(node: Scalar, text: str, scope: Scope) -> Iterator[Diagnostic]:
    for match in _OTHER.finditer(text) if "$" in text or "{{" in text else ():
        message = f"`{match[0]}` means itself here: nothing is put in for it"
        place = _place(node, match)
        yield Diagnostic("BF127", message, place, f"write {_ours(match, scope)}", severity=Severity.WARNING)


def _ours(match: re.Match[str], scope: Scope) -> str:
    """Another tool's reference in our words."""
    name = match["shell"] or match["make"] or match["name"]
    root = (match["root"] or ("var" if name in scope.declared else "env")).removesuffix("s")
    return f"${{{root}.{name}}}"


def _in_a_key(key: Scalar) -> Diagnostic:
    return Diagnostic("BF120", "`${...}` is not put into keys", key.span, "write the name itself")


def _place(node: Scalar, match: re.Match[str]) -> Span:
    """Where one `${...}` stands; the whole text where escapes or line breaks make that unsure."""
    span, text = node.span, str(node.value)
    quotes = 0 if node.plain else 1
    if span.line != span.end_line or span.end_column - span.column != len(text) + 2 * quotes:
        return span
    start = span.column + quotes + match.start()
    return Span(span.file, span.line, start, span.line, start + len(match[0]))


def unescaped(node: Node) -> Node:
    """`$${` as `${` in every text that no process will resolve again."""
    if not isinstance(node, Scalar):
        return document.with_values(node, unescaped)
    if isinstance(node.value, str) and node.interpolated and not node.unknown:
        return replace(node, value=node.value.replace("$${", "${"))
    return node


def _unclosed(rest: str, span: Span, scope: Scope) -> Diagnostic:
    if "}" in rest:
        if other := _OTHER.match("{" + rest):
            return Diagnostic("BF120", f"`${other[0]}` is malformed", span, f"write {_ours(other, scope)}")
        return Diagnostic("BF120", "`${...}` holds another brace", span, "name the inner part below `variables:`")
    return Diagnostic("BF120", "`${` is not closed", span, "write `${...}`, or `$${` for the text")


def escape(text: str) -> str:
    """Text that means itself, though it may look like a reference."""
    return text.replace("${", "$${")


def _resolve(expression: str, scope: Scope, span: Span, found: list[Diagnostic]) -> Any:
    root, _, rest = expression.partition(".")
    resolver = _RESOLVERS.get(root)
    if resolver is None:
        name, has_default, _ = root.partition(":-")
        message = f"`${{{expression}}}` refers to nothing"
        if has_default and name in _ROOTS:
            found.append(Diagnostic("BF123", message, span, "only env takes a default"))
        elif meant := _meant(expression, scope):
            found.append(Diagnostic("BF123", message, span, f"write ${{{meant}}}"))
        else:
            found.append(_put_right(misspelt("BF123", message, span, name, _ROOTS), expression))
        return None
    return resolver(rest, expression, scope, span, found)


def _meant(expression: str, scope: Scope) -> str:
    """A shell's `${NAME}`, or another tool's `${env:NAME}`, in our words; empty when it is neither."""
    found = re.fullmatch(r"(?:env:)?([A-Za-z_]\w*)(:-.*)?", expression)
    if not found or closest(found[1], _ROOTS):
        return ""
    return f"var.{found[1]}" if found[1] in scope.variables else f"env.{found[1]}{found[2] or ''}"


def _put_right(diagnostic: Diagnostic, expression: str) -> Diagnostic:
    """Only the first part of a reference is to be replaced, not another one like it."""
    fix = diagnostic.fix
    if fix is None:
        return diagnostic
    new = expression.replace(fix.old, fix.new, 1)
    return replace(diagnostic, fix=Replacement(fix.span, f"${{{expression}}}", f"${{{new}}}"))


_Resolver = Callable[[str, str, Scope, Span, list[Diagnostic]], Any]


def _env(rest: str, expression: str, scope: Scope, span: Span, found: list[Diagnostic]) -> Any:
    name, has_default, default = rest.partition(":-")
    if not _NAME.fullmatch(name):
        message = f"`${{{expression}}}` is malformed"
        found.append(Diagnostic("BF120", message, span, "write `${env.NAME}` or `${env.NAME:-default}`"))
        return None
    value = scope.environment.get(name)
    if value or (value is not None and not has_default):
        return escape(value)
    if has_default:
        return default
    if not scope.lenient:
        near = closest(name, scope.environment)
        otherwise = f"export {name}=..., write it into .env, or give a default: ${{env.{name}:-value}}"
        hint = f'did you mean "{near}"? else {otherwise}' if near else otherwise
        found.append(Diagnostic("BF121", f"the environment variable {name} is not set", span, hint))
    return None


def _var(rest: str, expression: str, scope: Scope, span: Span, found: list[Diagnostic]) -> Any:
    if rest in scope.variables:
        return _as_text(scope.variables[rest], expression, span, found)
    if rest in scope.declared:
        message = f'the variable "{rest}" is not known yet: it stands below, or names this one'
        found.append(Diagnostic("BF122", message, span, f"move {rest} above: a variable may use those above it"))
        return None
    name, has_default, _ = rest.partition(":-")
    if has_default and name in scope.variables:
        found.append(Diagnostic("BF120", f"`${{{expression}}}` is malformed", span, "only env takes a default"))
        return None
    otherwise = f"declare it below `variables:`, or pass --set var.{rest}=..."
    found.append(misspelt("BF122", f'there is no variable "{rest}"', span, rest, scope.variables, otherwise))
    return None


def _project(rest: str, expression: str, scope: Scope, span: Span, found: list[Diagnostic]) -> Any:
    if rest:
        found.append(Diagnostic("BF123", f"`${{{expression}}}` refers to nothing", span, "write `${project}`"))
        return None
    return scope.project


def _stack(rest: str, expression: str, scope: Scope, span: Span, found: list[Diagnostic]) -> Any:
    if not rest:
        return scope.stack
    if problem := _unknown_setting(rest, span):
        found.append(problem)
        return None
    value: Any = scope.settings
    for part in rest.split("."):
        if not isinstance(value, Mapping) or part not in value:
            if not scope.lenient:
                message = f'stack "{scope.stack}" has no "{rest}"'
                found.append(Diagnostic("BF123", message, span, f'give stack "{scope.stack}" {rest}'))
            return None
        value = value[part]
    return _as_text(value, expression, span, found)


def _unknown_setting(path: str, span: Span) -> Diagnostic | None:
    """A setting that no stack can have."""
    model: Any = Stack
    for part in path.split("."):
        fields = getattr(model, "model_fields", {})
        if part not in fields:
            message = f'a stack has no "{path}"'
            return misspelt("BF123", message, span, part, fields, f"one of: {', '.join(fields)}")
        model = fields[part].annotation
    return None


def _later(rest: str, expression: str, scope: Scope, span: Span, found: list[Diagnostic]) -> Any:
    """Secrets and outputs stay in the text as references."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.\-]*", rest):
        hint = "only env takes a default" if ":-" in rest else "write a name behind the dot"
        found.append(Diagnostic("BF120", f"`${{{expression}}}` is malformed", span, hint))
    return None


def _as_text(value: Any, expression: str, span: Span, found: list[Diagnostic]) -> str | None:
    if isinstance(value, dict | list):
        what = "a mapping" if isinstance(value, dict) else "a list"
        message = f"`${{{expression}}}` is {what}, which cannot stand in a text"
        found.append(Diagnostic("BF120", message, span, "name one of its values"))
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


_RESOLVERS: dict[str, _Resolver] = {
    "env": _env,
    "var": _var,
    "project": _project,
    "stack": _stack,
    "secret": _later,
    "primitives": _later,
}


def places(node: Scalar) -> list[tuple[str, str, Span]]:
    """The references left in a text, each with its place."""
    found = (match for match in _TOKEN.finditer(str(node.value)) if match[1] is not None)
    return [(m[1].partition(".")[0], m[1].partition(".")[2], _place(node, m)) for m in found]


def references(text: str) -> list[tuple[str, str]]:
    """The references left in a text after `interpolate`: ("secret", "X"), ("primitives", "images.url")."""
    return [
        (match[1].strip().partition(".")[0], match[1].strip().partition(".")[2])
        for match in _TOKEN.finditer(text)
        if match[1] is not None
    ]


def resolve_references(value: Any, lookup: Callable[[str, str], Any]) -> Any:
    """Plain values with their remaining `${secret.X}` and `${primitives.k.output}` replaced by
    `lookup(root, rest)`; `$${` becomes `${`. `lookup` raises for what it does not know."""
    if isinstance(value, dict):
        return {key: resolve_references(item, lookup) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve_references(item, lookup) for item in value]
    if not isinstance(value, str) or "${" not in value:
        return value

    def put_in(match: re.Match[str]) -> str:
        if match[0] == "$${" or match[1] is None:
            return "${"
        root, _, rest = match[1].strip().partition(".")
        return str(lookup(root, rest))

    return _TOKEN.sub(put_in, value)
