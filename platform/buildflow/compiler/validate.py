"""Canonical Document to a Declaration: every section against its model, every primitive against its own Spec.

pydantic finds the mistakes; this module says them in the user's words and at the user's place.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from buildflow.compiler.canonical import stack_keys
from buildflow.diagnostics import Diagnostic, Span, did_you_mean
from buildflow.primitives.base import Primitive, Spec
from buildflow.primitives.registry import all_primitives
from buildflow.spec import document, project
from buildflow.spec.document import Mapping, Node, Scalar, at, key_span, plain, scalar_value, walk

M = TypeVar("M", bound=BaseModel)
Path = tuple[Any, ...]

_WORDS = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false"}


@dataclass(frozen=True)
class Declaration:
    """What one stack's document declares. Entries with mistakes are left out; their keys are in `broken`, so that
    a reference to one is not a second mistake."""

    root: Mapping
    name: str = "project"
    stack_name: str = "local"
    stack: project.Stack | None = None
    options: project.Options = field(default_factory=project.Options)
    primitives: dict[str, tuple[Primitive, Spec]] = field(default_factory=dict)
    dependencies: dict[str, project.Dependency] = field(default_factory=dict)
    routes: dict[str, project.Route] = field(default_factory=dict)
    mounts: dict[str, str] = field(default_factory=dict)
    consumers: dict[str, project.Consumer] = field(default_factory=dict)
    broken: frozenset[tuple[str, str]] = frozenset()

    def span(self, *path: Any) -> Span:
        """The place of the value at `path`."""
        return at(self.root, path).span

    def key_span(self, *path: Any) -> Span:
        return key_span(self.root, path)


def validate(root: Mapping, stack_name: str, *, lenient: bool = False) -> tuple[Declaration, list[Diagnostic]]:
    """All sections of one stack's document. `lenient` forgives values that are not known (other stacks)."""
    found: list[Diagnostic] = []
    broken: set[tuple[str, str]] = set()
    top = _top(root, found)
    sections: dict[str, dict[str, Any]] = {}
    for section, model in project.SECTIONS.items():
        names = (stack_name,) if section == "stacks" else None
        sections[section] = _entries(root, section, model, found, broken, names)
    primitives = _primitives(root, found, broken)
    _names(root, found, broken, sections["routes"])
    declaration = Declaration(
        root=root,
        name=top.project if top else "project",
        stack_name=stack_name,
        stack=sections["stacks"].get(stack_name),
        options=top.options if top else project.Options(),
        primitives=primitives,
        dependencies=sections["dependencies"],
        routes=sections["routes"],
        mounts=top.mounts if top else {},
        consumers=sections["consumers"],
        broken=frozenset(broken),
    )
    if lenient:
        found = [d for d in found if not _at_unknown(root, d.span)]
    return declaration, found


def _at_unknown(root: Mapping, span: Span) -> bool:
    return any(isinstance(node, Scalar) and node.unknown and node.span == span for _, node in walk(root))


def _top(root: Mapping, found: list[Diagnostic]) -> project.Project | None:
    """The root's own keys, the sections set aside."""
    shallow = root.without(*project.SECTIONS, "primitives")
    return validate_model(project.Project, shallow, (), found, root=shallow)


def _entries(
    root: Mapping,
    section: str,
    model: type[M],
    found: list[Diagnostic],
    broken: set[tuple[str, str]],
    only: Iterable[str] | None,
) -> dict[str, M]:
    node = root.get(section)
    if node is None or (isinstance(node, Scalar) and node.value is None):
        return {}
    if not isinstance(node, Mapping):
        found.append(Diagnostic("BF203", f"`{section}` has to be a mapping", node.span))
        return {}
    result: dict[str, M] = {}
    for key, pair in node.pairs.items():
        if only is not None and key not in only:
            continue
        value = validate_model(model, pair.value, (section, key), found, root=root)
        if value is None:
            broken.add((section, key))
        else:
            result[key] = value
    return result


def _primitives(
    root: Mapping, found: list[Diagnostic], broken: set[tuple[str, str]]
) -> dict[str, tuple[Primitive, Spec]]:
    node = root.get("primitives")
    if node is None or (isinstance(node, Scalar) and node.value is None):
        return {}
    if not isinstance(node, Mapping):
        found.append(Diagnostic("BF203", "`primitives` has to be a mapping", node.span))
        return {}
    result: dict[str, tuple[Primitive, Spec]] = {}
    for key, pair in node.pairs.items():
        primitive = _type_of(key, pair, found)
        spec = validate_model(primitive.spec, pair.value, ("primitives", key), found, root=root) if primitive else None
        if primitive and spec:
            result[key] = (primitive, spec)
        else:
            broken.add(("primitives", key))
    return result


def _type_of(key: str, pair: document.Pair, found: list[Diagnostic]) -> Primitive | None:
    known = all_primitives()
    if not isinstance(pair.value, Mapping):
        hint = f"write `{key}: {{type: bucket}}`"
        found.append(Diagnostic("BF203", f'primitive "{key}" has to be a mapping', pair.value.span, hint))
        return None
    node = pair.value.get("type")
    if node is None:
        message = f'primitive "{key}" needs a `type`'
        found.append(Diagnostic("BF202", message, pair.key.span, did_you_mean("", known)))
        return None
    if not isinstance(node, Scalar) or node.value not in known:
        message = f'there is no primitive type "{plain(node)}"'
        found.append(Diagnostic("BF205", message, node.span, did_you_mean(str(plain(node)), known)))
        return None
    return known[str(node.value)]


def _names(
    root: Mapping, found: list[Diagnostic], broken: set[tuple[str, str]], routes: dict[str, project.Route]
) -> None:
    """Keys of primitives and dependencies are identifiers, unique across both; routes read METHOD /path."""
    for section in ("primitives", "dependencies", "consumers"):
        node = root.get(section)
        for key, pair in node.pairs.items() if isinstance(node, Mapping) else ():
            if not re.fullmatch(project.IDENTIFIER, key):
                message = f'"{key}" is no name that a parameter could bear'
                hint = f'use letters, digits and _: "{re.sub(r"[^A-Za-z0-9_]", "_", key)}"'
                found.append(Diagnostic("BF207", message, pair.key.span, hint))
    primitives, dependencies = root.get("primitives"), root.get("dependencies")
    if isinstance(primitives, Mapping) and isinstance(dependencies, Mapping):
        for key in primitives.pairs.keys() & dependencies.pairs.keys():
            message = f'"{key}" is both a primitive and a dependency'
            span = dependencies.pairs[key].key.span
            found.append(Diagnostic("BF208", message, span, "rename one: parameters find things by name"))
            broken.add(("dependencies", key))
    for key in list(routes):
        if not re.fullmatch(project.ROUTE, key):
            message = f'"{key}" is no route'
            hint = "write METHOD /path, such as `GET /orders/{id}`; methods: GET POST PUT PATCH DELETE HEAD OPTIONS WS"
            found.append(Diagnostic("BF206", message, key_span(root, ("routes", key)), hint))
            del routes[key]


def validate_model(model: type[M], node: Node, path: Path, found: list[Diagnostic], *, root: Mapping) -> M | None:
    """One mapping against one model; `None` after a mistake."""
    if isinstance(node, Scalar) and node.value is None:
        node = Mapping({}, node.span)
    if not isinstance(node, Mapping):
        found.append(Diagnostic("BF203", f"`{path[-1]}` has to be a mapping", node.span))
        return None
    values = plain(node)
    try:
        return model.model_validate(values)
    except ValidationError as first:
        error = first
    if _read_interpolated(values, node, error):
        try:
            return model.model_validate(values)
        except ValidationError as second:
            error = second
    for detail in error.errors(include_url=False):
        found.append(_diagnostic(detail, model, node, path, root))
    return None


def _read_interpolated(values: Any, node: Mapping, error: ValidationError) -> bool:
    """`force_destroy: ${env.FORCE}` is text until here: read it as YAML would, where the model wants no text."""
    changed = False
    for detail in error.errors(include_url=False, include_input=False):
        loc = tuple(part for part in detail["loc"] if not _is_branch(part, node))
        target = at(node, loc)
        if isinstance(target, Scalar) and target.interpolated and isinstance(target.value, str):
            parent = values
            for part in loc[:-1]:
                parent = parent[part]
            if loc and not isinstance(read := scalar_value(target.value), str):
                parent[loc[-1]] = read
                changed = True
    return changed


def _is_branch(part: Any, node: Node) -> bool:
    """pydantic adds the branch of a union to a path; ours are recognised by their brackets or type names."""
    return isinstance(part, str) and (part in ("str", "int", "float", "bool") or "[" in part)


def _diagnostic(detail: Any, model: type[BaseModel], node: Mapping, path: Path, root: Mapping) -> Diagnostic:
    loc: Path = tuple(part for part in detail["loc"] if not _is_branch(part, node))
    kind = detail["type"]
    name = str(loc[-1]) if loc else str(path[-1]) if path else "the file"
    if kind == "extra_forbidden":
        keys = stack_keys() if model is project.Stack and len(loc) == 1 else known_keys(model, loc[:-1])
        return Diagnostic(
            "BF201", f'unknown key "{name}"{_inside(path, loc)}', key_span(node, loc), did_you_mean(name, keys)
        )
    if kind == "missing":
        owner = key_span(root, (*path, *loc[:-1])) if path or len(loc) > 1 else node.span
        return Diagnostic("BF202", f"`{name}` is missing{_inside(path, loc)}", owner, _describe(model, loc))
    span = at(node, loc).span
    if loc and isinstance(at(node, loc[:-1]), Mapping) and loc[-1] not in getattr(at(node, loc[:-1]), "pairs", {}):
        span = key_span(node, loc)
    wanted = _WRONG_TYPE.get(kind)
    if wanted:
        value = _shown(at(node, loc))
        return Diagnostic("BF203", f"`{name}` has to be {wanted}, this is {value}", span, _describe(model, loc))
    message, hint = _WRONG_VALUE.get(kind, _as_is)(detail, at(node, loc))
    return Diagnostic("BF204", f"`{name}` {message}", span, hint or _describe(model, loc))


def _inside(path: Path, loc: Path) -> str:
    owner = [str(p) for p in (*path, *loc[:-1])]
    if not owner:
        return ""
    if len(owner) == 2 and owner[0] in ("primitives", "dependencies", "consumers", "stacks"):
        return f' in {owner[0].removesuffix("s") if owner[0] != "dependencies" else "dependency"} "{owner[1]}"'
    if owner[0] == "routes" and len(owner) == 2:
        return f' in route "{owner[1]}"'
    return f" in {'.'.join(owner)}"


def known_keys(model: type[BaseModel], path: Path) -> set[str]:
    """The keys of the model at `path` below `model`."""
    inner = _model_at(model, path)
    return {f.alias or name for name, f in inner.model_fields.items()} if inner else set()


def _model_at(model: type[BaseModel], path: Path) -> type[BaseModel] | None:
    current: Any = model
    for part in path:
        if not (isinstance(current, type) and issubclass(current, BaseModel)):
            return None
        info = next((f for n, f in current.model_fields.items() if part in (n, f.alias)), None)
        current = info.annotation if info else None
    return current if isinstance(current, type) and issubclass(current, BaseModel) else None


def _describe(model: type[BaseModel], loc: Path) -> str:
    """A field's own description as the hint."""
    inner = _model_at(model, loc[:-1]) if loc else None
    info = next((f for n, f in inner.model_fields.items() if loc[-1] in (n, f.alias)), None) if inner else None
    return (info.description or "") if info else ""


def _shown(node: Node) -> str:
    if isinstance(node, Mapping):
        return "a mapping"
    if isinstance(node, document.Sequence):
        return "a list"
    if node.value is None:
        return "empty"
    if isinstance(node.value, str):
        return f'the text "{node.value}"'
    return {True: "true", False: "false"}[node.value] if isinstance(node.value, bool) else f"{node.value}"


_WRONG_TYPE = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


def _as_is(detail: Any, node: Node) -> tuple[str, str]:
    return f"is not right: {detail['msg']}", ""


def _literal(detail: Any, node: Node) -> tuple[str, str]:
    options = re.findall(r"'([^']*)'", detail["ctx"]["expected"]) or [str(detail["ctx"]["expected"])]
    hint = did_you_mean(str(plain(node)), options, "one of: " + ", ".join(options))
    return f"cannot be {_shown(node)}", hint if "one of" in hint else f"{hint} one of: {', '.join(options)}"


def _value(detail: Any, node: Node) -> tuple[str, str]:
    return f"is not right: {detail['msg'].removeprefix('Value error, ')}", ""


def _pattern(detail: Any, node: Node) -> tuple[str, str]:
    hints = {
        project.PROJECT_NAME: ("is no project name", "lower-case letters, digits and hyphens, a letter first"),
        project.HANDLER: ("is no handler", "write `package.module:function`"),
        project.IDENTIFIER: ("is no name", "letters, digits and _, no digit first"),
    }
    words, hint = hints.get(detail["ctx"]["pattern"], ("has the wrong form", ""))
    return f"{words}: {_shown(node)}", hint


def _bound(words: str, key: str) -> Callable[[Any, Node], tuple[str, str]]:
    return lambda detail, node: (f"has to be {words} {detail['ctx'][key]:g}, this is {_shown(node)}", "")


def _empty(detail: Any, node: Node) -> tuple[str, str]:
    return "is empty", ""


_WRONG_VALUE: dict[str, Callable[[Any, Node], tuple[str, str]]] = {
    "literal_error": _literal,
    "value_error": _value,
    "string_pattern_mismatch": _pattern,
    "greater_than": _bound("more than", "gt"),
    "greater_than_equal": _bound("at least", "ge"),
    "less_than": _bound("less than", "lt"),
    "less_than_equal": _bound("at most", "le"),
    "too_short": _empty,
}
