"""Canonical Document to a Declaration: every section against its model, every primitive against its own Spec.

pydantic finds the mistakes; this module says them in the user's words and at the user's place.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from keyword import iskeyword
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from buildflow.compiler.canonical import stack_keys
from buildflow.diagnostics import Diagnostic, Span, did_you_mean
from buildflow.primitives.base import Primitive, Spec
from buildflow.primitives.registry import all_primitives
from buildflow.spec import document, project
from buildflow.spec.document import Mapping, Node, Scalar, at, key_span, plain, scalar_value, walk

M = TypeVar("M", bound=BaseModel)
Path = tuple[Any, ...]


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
    lost: frozenset[str] = frozenset()
    """Sections that could not be read, or whose name is misspelt: what they hold is not known."""

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
    lost = _lost(root)
    primitives = _primitives(root, found, broken, "primitives" in lost)
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
        lost=lost,
    )
    if lenient:
        unknown = {node.span for _, node in walk(root) if isinstance(node, Scalar) and node.unknown}
        found = [d for d in found if d.span not in unknown]
    return declaration, found


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


def _lost(root: Mapping) -> frozenset[str]:
    """Sections of another type, and those that an unknown key probably means."""
    unknown = root.pairs.keys() - known_keys(project.Project, ())
    meant = {near[0] for key in unknown if (near := get_close_matches(key, _NAMED, n=1))}
    unread = {key for key in _NAMED if key in root.pairs and not isinstance(root.get(key), Mapping)}
    return frozenset(meant | unread)


_NAMED = ("primitives", "dependencies")
"""Sections whose keys other sections name."""


def _primitives(
    root: Mapping, found: list[Diagnostic], broken: set[tuple[str, str]], lost: bool
) -> dict[str, tuple[Primitive, Spec]]:
    node = root.get("primitives")
    if node is None or (isinstance(node, Scalar) and node.value is None):
        return {}
    if not isinstance(node, Mapping):
        found.append(Diagnostic("BF203", "`primitives` has to be a mapping", node.span))
        return {}
    result: dict[str, tuple[Primitive, Spec]] = {}
    for key, pair in node.pairs.items():
        primitive = _type_of(key, pair, found, lost)
        spec = validate_model(primitive.spec, pair.value, ("primitives", key), found, root=root) if primitive else None
        if primitive and spec:
            result[key] = (primitive, spec)
        else:
            broken.add(("primitives", key))
    return result


def _type_of(key: str, pair: document.Pair, found: list[Diagnostic], lost: bool) -> Primitive | None:
    known = all_primitives()
    if not isinstance(pair.value, Mapping):
        hint = f"write `{key}: {{type: bucket}}`"
        found.append(Diagnostic("BF203", f'primitive "{key}" has to be a mapping', pair.value.span, hint))
        return None
    node = pair.value.get("type")
    if node is None and lost:
        return None  # an overlay whose base is where the section's name is misspelt
    if node is None or (isinstance(node, Scalar) and node.value is None):
        message = f'primitive "{key}" needs a `type`'
        found.append(Diagnostic("BF202", message, pair.key.span, did_you_mean("", known)))
        return None
    if not isinstance(node, Scalar) or not isinstance(node.value, str):
        message = f"`type` has to be text, this is {_shown(node)}"
        found.append(Diagnostic("BF203", message, node.span, did_you_mean("", known)))
        return None
    if node.value not in known:
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
            if not re.fullmatch(project.IDENTIFIER, key) or iskeyword(key):
                bears = "for a consumer" if section == "consumers" else "that a parameter could bear"
                message = f'"{key}" is no name {bears}'
                hint = f'use letters, digits and _: "{_identifier(key)}"'
                found.append(Diagnostic("BF207", message, pair.key.span, hint))
    stacks = root.get("stacks")
    for key, pair in stacks.pairs.items() if isinstance(stacks, Mapping) else ():
        if not re.fullmatch(project.STACK_NAME, key):
            message = f'"{key}" is no name for a stack'
            found.append(Diagnostic("BF207", message, pair.key.span, "letters, digits, - and _; a letter first"))
    primitives, dependencies = root.get("primitives"), root.get("dependencies")
    if isinstance(primitives, Mapping) and isinstance(dependencies, Mapping):
        for key in primitives.pairs.keys() & dependencies.pairs.keys():
            message = f'"{key}" is both a primitive and a dependency'
            span = dependencies.pairs[key].key.span
            found.append(Diagnostic("BF208", message, span, "rename one: parameters find things by name"))
            broken.add(("dependencies", key))
    node = root.get("routes")
    for key, pair in node.pairs.items() if isinstance(node, Mapping) else ():
        if problem := _malformed_route(key):
            message = f'"{pair.key.value}" is no route: {problem[0]}'
            found.append(Diagnostic("BF206", message, pair.key.span, problem[1]))
            routes.pop(key, None)


def _identifier(text: str) -> str:
    """The nearest name that Python takes."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", text)
    return f"{name}_" if iskeyword(name) else name if name[:1].isalpha() or name[:1] == "_" else f"_{name}"


_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?::(str|int|float|path|uuid))?\}")


def _malformed_route(key: str) -> tuple[str, str] | None:
    """Why a key of `routes` cannot be served, and a hint."""
    method, _, path = key.partition(" ")
    if method not in project.METHODS:
        return "it begins with no method", f"write METHOD /path; methods: {' '.join(project.METHODS)}"
    if not re.fullmatch(project.ROUTE, key):
        return "its path has to begin with / and hold no space", "such as `GET /orders/{id}`"
    names = [match[1] for match in _PARAMETER.finditer(path)]
    if set("{}") & set(_PARAMETER.sub("", path)):
        return "a parameter of its path is malformed", "write `{name}` or `{name:int}`; kinds: str int float path uuid"
    if len(names) > len(set(names)):
        return "two parameters of its path have one name", "rename one"
    return None


def validate_model(model: type[M], node: Node, path: Path, found: list[Diagnostic], *, root: Mapping) -> M | None:
    """One mapping against one model; `None` after a mistake."""
    if isinstance(node, Scalar) and node.value is None:
        node = Mapping({}, node.span)
    if not isinstance(node, Mapping):
        hint = "or a handler: `package.module:function`" if path[0] == "routes" else ""
        message = f"`{path[-1]}` has to be a mapping, this is {_shown(node)}"
        found.append(Diagnostic("BF203", message, node.span, hint))
        return None
    values = plain(node)
    try:
        return model.model_validate(values)
    except ValidationError as first:
        error = first
    if _read_interpolated(values, node, error, model):
        try:
            return model.model_validate(values)
        except ValidationError as second:
            error = second
    for detail in _one_per_union(error.errors(include_url=False), model):
        found.append(_diagnostic(detail, model, node, path, root))
    return None


def _read_interpolated(values: Any, node: Mapping, error: ValidationError, model: type[BaseModel]) -> bool:
    """`force_destroy: ${env.FORCE}` is text until here: read it as YAML would, where the model wants no text."""
    changed = False
    for detail in error.errors(include_url=False, include_input=False):
        loc, _ = _location(detail["loc"], model)
        target = at(node, loc)
        if isinstance(target, Scalar) and target.interpolated and isinstance(target.value, str):
            parent = values
            for part in loc[:-1]:
                parent = parent[part]
            if loc and not isinstance(read := scalar_value(target.value), str):
                parent[loc[-1]] = read
                changed = True
    return changed


def _location(loc: Path, model: type[BaseModel]) -> tuple[Path, Path | None]:
    """A path of pydantic's as one of the document, and the field whose union it led through: pydantic puts the
    name of the union's branch behind that field."""
    for end in range(1, len(loc)):
        inner = _model_at(model, loc[: end - 1])
        info = _field_of(inner, loc[end - 1]) if inner else None
        if info is not None and _is_union(info.annotation):
            return (*loc[:end], *loc[end + 1 :]), loc[:end]
    return loc, None


def _is_union(annotation: Any) -> bool:
    choices = [a for a in get_args(annotation) if a is not NoneType]
    return get_origin(annotation) in (Union, UnionType) and len(choices) > 1


def _one_per_union(details: list[Any], model: type[BaseModel]) -> list[Any]:
    """Every branch of a union complains: keep what went deepest, or say once what would have fitted."""
    result: list[Any] = []
    unions: dict[Path, list[Any]] = {}
    for detail in details:
        detail["loc"], union = _location(detail["loc"], model)
        (result if union is None else unions.setdefault(union, [])).append(detail)
    for field_path, branches in unions.items():
        deeper = [b for b in branches if len(b["loc"]) > len(field_path)]
        branches[0]["wanted"] = " or ".join(_WRONG_TYPE.get(b["type"], "something else") for b in branches)
        result += deeper or branches[:1]
    return result


def _diagnostic(detail: Any, model: type[BaseModel], node: Mapping, path: Path, root: Mapping) -> Diagnostic:
    loc: Path = detail["loc"]
    kind = detail["type"]
    name = _name(loc, path)
    if kind == "extra_forbidden":
        keys = stack_keys() if model is project.Stack and len(loc) == 1 else known_keys(model, loc[:-1])
        hint = did_you_mean(str(loc[-1]), keys)
        return Diagnostic("BF201", f'unknown key "{loc[-1]}"{_inside(path, loc)}', key_span(node, loc), hint)
    if kind == "missing":
        owner = key_span(root, (*path, *loc[:-1])) if path or len(loc) > 1 else node.span
        return Diagnostic("BF202", f"{name} is missing{_inside(path, loc)}", owner, _describe(model, loc))
    span = at(node, loc).span
    if loc and isinstance(at(node, loc[:-1]), Mapping) and loc[-1] not in getattr(at(node, loc[:-1]), "pairs", {}):
        span = key_span(node, loc)
    wanted = detail.get("wanted") or _WRONG_TYPE.get(kind)
    if wanted:
        value = _shown(at(node, loc))
        return Diagnostic("BF203", f"{name} has to be {wanted}, this is {value}", span, _describe(model, loc))
    message, hint = _WRONG_VALUE.get(kind, _as_is)(detail, at(node, loc))
    code = _PATTERN_CODES.get(detail.get("ctx", {}).get("pattern", ""), "BF204")
    return Diagnostic(code, f"{name} {message}", span, hint or _describe(model, loc))


def _name(loc: Path, path: Path) -> str:
    """How a message calls the value at `loc`: by its key, an item of a list by its number."""
    whole = (*path, *loc)
    if isinstance(whole[-1], int):
        return f"item {whole[-1] + 1} of `{whole[-2]}`"
    return f"`{whole[-1]}`"


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
        info = _field_of(current, part) if isinstance(current, type) and issubclass(current, BaseModel) else None
        current = info.annotation if info else None
    return current if isinstance(current, type) and issubclass(current, BaseModel) else None


def _field_of(model: type[BaseModel], name: Any) -> FieldInfo | None:
    return next((f for n, f in model.model_fields.items() if name in (n, f.alias)), None)


def _describe(model: type[BaseModel], loc: Path) -> str:
    """A field's own description as the hint."""
    inner = _model_at(model, loc[:-1]) if loc else None
    info = _field_of(inner, loc[-1]) if inner else None
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
    "finite_number": "a whole number",
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


_PATTERN_CODES = {project.PROJECT_NAME: "BF207", project.HANDLER: "BF301", project.IDENTIFIER: "BF207"}


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
