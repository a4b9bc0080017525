"""Canonical Document to a Declaration: every section against its model, every primitive against its own Spec."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from keyword import iskeyword
from typing import Any

from pydantic import BaseModel

from buildflow.compiler.mistakes import known_keys, shown, validate_model, wrong_type
from buildflow.compiler.route_paths import malformed_route
from buildflow.compiler.unions import Path
from buildflow.diagnostics import Diagnostic, Span, closest, did_you_mean, misspelt
from buildflow.primitives.base import Primitive, Spec
from buildflow.primitives.registry import all_primitives
from buildflow.spec import document, project
from buildflow.spec.document import Mapping, Node, Scalar, at, key_span, plain, walk


@dataclass(frozen=True)
class Declaration:
    """What one stack's document declares. An entry with mistakes is there without them, and their paths are `unread`:
    nothing may be concluded from the defaults that it has there. One of which too little is left is not there; its key
    is in `broken`, so that a reference to it is not a second mistake."""

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
    unread: frozenset[Path] = frozenset()
    lost: frozenset[str] = frozenset()
    """Sections that could not be read, or whose name is misspelt: what they hold is not known."""

    def knows(self, *path: Any) -> bool:
        """Whether what the file says at `path` was read: neither that, nor anything in it or around it, is wrong."""
        return not any(all(a == b for a, b in zip(path, place, strict=False)) for place in self.unread)

    def span(self, *path: Any) -> Span:
        """The place of the value at `path`."""
        return at(self.root, path).span

    def key_span(self, *path: Any) -> Span:
        return key_span(self.root, path)


def validate(root: Mapping, stack_name: str, *, lenient: bool = False) -> tuple[Declaration, list[Diagnostic]]:
    """All sections of one stack's document. `lenient` forgives values that are not known (other stacks)."""
    found: list[Diagnostic] = []
    broken: set[tuple[str, str]] = set()
    unread: set[Path] = set()
    top = _top(root, found, unread)
    sections: dict[str, dict[str, Any]] = {}
    for section, model in project.SECTIONS.items():
        names = (stack_name,) if section == "stacks" else None
        sections[section] = _entries(root, section, model, found, broken, unread, names)
    lost = _lost(root)
    primitives = _primitives(root, found, broken, unread, "primitives" in lost)
    _names(root, found, broken, unread)
    declaration = Declaration(
        root=root,
        name=(top.project if top else "") or "project",
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
        unread=frozenset(unread),
        lost=lost,
    )
    if lenient:
        unknown = {node.span for _, node in walk(root) if isinstance(node, Scalar) and node.unknown}
        found = [d for d in found if d.span not in unknown]
    return declaration, found


def _top(root: Mapping, found: list[Diagnostic], unread: set[Path]) -> project.Project | None:
    """The root's own keys, the sections set aside."""
    empty = [key for key, pair in root.pairs.items() if isinstance(pair.value, Scalar) and pair.value.value is None]
    shallow = root.without(*project.SECTIONS, "primitives", *(key for key in empty if key in _MAY_BE_EMPTY))
    return validate_model(project.Project, shallow, (), found, unread, root=shallow)


_MAY_BE_EMPTY = ("variables", "options", "mounts")
"""Sections that may hold nothing, all their lines commented out."""


def _entries(
    root: Mapping,
    section: str,
    model: type[BaseModel],
    found: list[Diagnostic],
    broken: set[tuple[str, str]],
    unread: set[Path],
    only: Iterable[str] | None,
) -> dict[str, Any]:
    node = root.get(section)
    if node is None or (isinstance(node, Scalar) and node.value is None):
        return {}
    if not isinstance(node, Mapping):
        found.append(wrong_type(f"`{section}`", node, "a mapping", node.span, _BELOW))
        return {}
    result: dict[str, Any] = {}
    for key, pair in node.pairs.items():
        if only is not None and key not in only:
            continue
        own = _dependency_model(pair, found) if section == "dependencies" else model
        value = validate_model(own, pair.value, (section, key), found, unread, root=root) if own else None
        if value is None:
            broken.add((section, key))
        else:
            result[key] = value
    return result


def _dependency_model(pair: document.Pair, found: list[Diagnostic]) -> type[BaseModel] | None:
    """A dependency with a `type` is one of the platform's own; the others have a factory."""
    body = pair.value if isinstance(pair.value, Mapping) else Mapping({}, pair.value.span)
    node = body.get("type")
    if node is None:
        near = closest("type", body.pairs.keys() - {"scope", "with"}) if "factory" not in body.pairs else None
        if near is None:
            return project.Dependency
        message = f'unknown key "{near}" in dependency "{pair.key.value}"'
        found.append(misspelt("BF201", message, body.pairs[near].key.span, near, ["type"]))
        return None
    if isinstance(node, Scalar) and node.value in project.BUILT_INS:
        return project.BUILT_INS[str(node.value)]
    if isinstance(node, Scalar) and node.value is None:
        hint = f"one of: {', '.join(project.BUILT_INS)}; or leave it out, and write `factory`"
        found.append(Diagnostic("BF203", "`type` is empty", node.span, hint))
        return None
    name = plain(node)
    message = f'there is no built-in dependency "{name}"'
    found.append(misspelt("BF205", message, node.span, str(name), project.BUILT_INS))
    return None


_BELOW = "write its entries below it, a key each, or leave it out"


def _is_empty(node: Node) -> bool:
    return isinstance(node, Scalar) and node.value is None


def _lost(root: Mapping) -> frozenset[str]:
    """Sections of another type, and those that an unknown key probably means."""
    unknown = root.pairs.keys() - known_keys(project.Project, ())
    meant = {near for key in unknown if (near := closest(key, _NAMED))}
    written = {key: node for key in _NAMED if (node := root.get(key)) is not None}
    unread = {key for key, node in written.items() if not isinstance(node, Mapping) and not _is_empty(node)}
    return frozenset(meant | unread)


_NAMED = ("primitives", "dependencies", "services", "variables")
"""Sections whose keys other sections name."""


def _primitives(
    root: Mapping, found: list[Diagnostic], broken: set[tuple[str, str]], unread: set[Path], lost: bool
) -> dict[str, tuple[Primitive, Spec]]:
    node = root.get("primitives")
    if node is None or (isinstance(node, Scalar) and node.value is None):
        return {}
    if not isinstance(node, Mapping):
        found.append(wrong_type("`primitives`", node, "a mapping", node.span, _BELOW))
        return {}
    result: dict[str, tuple[Primitive, Spec]] = {}
    for key, pair in node.pairs.items():
        primitive = _type_of(key, pair, found, lost)
        path = ("primitives", key)
        spec = validate_model(primitive.spec, pair.value, path, found, unread, root=root) if primitive else None
        if primitive and spec:
            result[key] = (primitive, spec)
        else:
            broken.add(path)
    return result


def _fields_of_all() -> set[str]:
    return {name for primitive in all_primitives().values() for name in primitive.spec.model_fields}


_ANY_PRIMITIVE = set(Spec.model_fields) | set(project.PROVIDERS)


def _type_of(key: str, pair: document.Pair, found: list[Diagnostic], lost: bool) -> Primitive | None:
    known = all_primitives()
    if not isinstance(pair.value, Mapping):
        hint = f"write `{key}: {{type: bucket}}`"
        found.append(wrong_type(f'primitive "{key}"', pair.value, "a mapping", pair.value.span, hint))
        return None
    node = pair.value.get("type")
    if node is None and lost:
        return None  # an overlay whose base is where the section's name is misspelt
    misspelt_type = closest("type", pair.value.pairs.keys() - _ANY_PRIMITIVE) if node is None else None
    if misspelt_type:
        place = pair.value.pairs[misspelt_type].key.span
        message = f'unknown key "{misspelt_type}" in primitive "{key}"'
        found.append(misspelt("BF201", message, place, misspelt_type, ["type"]))
        return None
    if node is None or (isinstance(node, Scalar) and node.value is None):
        for strange in pair.value.pairs.keys() - _fields_of_all():
            words = f'unknown key "{strange}" in primitive "{key}"'
            found.append(Diagnostic("BF201", words, pair.value.pairs[strange].key.span, "it needs a `type` first"))
        message = f'primitive "{key}" needs a `type`'
        found.append(Diagnostic("BF202", message, pair.key.span, did_you_mean("", known)))
        return None
    if not isinstance(node, Scalar) or not isinstance(node.value, str):
        hint = f"one of: {', '.join(known)}"
        found.append(Diagnostic("BF203", f"`type` has to be text, this is {shown(node)}", node.span, hint))
        return None
    if node.value not in known:
        message = f'there is no primitive type "{plain(node)}"'
        if ours := _OTHER_NAMES.get(node.value.lower()):
            found.append(Diagnostic("BF205", message, node.span, f"write `type: {ours}`: {known[ours].summary}"))
            return None
        found.append(misspelt("BF205", message, node.span, node.value, known, f"one of: {', '.join(known)}"))
        return None
    return known[str(node.value)]


_OTHER_NAMES = {
    **dict.fromkeys(("blob", "gcs", "object_storage", "s3", "storage"), "bucket"),
    **dict.fromkeys(("cloud_sql", "cloudsql", "pg", "postgres", "postgresql", "rds", "sql"), "database"),
    **dict.fromkeys(("csv", "json", "jsonl", "parquet"), "file"),
    **dict.fromkeys(("amqp", "celery", "rabbitmq", "redis", "redis_stream", "sqs"), "queue"),
    **dict.fromkeys(("cron", "eventbridge", "timer"), "schedule"),
    **dict.fromkeys(("bigquery", "duckdb"), "table"),
    **dict.fromkeys(("kafka", "pubsub", "redpanda", "sns"), "topic"),
}
"""What others call a primitive type, or what it is made of, and what it is here."""


def _names(root: Mapping, found: list[Diagnostic], broken: set[tuple[str, str]], unread: set[Path]) -> None:
    """Keys of primitives and dependencies are identifiers, unique across both; routes read METHOD /path."""
    for section in ("primitives", "dependencies", "services", "consumers", "variables"):
        node = root.get(section)
        for key, pair in node.pairs.items() if isinstance(node, Mapping) else ():
            if not re.fullmatch(project.IDENTIFIER, key) or iskeyword(key):
                bears = _BEARS.get(section, "that a parameter could bear")
                message = f'"{key}" is no name {bears}'
                hint = f'use the letters a to z, digits and _: "{_identifier(key)}"'
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
        if problem := malformed_route(key, str(pair.key.value)):
            message = f'"{pair.key.value}" is no route: {problem[0]}'
            if "${" not in key:  # that is a mistake of its own
                found.append(Diagnostic("BF206", message, pair.key.span, _each_method(key) or problem[1]))
            unread.add(("routes", key, "path"))


def _each_method(key: str) -> str:
    """The hint for a route that is to answer every method."""
    method, _, path = key.partition(" ")
    every = method.upper() in ("*", "ALL", "ANY") and path.startswith("/")
    return f"write a route for each method: `GET {path}`, `POST {path}`, ..." if every else ""


_BEARS = {"consumers": "for a consumer", "services": "for a service", "variables": "for a variable"}


def _identifier(text: str) -> str:
    """The nearest name that Python takes."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", text)
    return f"{name}_" if iskeyword(name) else name if name[:1].isalpha() or name[:1] == "_" else f"_{name}"
