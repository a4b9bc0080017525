"""Text to plan: parse -> canonical -> validate -> resolve -> lower, a file a stage.

Every stage is a pure function that returns its value and diagnostics, and goes on after a mistake.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from buildflow.compiler.canonical import canonicalize, stack_names
from buildflow.compiler.lower import lower
from buildflow.compiler.overlays import (
    blocks,
    check_overlays,
    effective,
    has_overlay,
    with_removals,
    without_overlays,
)
from buildflow.compiler.references import BY_KEY
from buildflow.compiler.resolve import resolve
from buildflow.compiler.secret_stores import check_stores
from buildflow.compiler.secrets import check_secrets
from buildflow.compiler.source import Sources, shown_path
from buildflow.compiler.unused import variables_in
from buildflow.compiler.validate import Declaration, validate
from buildflow.diagnostics import Diagnostic, Related, Severity, Span, did_you_mean, errors_in, in_file_order, misspelt
from buildflow.ir.graph import ResourceGraph
from buildflow.ir.runtime import RuntimePlan
from buildflow.spec import document
from buildflow.spec.document import Document, Scalar, plain, walk
from buildflow.spec.environment import ENV_FILE, effective_environment, malformed_lines
from buildflow.spec.interpolation import Scope, escape, interpolate, unescaped

DEFAULT_FILE = "buildflow.yaml"
RESOLVED_LATER = ("dependencies", "services")
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
    all_stacks: bool = False,
) -> Compilation:
    """Compile one file for one stack. Mistakes, a missing file among them, are in `diagnostics`.

    `environment` is the process's own without one; a `.env` file beside the project's adds to it. `extra_stacks` are
    added below `stacks:` where the file has none of that name (a test's own stack). `all_stacks` checks the values
    and handlers of every stack, not of the selected one alone.
    """
    shown = shown_path(path)
    text, found = _read(path, shown)
    parsed, more = document.parse(text, shown) if not found else (Document(shown, _nothing(shown)), [])
    env, unread = _environment(path.parent, os.environ if environment is None else environment)
    given = _Given(env, variables or {}, extra_stacks or {}, all_stacks)
    return _compile(parsed, [*found, *more, *unread], path, stack, given)


@dataclass(frozen=True)
class _Given:
    """What a compilation is given besides the file."""

    environment: Mapping[str, str]
    variables: Mapping[str, str]
    extra_stacks: Mapping[str, Mapping[str, Any]]
    all_stacks: bool


def _nothing(shown: str) -> document.Mapping:
    return document.Mapping({}, Span(shown))


def _read(path: Path, shown: str) -> tuple[str, list[Diagnostic]]:
    try:
        return path.read_text("utf-8"), []
    except FileNotFoundError:
        hint = "go to the folder that holds it, or name it: --file path/to/buildflow.yaml"
        return "", [Diagnostic("BF105", f"there is no {shown}", Span(shown), hint)]
    except (OSError, UnicodeDecodeError) as exc:
        return "", [_unreadable(shown, exc, "name the file itself: --file path/to/buildflow.yaml")]


def _environment(folder: Path, own: Mapping[str, str]) -> tuple[Mapping[str, str], list[Diagnostic]]:
    try:
        shown = shown_path(folder / ENV_FILE)
        lines = [
            Diagnostic(
                "BF105", "this line is no NAME=value", Span(shown, n, 1, n, 2), _ENV_LINE, severity=Severity.WARNING
            )
            for n in malformed_lines(folder)
        ]
        return effective_environment(folder, own), lines
    except (OSError, UnicodeDecodeError) as exc:
        return own, [_unreadable(shown_path(folder / ENV_FILE), exc, "it holds lines such as NAME=value")]


_ENV_LINE = "write NAME=value, or begin the line with #"


def _unreadable(shown: str, exc: OSError | UnicodeDecodeError, cure: str) -> Diagnostic:
    if isinstance(exc, UnicodeDecodeError):
        return Diagnostic("BF105", f"{shown} cannot be read: it is no UTF-8 text", Span(shown), "save it as UTF-8")
    reason = (exc.strerror or "it failed").lower()
    return Diagnostic("BF105", f"{shown} cannot be read: {reason}", Span(shown), cure)


def _compile(parsed: Document, found: list[Diagnostic], path: Path, stack: str | None, given: _Given) -> Compilation:
    root, more = canonicalize(parsed.root)
    too_new = any(d.code == "BF106" for d in more)  # nothing else of such a file is known
    stopped = too_new or (errors_in(found) and not parsed.root.pairs)
    root = _add_stacks(root, given.extra_stacks)
    found = [d for d in (*found, *more) if not too_new or d.code == "BF106"]
    names = stack_names(root)
    selected, problem = _select(root, names, stack, given)
    if problem:
        found.append(problem)
    base = Path(os.path.realpath(path)).parent  # which does not mind a link to itself
    if stopped:
        return Compilation(parsed, base, selected, *_empty(root, selected), tuple(in_file_order(found)))
    found += _unknown_variables(root, given)
    overlaid = check_overlays(root)
    found += [*overlaid, *_base(root, selected, given)]
    sources = Sources(base)
    for other in names:
        if other != selected:
            whole = _whole(root, other, sources, given)[-1] if given.all_stacks else _structure(root, other, given)
            found += whole
    declaration, graph, plan, more = _whole(root, selected, sources, given)
    found += more
    at_an_overlay = {d.span for d in overlaid}
    found = [d for d in found if d.span not in at_an_overlay or d in overlaid]
    wrong = {d.span for d in found if d.severity is Severity.ERROR}
    found = [
        d for d in found if d.code not in ("BF109", "BF124") or d.severity is Severity.ERROR or d.span not in wrong
    ]
    outputs = [d for d in found if d.hint.startswith(BY_KEY)]
    found = [d for d in found if d in outputs or not any(_covers(output.span, d.span) for output in outputs)]
    if errors_in(found):
        found = [d for d in found if d.code != "BF219"]  # what seems unused may be used where the mistake is
    found = _together(in_file_order(_first_only(found)))
    return Compilation(parsed, base, selected, declaration, graph, plan, tuple(found))


def _base(root: document.Mapping, selected: str, given: _Given) -> list[Diagnostic]:
    """What every stack lays something over, as it is written; what it lacks, overlays may give it."""
    if not all(has_overlay(block) for _, block in blocks(root)):
        return []
    whole, _ = _effective(without_overlays(root), selected, given, lenient=True)
    _, invalid = validate(whole, selected, lenient=True)
    return [d for d in invalid if d.code in _OF_ONE_VALUE]


def _empty(root: document.Mapping, stack: str) -> tuple[Declaration, ResourceGraph, RuntimePlan]:
    graph = ResourceGraph(project="", stack=stack)
    return Declaration(root=root), graph, RuntimePlan(project="", stack=stack, provider="local", dir="")


def _whole(
    root: document.Mapping, stack: str, sources: Sources, given: _Given
) -> tuple[Declaration, ResourceGraph, RuntimePlan, list[Diagnostic]]:
    """One stack with its values and its handlers. What follows from a `${...}` that could not be put in is no mistake
    of its own."""
    whole, found = _effective(root, stack, given, lenient=False)
    declaration, invalid = validate(whole, stack)
    graph, unresolved = resolve(declaration)
    plan, graph, unlowered = lower(declaration, graph, sources, root)
    secrets = check_secrets(declaration)
    unread = _unread(whole, [*found, *(d for d in secrets if d.code != "BF124")])
    follows = [d for d in (*invalid, *unresolved, *unlowered) if d.span not in unread or d.hint.startswith(BY_KEY)]
    follows += [d for d in secrets if d.code == "BF125" or d.span not in unread]
    of_a_test = stack in given.extra_stacks
    if declaration.knows("stacks", stack, "secrets"):
        stores = check_stores(declaration, plan.secrets, sources.root, given.environment, of_a_test=of_a_test)
        follows += [d for d in stores if d.span not in unread]
    return declaration, graph, plan, with_removals(_without_lost([*found, *follows], declaration), root, stack)


def _unread(whole: document.Mapping, found: list[Diagnostic]) -> set[Span]:
    """The places of texts whose `${...}` could not be put in."""
    texts = (node.span for _, node in walk(whole) if isinstance(node, Scalar) and node.unknown) if found else ()
    keys = {d.span for d in found if d.code == "BF120"}  # of one in a key follows more
    return keys | {text for text in texts if any(_covers(text, d.span) for d in found)}


def _covers(outer: Span, inner: Span) -> bool:
    return (outer.file, outer.line, outer.column) <= (inner.file, inner.line, inner.column) and (
        inner.file,
        inner.end_line,
        inner.end_column,
    ) <= (outer.file, outer.end_line, outer.end_column)


def _unknown_variables(root: document.Mapping, given: _Given) -> list[Diagnostic]:
    """Values of `--set` that nothing declares or names."""
    named = set(variables_in(root))
    for _, node in walk(root):
        variables = node.get("variables") if isinstance(node, document.Mapping) else None
        named |= set(variables.pairs) if isinstance(variables, document.Mapping) else set()
    place = document.key_span(root, ("variables",)) if "variables" in root.pairs else Span(root.span.file)
    return [
        Diagnostic("BF122", f'--set gives "{name}", and there is no such variable', place, did_you_mean(name, named))
        for name in given.variables
        if name not in named
    ]


def _without_lost(found: list[Diagnostic], declaration: Declaration) -> list[Diagnostic]:
    """Without complaints about names that a section would have declared, had it been read."""
    return [d for d in found if not (declaration.lost and d.code in ("BF122", "BF210", "BF304", "BF322"))]


def _first_only(found: list[Diagnostic]) -> list[Diagnostic]:
    """One mistake once, though several stacks, or several users of one anchor, show it."""
    seen: dict[tuple[str, str, Span], Diagnostic] = {}
    for diagnostic in reversed(found):
        message = "" if diagnostic.code in _OF_ONE_VALUE else diagnostic.message
        seen[diagnostic.code, message, diagnostic.span] = diagnostic
    return list(seen.values())


def _together(found: list[Diagnostic]) -> list[Diagnostic]:
    """What a provider does not have yet is one mistake, however many primitives are of that type."""
    others: dict[str, list[Related]] = {}
    result = []
    for diagnostic in found:
        if diagnostic.code != "BF217" or diagnostic.message not in others:
            others.setdefault(diagnostic.message, [])
            result.append(diagnostic)
        else:
            others[diagnostic.message].append(Related("and here", diagnostic.span))
    return [replace(d, related=(*d.related, *others[d.message])) if d.code == "BF217" else d for d in result]


_OF_ONE_VALUE = ("BF201", "BF203", "BF204", "BF205")
"""Of these, one place has one."""


def _add_stacks(root: document.Mapping, extra: Mapping[str, Mapping[str, Any]]) -> document.Mapping:
    """The file with other stacks beside its own; they find their secrets where the default stack does."""
    stacks, default = root.get("stacks"), root.get("default_stack")
    for name, body in extra.items():
        if isinstance(stacks, document.Mapping) and name not in stacks.pairs:
            added = _node(body, stacks.span)
            usual = stacks.get(str(default.value) if isinstance(default, Scalar) else "local")
            secrets = usual.get("secrets") if isinstance(usual, document.Mapping) else None
            if secrets is not None and isinstance(added, document.Mapping):
                added = added.with_value("secrets", secrets)
            stacks = stacks.with_value(name, added)
    return root.with_value("stacks", stacks) if stacks is not None else root


def _node(value: Any, span: Span) -> document.Node:
    if isinstance(value, Mapping):
        pairs = {k: document.Pair(Scalar(k, span), _node(v, span)) for k, v in value.items()}
        return document.Mapping(pairs, span)
    return Scalar(value, span)


def _select(
    root: document.Mapping, names: Mapping[str, Span], stack: str | None, given: _Given
) -> tuple[str, Diagnostic | None]:
    """The stack to compile: the one asked for, `default_stack`, or the only one (else `local`)."""
    default = root.get("default_stack")
    if isinstance(default, Scalar):  # which stack it is cannot depend on the stack: the environment alone is known
        default, _ = interpolate(default, Scope("", "", given.environment, {}, {}, lenient=True))
    wanted = stack or (default.value if isinstance(default, Scalar) and isinstance(default.value, str) else None)
    if wanted is None:
        return ("local" if "local" in names or not names else next(iter(names))), None
    if wanted in names or not isinstance(root.get("stacks"), document.Mapping):
        return wanted, None
    span = default.span if not stack and default else document.key_span(root, ("stacks",))
    message = f'there is no stack "{wanted}"'
    problem = Diagnostic("BF209", message, span, did_you_mean(wanted, names))
    if not stack:
        problem = misspelt("BF209", message, span, wanted, names)
    return ("local" if "local" in names else next(iter(names), "local")), problem


def _structure(root: document.Mapping, stack: str, given: _Given) -> list[Diagnostic]:
    """A stack that was not selected: its structure, without its values."""
    whole, found = _effective(root, stack, given, lenient=True)
    declaration, invalid = validate(whole, stack, lenient=True)
    _, unresolved = resolve(declaration, selected=False)
    secrets = [d for d in check_secrets(declaration) if d.code == "BF124"]
    return with_removals(_without_lost([*found, *invalid, *unresolved, *secrets], declaration), root, stack)


def _effective(
    root: document.Mapping, stack: str, given: _Given, *, lenient: bool
) -> tuple[document.Mapping, list[Diagnostic]]:
    """One stack's document with its overlay and its `${...}` put in. The other stacks' blocks stay as written."""
    environment, variables = given.environment, given.variables
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
        scope, declared, found = _variables(declared, replace(scope, declared=declared.pairs.keys()))
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
