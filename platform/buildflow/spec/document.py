"""Text to Document: YAML with the place of every key and value, by the YAML 1.2 core rules for scalars.

PyYAML's C parser composes the nodes (its marks give the places); what a plain scalar means is decided here,
because PyYAML follows YAML 1.1, where `on` is true and `12:30` is 750.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from buildflow.diagnostics import Diagnostic, Related, Severity, Span
from buildflow.spec.syntax_errors import syntax_error

MAX_BYTES = 5_000_000
MAX_NODES = 200_000
MAX_DEPTH = 100
MAX_DIGITS = 400

try:
    _Loader: Any = yaml.CSafeLoader
except AttributeError:  # a PyYAML built without libyaml
    _Loader = yaml.SafeLoader


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value without parts. `value` is None, bool, int, float or str; `plain` tells `5` from `"5"`;
    `interpolated` that its text came out of `${...}`; `unknown` that it holds one not resolved yet."""

    value: bool | int | float | str | None
    span: Span
    plain: bool = False
    interpolated: bool = False
    unknown: bool = False


@dataclass(frozen=True, slots=True)
class Pair:
    """A key with its value."""

    key: Scalar
    value: "Node"


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys (as text) to pairs, in the order of the file."""

    pairs: dict[str, Pair]
    span: Span

    def get(self, key: str) -> "Node | None":
        pair = self.pairs.get(key)
        return pair.value if pair else None

    def without(self, *keys: str) -> "Mapping":
        return Mapping({k: p for k, p in self.pairs.items() if k not in keys}, self.span)

    def with_value(self, key: str, value: "Node", key_span: Span | None = None) -> "Mapping":
        old = self.pairs.get(key)
        name = old.key if old else Scalar(key, key_span or value.span)
        return Mapping({**self.pairs, key: Pair(name, value)}, self.span)


@dataclass(frozen=True, slots=True)
class Sequence:
    items: tuple["Node", ...]
    span: Span


Node = Scalar | Mapping | Sequence


@dataclass(frozen=True, slots=True)
class Document:
    """One file: its path as the user named it, its lines, its root mapping."""

    path: str
    root: Mapping
    lines: tuple[str, ...] = field(default=(), repr=False)


_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_STANDARD_TAG = "tag:yaml.org,2002:"
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"([-+]?)\.(inf|Inf|INF)")
_WORDS: dict[str, bool | float | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}


_TAGS = {"str", "int", "float", "bool", "null", "seq", "map", "timestamp", "value", "merge"}
"""The tags of values; PyYAML gives the last three to plain scalars by itself."""
_YAML_11 = {
    "bool": "true or false",
    "int": "a number",
    "float": "a number",
    "null": "empty",
    "timestamp": "a date",
}
"""What the types of YAML 1.1 are called here; all others are text. Source: https://yaml.org/type/"""
_WORD_OF = {bool: "true or false", int: "a number", float: "a number", type(None): "empty"}


def scalar_value(text: str) -> bool | int | float | str | None:
    """What a plain scalar means by the YAML 1.2 core schema. Numbers with a leading zero stay text."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > MAX_DIGITS:
        return text  # no number that anybody means, and one that Python refuses to print
    if _INT.fullmatch(text):
        return int(text)
    if _OCTAL.fullmatch(text):
        return int(text, 8)
    if _HEX.fullmatch(text):
        return int(text, 16)
    if _FLOAT.fullmatch(text):
        return float(text)
    if match := _INFINITY.fullmatch(text):
        return float(match[1] + "inf")
    return text


def plain(node: Node) -> Any:
    """A node as plain Python values, places dropped."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    return {key: plain(pair.value) for key, pair in node.pairs.items()}


def at(node: Node, path: tuple[Any, ...]) -> Node:
    """The node at `path`, or the nearest one above it that exists."""
    for part in path:
        if isinstance(node, Mapping) and part in node.pairs:
            node = node.pairs[part].value
        elif isinstance(node, Sequence) and isinstance(part, int) and part < len(node.items):
            node = node.items[part]
        else:
            break
    return node


def key_span(root: Node, path: tuple[Any, ...]) -> Span:
    """The place of the last key of `path`; of the nearest thing above it if there is none."""
    parent = at(root, path[:-1])
    if path and isinstance(parent, Mapping) and path[-1] in parent.pairs:
        return parent.pairs[path[-1]].key.span
    return at(root, path).span


def with_values(node: "Mapping | Sequence", change: Callable[[Node], Node]) -> Node:
    """The node with every value changed; the very same node when none is."""
    if isinstance(node, Sequence):
        items = tuple(change(item) for item in node.items)
        return node if all(a is b for a, b in zip(items, node.items, strict=True)) else Sequence(items, node.span)
    changed = False
    pairs = {}
    for key, pair in node.pairs.items():
        value = change(pair.value)
        changed = changed or value is not pair.value
        pairs[key] = pair if value is pair.value else Pair(pair.key, value)
    return Mapping(pairs, node.span) if changed else node


def walk(node: Node, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Node]]:
    """Every node with its path, parents first, in the order of the file."""
    waiting = [(path, node)]
    while waiting:
        path, node = waiting.pop()
        yield path, node
        if isinstance(node, Mapping):
            waiting += [((*path, key), pair.value) for key, pair in reversed(node.pairs.items())]
        elif isinstance(node, Sequence):
            waiting += [((*path, index), node.items[index]) for index in reversed(range(len(node.items)))]


def parse(text: str, path: str) -> tuple[Document, list[Diagnostic]]:
    """Text to Document. Always gives one: after a syntax error, an empty one."""
    start = Span(path)
    text = text.removeprefix("\ufeff")
    empty = Document(path, Mapping({}, start), tuple(text.splitlines()[:5000]))
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        message = f"this file is larger than {MAX_BYTES // 1_000_000} MB"
        return empty, [
            Diagnostic("BF104", message, start, "a configuration is smaller than that; is it the right file?")
        ]
    if control := _UNPRINTABLE.search(text):
        return empty, [_control_character(control, path)]
    try:
        if mark := _too_deep(text):
            span = Span(path, mark.line + 1, mark.column + 1, mark.line + 1, mark.column + 2)
            return empty, [_nesting(span)]
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as exc:
        return empty, [syntax_error(exc, text, path)]
    if node is None:
        return empty, []
    return _Composition(path, text).document(node)


def _too_deep(text: str) -> Any:
    """Where nesting exceeds MAX_DEPTH, if it does. libyaml's composer recurses in C: it would end the process."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                return event.start_mark
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return None


def _control_character(found: re.Match[str], path: str) -> Diagnostic:
    before = found.string[: found.start()]
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    message = f"a control character (code {ord(found[0])}) stands here"
    hint = f'remove it, or write it as an escape in double quotes: "\\x{ord(found[0]):02x}"'
    if "\0" in found.string:
        message, hint = "this is no text file", "name the project's file: --file path/to/buildflow.yaml"
    return Diagnostic("BF101", message, Span(path, line, column, line, column + 1), hint)


def _nesting(span: Span) -> Diagnostic:
    message = f"values are nested more than {MAX_DEPTH} deep here, or an alias contains itself"
    return Diagnostic("BF104", message, span, "nest less, or remove the alias")


class _Composition:
    """Turns PyYAML's nodes into ours, counting them, so that an alias bomb stops before it has expanded."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.lines = tuple(text.splitlines())
        self.diagnostics: list[Diagnostic] = []
        self.nodes = 0
        self.depth = 0

    def document(self, node: yaml.Node) -> tuple[Document, list[Diagnostic]]:
        root: Node = Mapping({}, Span(self.path))
        try:
            root = self.convert(node)
        except _TooManyNodes:
            message = f"aliases expand this file to more than {MAX_NODES:,} values"
            self.diagnostics.append(Diagnostic("BF104", message, Span(self.path), "repeat less through `*aliases`"))
        except _TooDeep as exc:
            self.diagnostics.append(_nesting(exc.args[0]))
        if not isinstance(root, Mapping):
            message = "the file has to be a mapping of sections"
            hint = "begin with `project: my-app`, then `primitives:`, `routes:`, `consumers:`"
            self.diagnostics.append(Diagnostic("BF103", message, root.span, hint))
            root = Mapping({}, root.span)
        return Document(self.path, root, self.lines), self.diagnostics

    def convert(self, node: yaml.Node) -> Node:
        self.enter(node)
        if node.tag.removeprefix(_STANDARD_TAG) not in _TAGS:
            message = f'the tag "{node.tag.replace(_STANDARD_TAG, "!!")}" means nothing here'
            self.diagnostics.append(Diagnostic("BF101", message, self.span(node), "remove it"))
        converted: Node
        if isinstance(node, yaml.MappingNode):
            converted = self.mapping(node)
        elif isinstance(node, yaml.SequenceNode):
            converted = Sequence(tuple(self.convert(item) for item in node.value), self.span(node))
        else:
            converted = self.scalar(node)
        self.depth -= 1
        return converted

    def enter(self, node: yaml.Node) -> None:
        """Count a node. Raises when there are too many, or when it lies too deep."""
        self.nodes += 1
        self.depth += 1
        if self.nodes > MAX_NODES:
            raise _TooManyNodes
        if self.depth > MAX_DEPTH:
            raise _TooDeep(self.span(node))

    def scalar(self, node: Any) -> Scalar:
        is_plain = not node.style
        tagged_text = node.tag == "tag:yaml.org,2002:str" and is_plain and self.has_tag(node)
        value = scalar_value(node.value) if is_plain and not tagged_text else node.value
        if is_plain and not tagged_text:
            self.compare_with_yaml_11(node, value)
        return Scalar(value, self.span(node), is_plain)

    def compare_with_yaml_11(self, node: Any, value: Any) -> None:
        """PyYAML has given the node the tag that YAML 1.1 would: warn where other tools read another type."""
        theirs = _YAML_11.get(node.tag.removeprefix(_STANDARD_TAG), "text")
        ours = _WORD_OF.get(type(value), "text")
        if theirs != ours:
            others = "other tools" if re.fullmatch("[-+]?0[0-9]+", node.value) else "tools that follow YAML 1.1"
            message = f"{node.value} is {ours} here, and {theirs} to {others}"
            hint = f'write "{node.value}", in quotes' if ours == "text" else f"write {value!r}, or put it in quotes"
            warning = Diagnostic("BF109", message, self.span(node), hint, severity=Severity.WARNING)
            self.diagnostics.append(warning)

    def has_tag(self, node: yaml.Node) -> bool:
        """Whether the user wrote `!!str` before it (PyYAML gives plain text the same tag)."""
        line = self.lines[node.start_mark.line] if node.start_mark.line < len(self.lines) else ""
        return "!!str" in line[node.start_mark.column : node.end_mark.column]

    def mapping(self, node: yaml.MappingNode) -> Mapping:
        pairs: dict[str, Pair] = {}
        merged: dict[str, Pair] = {}
        merges = 0
        for key_node, value_node in node.value:
            if isinstance(key_node, yaml.ScalarNode) and key_node.value == "<<" and not key_node.style:
                merges += 1
                if merges == 2:
                    message, hint = "`<<` stands here a second time", "write `<<: [*one, *other]`"
                    self.diagnostics.append(Diagnostic("BF102", message, self.span(key_node), hint))
                merged = {**self.merge(value_node, self.span(key_node)), **merged}
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                hint = "put quotes around it"
                self.diagnostics.append(Diagnostic("BF203", "a key has to be text", self.span(key_node), hint))
                continue
            name = str(key_node.value)
            key = Scalar(name, self.span(key_node))
            if not key_node.style and _YAML_11.get(key_node.tag.removeprefix(_STANDARD_TAG)) != "a number":
                self.compare_with_yaml_11(key_node, name)
            if name in pairs:
                first = pairs[name].key.span
                message = f'"{name}" stands here a second time; the first is at line {first.line}'
                self.diagnostics.append(Diagnostic("BF102", message, key.span, "keep one of them, or rename one"))
                continue
            pairs[name] = Pair(key, self.convert(value_node))
        return Mapping({**merged, **pairs}, self.span(node))

    def merge(self, node: yaml.Node, place: Span) -> dict[str, Pair]:
        """What `<<: *anchor` (or a list of them) brings in; keys beside it win."""
        if isinstance(node, yaml.SequenceNode):
            merged: dict[str, Pair] = {}
            self.enter(node)
            for item in node.value:
                merged = {**self.merge(item, place), **merged}
            self.depth -= 1
            return merged
        value = self.convert(node)
        if isinstance(value, Mapping):
            return value.pairs
        hint = "write `<<: *name`, where `&name` stands before a mapping"
        is_alias = (value.span.line, value.span.column) < (place.line, place.column)
        related = (Related("this is no mapping", value.span),) if is_alias else ()
        span = place if is_alias else value.span
        self.diagnostics.append(Diagnostic("BF203", "`<<` merges mappings only", span, hint, related))
        return {}

    def span(self, node: yaml.Node) -> Span:
        start, end = node.start_mark, node.end_mark
        if isinstance(node, yaml.CollectionNode) and end.line > start.line:
            # a block collection's end mark stands at the next token; its first line is what to point at
            line = self.lines[start.line] if start.line < len(self.lines) else ""
            return Span(self.path, start.line + 1, start.column + 1, start.line + 1, max(len(line), start.column) + 1)
        return Span(self.path, start.line + 1, start.column + 1, end.line + 1, end.column + 1)


class _TooManyNodes(Exception):
    pass


class _TooDeep(Exception):
    pass
