"""A tree of values as YAML that every parser reads alike, and as a flat mapping of paths for programs."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from buildflow.cli.config_values import Leaf, Tree
from buildflow.spec.document import scalar_value

WIDEST = 72
"""Columns from which a line no longer moves everybody's comments to the right."""
_SAFE = re.compile(r"[\w./$(](?:[^:#\x00-\x1f\x7f-\xa0\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]|:(?=\S)|(?<=\S)#)*")
"""Text that means itself in block style, whatever stands in it; the rest is quoted."""
_YAML_1_1_ONLY = ("y", "Y", "n", "N")
"""Booleans to the specification of YAML 1.1; PyYAML leaves them text."""
_IDENTIFIER = re.compile(r"[A-Za-z_][\w-]*")

Line = tuple[str, str]
"""A line of YAML, and what may be said of it."""


def yaml_lines(tree: dict[str, Tree]) -> Iterator[Line]:
    """The tree in block style; nothing in it depends on the version of YAML."""
    yield from _mapping(tree, "")


def _mapping(tree: dict[str, Tree], indent: str) -> Iterator[Line]:
    for key, value in tree.items():
        yield from _entry(f"{indent}{scalar(key)}:", value, f"{indent}  ")


def _entry(head: str, value: Tree, indent: str) -> Iterator[Line]:
    if isinstance(value, Leaf):
        yield f"{head} {scalar(value.value)}", value.origin
    elif not value:
        yield f"{head} {'{}' if isinstance(value, dict) else '[]'}", ""
    else:
        yield head, ""
        yield from _mapping(value, indent) if isinstance(value, dict) else _items(value, indent)


def _items(items: list[Tree], indent: str) -> Iterator[Line]:
    for item in items:
        if isinstance(item, dict) and item:
            first, *rest = _mapping(item, f"{indent}  ")
            yield f"{indent}- {first[0].lstrip()}", first[1]
            yield from rest
        else:
            yield from _entry(f"{indent}-", item, f"{indent}  ")


def scalar(value: Any) -> str:
    """A value without parts. Text that any YAML, old or new, could take for something else is quoted."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, str):
        return value if _is_plain(value) else _quoted(value)
    return str(yaml.safe_dump(value)).partition("\n")[0]


def _is_plain(text: str) -> bool:
    if text != text.strip() or not _SAFE.fullmatch(text) or text in _YAML_1_1_ONLY:
        return False
    resolvers = yaml.SafeLoader.yaml_implicit_resolvers
    old = (*resolvers.get(text[0], ()), *resolvers.get(None, ()))
    return isinstance(scalar_value(text), str) and not any(pattern.match(text) for _, pattern in old)


def _quoted(text: str) -> str:
    return str(yaml.safe_dump(text, default_style='"', allow_unicode=True, width=float("inf"))).rstrip("\n")


def commented(lines: list[Line]) -> Iterator[Line]:
    """Lines padded so that their comments stand below each other; the second part is the comment with its `#`."""
    column = max((len(text) for text, about in lines if about and len(text) <= WIDEST), default=0)
    for text, about in lines:
        yield (f"{text:<{column}}  ", f"# {' '.join(about.split())}") if about else (text, "")


def flat(tree: Tree, path: str = "") -> Iterator[tuple[str, Leaf]]:
    """Every leaf by its path: `consumers.save.retry.attempts`, `routes."GET /".handler`, `events[0]`."""
    if isinstance(tree, Leaf):
        yield path, tree
    elif isinstance(tree, dict):
        for key, value in tree.items():
            name = key if _IDENTIFIER.fullmatch(key) else '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'
            yield from flat(value, f"{path}.{name}" if path else name)
    else:
        for index, item in enumerate(tree):
            yield from flat(item, f"{path}[{index}]")


def plain(tree: Tree) -> Any:
    """The tree as plain values, origins dropped."""
    if isinstance(tree, Leaf):
        return tree.value
    return {k: plain(v) for k, v in tree.items()} if isinstance(tree, dict) else [plain(item) for item in tree]
