"""Canonical Document to a Declaration: every section against its model, every primitive against its own Spec.

pydantic finds the mistakes; this module says them in the user's words and at the user's place.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from keyword import iskeyword
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from buildflow.compiler.canonical import stack_keys
from buildflow.diagnostics import Diagnostic, Replacement, Span, closest, did_you_mean, misspelt
from buildflow.primitives.base import Primitive, Spec
from buildflow.primitives.registry import all_primitives
from buildflow.spec import document, project
from buildflow.spec.document import Mapping, Node, Scalar, at, key_span, plain, scalar_value, walk
from buildflow.spec.values import URL

M = TypeVar("M", bound=BaseModel)
Path = tuple[Any, ...]
ModelOf = Callable[[document.Pair, list[Diagnostic]], type[BaseModel] | None]
"""Which model an entry of a section is held against; None after a mistake."""


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
    dependencies: dict[str, project.Dependency | project.BuiltIn] = field(default_factory=dict)
    services: dict[str, project.Service] = field(default_factory=dict)
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
        model_of = _dependency_model if section == "dependencies" else partial(_same_model, model)
        sections[section] = _entries(root, section, model_of, found, broken, names)
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
        services=sections["services"],
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
    model_of: ModelOf,
    found: list[Diagnostic],
    broken: set[tuple[str, str]],
    only: Iterable[str] | None,
) -> dict[str, Any]:
    node = root.get(section)
    if node is None or (isinstance(node, Scalar) and node.value is None):
        return {}
    if not isinstance(node, Mapping):
        found.append(Diagnostic("BF203", f"`{section}` has to be a mapping", node.span))
        return {}
    result: dict[str, Any] = {}
    for key, pair in node.pairs.items():
        if only is not None and key not in only:
            continue
        model = model_of(pair, found)
        value = validate_model(model, pair.value, (section, key), found, root=root) if model else None
        if value is None:
            broken.add((section, key))
        else:
            result[key] = value
    return result


def _same_model(model: type[BaseModel], pair: document.Pair, found: list[Diagnostic]) -> type[BaseModel]:
    return model


def _dependency_model(pair: document.Pair, found: list[Diagnostic]) -> type[BaseModel] | None:
    """A dependency with a `type` is one of the platform's own; the others have a factory."""
    node = pair.value.get("type") if isinstance(pair.value, Mapping) else None
    if node is None:
        return project.Dependency
    if isinstance(node, Scalar) and node.value in project.BUILT_INS:
        return project.BUILT_INS[str(node.value)]
    name = plain(node)
    message = f'there is no built-in dependency "{name}"'
    found.append(misspelt("BF205", message, node.span, str(name), project.BUILT_INS))
    return None


def _lost(root: Mapping) -> frozenset[str]:
    """Sections of another type, and those that an unknown key probably means."""
    unknown = root.pairs.keys() - known_keys(project.Project, ())
    meant = {near for key in unknown if (near := closest(key, _NAMED))}
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
        found.append(misspelt("BF205", message, node.span, node.value, known, f"one of: {', '.join(known)}"))
        return None
    return known[str(node.value)]


def _names(
    root: Mapping, found: list[Diagnostic], broken: set[tuple[str, str]], routes: dict[str, project.Route]
) -> None:
    """Keys of primitives and dependencies are identifiers, unique across both; routes read METHOD /path."""
    for section in ("primitives", "dependencies", "services", "consumers", "variables"):
        node = root.get(section)
        for key, pair in node.pairs.items() if isinstance(node, Mapping) else ():
            if not re.fullmatch(project.IDENTIFIER, key) or iskeyword(key):
                bears = _BEARS.get(section, "that a parameter could bear")
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


_BEARS = {"consumers": "for a consumer", "services": "for a service", "variables": "for a variable"}


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
    for detail in _one_per_union(error.errors(include_url=False), model, node):
        found.append(_diagnostic(detail, model, node, path, root))
    return None


def _read_interpolated(values: Any, node: Mapping, error: ValidationError, model: type[BaseModel]) -> bool:
    """`force_destroy: ${env.FORCE}` is text until here: read it as YAML would, where the model wants no text."""
    changed = False
    for detail in error.errors(include_url=False, include_input=False):
        loc, _ = _location(detail["loc"], model, node)
        target = at(node, loc)
        if isinstance(target, Scalar) and target.interpolated and isinstance(target.value, str):
            parent = values
            for part in loc[:-1]:
                parent = parent[part]
            if loc and not isinstance(read := scalar_value(target.value), str):
                parent[loc[-1]] = read
                changed = True
    return changed


def _location(loc: Path, model: type[BaseModel], node: Node) -> tuple[Path, tuple[Path, ...]]:
    """A path of pydantic's as one of the document, and the unions that it led through: behind each of them pydantic
    puts the name of the union's branch."""
    result: list[Any] = []
    unions: list[Path] = []
    annotation: Any = model
    skip = False
    for part in loc:
        if skip:
            skip = False
            continue
        result.append(part)
        annotation = _inner(annotation, part)
        if _is_union(annotation):
            unions.append(tuple(result))
            annotation = _branch(annotation, at(node, tuple(result)))
            skip = True
    return tuple(result), tuple(unions)


def _inner(annotation: Any, part: Any) -> Any:
    """The annotation of what stands at `part` in a value of this annotation."""
    annotation = _bare(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        info = _field_of(annotation, part)
        return info.annotation if info else None
    arguments = get_args(annotation)
    return _bare(arguments[-1]) if arguments and get_origin(annotation) in (list, dict, tuple) else None


def _bare(annotation: Any) -> Any:
    """Without `Annotated` and without `| None`."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    choices = [a for a in get_args(annotation) if a is not NoneType]
    if get_origin(annotation) in (Union, UnionType) and len(choices) == 1:
        return _bare(choices[0])
    return annotation


def _branch(annotation: Any, node: Node) -> Any:
    """The branch of a union that a node of this kind is probably meant to be."""
    for choice in map(_bare, get_args(annotation)):
        is_mapping = get_origin(choice) is dict or (isinstance(choice, type) and issubclass(choice, BaseModel))
        if (isinstance(node, Mapping) and is_mapping) or (
            isinstance(node, document.Sequence) and get_origin(choice) is list
        ):
            return choice
    return None


def _is_union(annotation: Any) -> bool:
    choices = [a for a in get_args(annotation) if a is not NoneType]
    return get_origin(annotation) in (Union, UnionType) and len(choices) > 1


def _one_per_union(details: list[Any], model: type[BaseModel], node: Node) -> list[Any]:
    """Every branch of a union complains: keep what went deepest, or say once what would have fitted."""
    for detail in details:
        detail["loc"], detail["unions"] = _location(detail["loc"], model, node)
    return _chosen(details, 0)


def _chosen(details: list[Any], level: int) -> list[Any]:
    result: list[Any] = []
    unions: dict[Path, list[Any]] = {}
    for detail in details:
        inside = detail["unions"][level : level + 1]
        (unions.setdefault(inside[0], []) if inside else result).append(detail)
    for place, branches in unions.items():
        deeper = [b for b in branches if len(b["loc"]) > len(place)]
        of_value = [b for b in branches if b["type"] not in _WRONG_TYPE]
        branches[0]["wanted"] = " or ".join(
            dict.fromkeys(_WRONG_TYPE.get(b["type"], "something else") for b in branches)
        )
        result += _chosen(deeper, level + 1) if deeper else (of_value or branches)[:1]
    return result


def _diagnostic(detail: Any, model: type[BaseModel], node: Mapping, path: Path, root: Mapping) -> Diagnostic:
    loc: Path = detail["loc"]
    kind = detail["type"]
    name = _name(loc, path)
    if kind == "extra_forbidden":
        keys = stack_keys() if model is project.Stack and len(loc) == 1 else known_keys(model, loc[:-1])
        message = f'unknown key "{loc[-1]}"{_inside(path, loc)}'
        return misspelt("BF201", message, key_span(node, loc), str(loc[-1]), keys, f"one of: {', '.join(sorted(keys))}")
    if kind == "missing":
        owner = key_span(root, (*path, *loc[:-1])) if path or len(loc) > 1 else node.span
        return Diagnostic("BF202", f"{name} is missing{_inside(path, loc)}", owner, _describe(model, loc))
    span = at(node, loc).span
    if loc and isinstance(at(node, loc[:-1]), Mapping) and loc[-1] not in getattr(at(node, loc[:-1]), "pairs", {}):
        span = key_span(node, loc)
    wanted = detail.get("wanted") or _WRONG_TYPE.get(kind)
    if wanted and kind in _WRONG_TYPE:
        value = at(node, loc)
        hint = _YES.get(str(plain(value)).lower(), "") if wanted == "true or false" else ""
        message = f"{name} has to be {wanted}, this is {_shown(value)}"
        return Diagnostic("BF203", message, span, hint or _describe(model, loc))
    message, hint = _WRONG_VALUE.get(kind, _as_is)(detail, at(node, loc))
    code = _PATTERN_CODES.get(detail.get("ctx", {}).get("pattern", ""), "BF204")
    fix = _literal_fix(detail, at(node, loc)) if kind == "literal_error" else None
    return Diagnostic(code, f"{name} {message}", span, hint or _describe(model, loc), fix=fix)


def _literal_fix(detail: Any, node: Node) -> Replacement | None:
    """The one of the allowed texts that is probably meant."""
    value = plain(node)
    near = closest(value, re.findall(r"'([^']*)'", detail["ctx"]["expected"])) if isinstance(value, str) else None
    return Replacement(node.span, value, near) if near else None


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
        current = _inner(current, part)
        if _is_union(current):
            current = next((c for c in map(_bare, get_args(current)) if _holds_model(c)), None)
    return current if isinstance(current, type) and issubclass(current, BaseModel) else None


def _holds_model(annotation: Any) -> bool:
    inner = _bare(get_args(annotation)[-1]) if get_origin(annotation) is list else annotation
    return isinstance(inner, type) and issubclass(inner, BaseModel)


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


_YES = {
    **dict.fromkeys(("yes", "on", "y", "true"), "write true"),
    **dict.fromkeys(("no", "off", "n", "false"), "write false"),
}
"""Words for true and false that YAML 1.2 reads as text."""

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
        project.PREFIX: ("is no prefix", "begin it with / and end it with none, such as /api; no parameters"),
        URL: ("is no URL", "such as redis://host:6379/0 or file://folder"),
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
