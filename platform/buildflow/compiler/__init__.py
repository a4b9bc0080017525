"""Text to plan: parse -> canonical -> validate -> resolve -> lower, a file a stage.

Every stage is a pure function that returns its value and diagnostics, and goes on after a mistake.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from buildflow.compiler.canonical import canonicalize, effective, stack_names
from buildflow.compiler.lower import lower
from buildflow.compiler.resolve import resolve
from buildflow.compiler.source import Sources, shown_path
from buildflow.compiler.validate import Declaration, validate
from buildflow.diagnostics import Diagnostic, Span, did_you_mean, errors_in, in_file_order
from buildflow.ir.graph import ResourceGraph
from buildflow.ir.runtime import RuntimePlan
from buildflow.spec import document
from buildflow.spec.document import Document, Scalar, plain
from buildflow.spec.interpolation import Scope, escape, interpolate, unescaped

DEFAULT_FILE = "buildflow.yaml"
RESOLVED_LATER = ("dependencies",)
"""Sections whose texts each process resolves for itself, secrets and outputs included."""


@dataclass(frozen=True)
class Compilation:
    """What one file means for one stack. `plan` and `graph` are whole only when `ok`."""

    document: Document
    root: Path
    stack: str
    declaration: Declaration
    graph: ResourceGraph
    plan: RuntimePlan
    diagnostics: tuple[Diagnostic, ...] = field(default=())

    @property
    def ok(self) -> bool:
        return not errors_in(self.diagnostics)


def compile_file(
    path: Path,
    *,
    stack: str | None = None,
    environment: Mapping[str, str] | None = None,
    variables: Mapping[str, str] | None = None,
    extra_stacks: Mapping[str, Mapping[str, Any]] | None = None,
) -> Compilation:
    """Compile one file for one stack. Mistakes, a missing file among them, are in `diagnostics`.

    `extra_stacks` are added below `stacks:` where the file has none of that name (a test's own stack).
    """
    shown = shown_path(path)
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        hint = "go to the folder that holds it, or name it: --file path/to/buildflow.yaml"
        problem = Diagnostic("BF105", f"there is no {shown}", Span(shown), hint)
        return _compile(Document(shown, document.Mapping({}, Span(shown))), [problem], path, stack, {}, {}, {})
    except (OSError, UnicodeDecodeError) as exc:
        reason = (exc.strerror or "it failed").lower() if isinstance(exc, OSError) else "it is no UTF-8 text"
        hint = "name the file itself: --file path/to/buildflow.yaml" if isinstance(exc, OSError) else "save it as UTF-8"
        problem = Diagnostic("BF105", f"{shown} cannot be read: {reason}", Span(shown), hint)
        return _compile(Document(shown, document.Mapping({}, Span(shown))), [problem], path, stack, {}, {}, {})
    parsed, found = document.parse(text, shown)
    env = os.environ if environment is None else environment
    return _compile(parsed, found, path, stack, env, variables or {}, extra_stacks or {})


def _compile(
    parsed: Document,
    found: list[Diagnostic],
    path: Path,
    stack: str | None,
    environment: Mapping[str, str],
    variables: Mapping[str, str],
    extra_stacks: Mapping[str, Mapping[str, Any]],
) -> Compilation:
    stopped = errors_in(found) and not parsed.root.pairs
    root, more = canonicalize(parsed.root)
    root = _add_stacks(root, extra_stacks)
    found = [*found, *more]
    names = stack_names(root)
    selected, problem = _select(root, names, stack)
    if problem:
        found.append(problem)
    sources = Sources(path.resolve().parent)
    base = Path(path).resolve().parent
    if stopped:
        empty = Declaration(root=root)
        graph = ResourceGraph(project="", stack=selected)
        plan = RuntimePlan(project="", stack=selected, provider="local", dir="")
        return Compilation(parsed, base, selected, empty, graph, plan, tuple(in_file_order(found)))
    for other in names:
        if other != selected:
            found += _structure(root, other, environment, variables)
    whole, more = _effective(root, selected, environment, variables, lenient=False)
    declaration, invalid = validate(whole, selected)
    graph, unresolved = resolve(declaration)
    plan, graph, unlowered = lower(declaration, graph, sources)
    unread = {d.span for d in more}  # what follows from a `${...}` that could not be put in is no mistake of its own
    follows = [d for d in (*invalid, *unresolved, *unlowered) if d.span not in unread]
    found += [*more, *_without_lost(follows, declaration)]
    if errors_in(found):
        found = [d for d in found if d.code != "BF219"]  # what seems unused may be used where the mistake is
    return Compilation(parsed, base, selected, declaration, graph, plan, tuple(in_file_order(_first_only(found))))


def _without_lost(found: list[Diagnostic], declaration: Declaration) -> list[Diagnostic]:
    """Without complaints about names that a section would have declared, had it been read."""
    return [d for d in found if not (declaration.lost and d.code in ("BF210", "BF304", "BF322"))]


def _first_only(found: list[Diagnostic]) -> list[Diagnostic]:
    """One mistake once, though several stacks show it."""
    seen: dict[tuple[str, str, Span], Diagnostic] = {}
    for diagnostic in reversed(found):
        seen[diagnostic.code, diagnostic.message, diagnostic.span] = diagnostic
    return list(seen.values())


def _add_stacks(root: document.Mapping, extra: Mapping[str, Mapping[str, Any]]) -> document.Mapping:
    stacks = root.get("stacks")
    for name, body in extra.items():
        if isinstance(stacks, document.Mapping) and name not in stacks.pairs:
            stacks = stacks.with_value(name, _node(body, stacks.span))
    return root.with_value("stacks", stacks) if stacks is not None else root


def _node(value: Any, span: Span) -> document.Node:
    if isinstance(value, Mapping):
        pairs = {k: document.Pair(Scalar(k, span), _node(v, span)) for k, v in value.items()}
        return document.Mapping(pairs, span)
    return Scalar(value, span)


def _select(root: document.Mapping, names: Mapping[str, Span], stack: str | None) -> tuple[str, Diagnostic | None]:
    """The stack to compile: the one asked for, `default_stack`, or the only one (else `local`)."""
    default = root.get("default_stack")
    wanted = stack or (default.value if isinstance(default, Scalar) and isinstance(default.value, str) else None)
    if wanted is None:
        return ("local" if "local" in names or not names else next(iter(names))), None
    if wanted in names or not isinstance(root.get("stacks"), document.Mapping):
        return wanted, None
    span = default.span if not stack and default else document.key_span(root, ("stacks",))
    problem = Diagnostic("BF209", f'there is no stack "{wanted}"', span, did_you_mean(wanted, names))
    return ("local" if "local" in names else next(iter(names), "local")), problem


def _structure(
    root: document.Mapping, stack: str, environment: Mapping[str, str], variables: Mapping[str, str]
) -> list[Diagnostic]:
    """A stack that was not selected: its structure, without its values."""
    whole, found = _effective(root, stack, environment, variables, lenient=True)
    declaration, invalid = validate(whole, stack, lenient=True)
    _, unresolved = resolve(declaration, selected=False)
    return [*found, *invalid, *_without_lost(unresolved, declaration)]


def _effective(
    root: document.Mapping,
    stack: str,
    environment: Mapping[str, str],
    variables: Mapping[str, str],
    *,
    lenient: bool,
) -> tuple[document.Mapping, list[Diagnostic]]:
    """One stack's document with its overlay and its `${...}` put in. The other stacks' blocks stay as written."""
    whole = effective(root, stack)
    stacks = whole.get("stacks")
    name = whole.get("project")
    project = str(name.value) if isinstance(name, Scalar) else "project"
    if isinstance(name, Scalar):
        named, _ = interpolate(name, Scope(project, stack, environment, variables, {}, lenient=True))
        project = str(plain(named))
    declared = whole.get("variables")
    set_here = {name: escape(value) for name, value in variables.items()}
    scope = Scope(project, stack, environment, set_here, {}, lenient)
    found: list[Diagnostic] = []
    settings: Any = {}
    if isinstance(declared, document.Mapping):
        scope, declared, found = _variables(declared, scope)
        whole = whole.with_value("variables", declared)
    if isinstance(stacks, document.Mapping) and stack in stacks.pairs:
        block, more = interpolate(stacks.pairs[stack].value, scope)
        found += more
        settings = plain(block)
        stacks = stacks.with_value(stack, block)
    scope = replace(scope, settings=settings if isinstance(settings, dict) else {})
    for section in whole.without("stacks", "variables").pairs:
        node, more = interpolate(whole.pairs[section].value, scope)
        whole = whole.with_value(section, node if section in RESOLVED_LATER else unescaped(node))
        found += more
    return (whole.with_value("stacks", stacks) if stacks is not None else whole), found


def _variables(declared: document.Mapping, scope: Scope) -> tuple[Scope, document.Mapping, list[Diagnostic]]:
    """The variables, each of which may refer to those above it; those that `--set` gives are taken as given."""
    found: list[Diagnostic] = []
    given = dict(scope.variables)
    for name, pair in declared.pairs.items():
        if name not in given:
            value, more = interpolate(pair.value, scope)
            found += more
            declared = declared.with_value(name, value)
            scope = replace(scope, variables={**scope.variables, name: plain(value)})
    return scope, declared, found
