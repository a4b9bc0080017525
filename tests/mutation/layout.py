"""Where the entries of a file begin and end, so that one can be dropped, replaced or written twice."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml


@dataclass(frozen=True)
class Entry:
    """A key with its value, as offsets: of the key, behind the key, of the value, behind the value."""

    start: int
    key_end: int
    value: int
    end: int
    flow: bool
    alone: bool
    """Whether nothing but spaces stands before it on its line."""


@cache
def entries(text: str) -> dict[tuple[int, int], Entry]:
    """Every entry of every mapping, by the line and column of its key."""
    found: dict[tuple[int, int], Entry] = {}
    for node in _nodes(yaml.compose(text, Loader=yaml.CSafeLoader)):
        for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
            start, line = key.start_mark.index, key.start_mark.line + 1
            before = text[text.rfind("\n", 0, start) + 1 : start]
            inside = value.start_mark.index >= key.end_mark.index and "*" not in text[key.end_mark.index :][:3]
            if inside:
                begins, end = value.start_mark.index, _end(text, value)
                entry = Entry(start, key.end_mark.index, begins, end, bool(node.flow_style), not before.strip())
                found[line, key.start_mark.column + 1] = entry
    return found


def _nodes(node: Any) -> Iterable[Any]:
    waiting, seen = [node], set()
    while waiting:
        node = waiting.pop()
        if id(node) not in seen and node is not None:
            seen.add(id(node))
            yield node
            inner = node.value if isinstance(node, yaml.CollectionNode) else ()
            waiting += [part for item in inner for part in (item if isinstance(item, tuple) else (item,))]


def _end(text: str, node: Any) -> int:
    """Behind a value: without the comments and blank lines that follow a block."""
    if not isinstance(node, yaml.CollectionNode) or node.flow_style:
        return int(node.end_mark.index)
    lines = text[node.start_mark.index : node.end_mark.index].splitlines(keepends=True)
    while lines and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
        lines.pop()
    return int(node.start_mark.index) + len("".join(lines).rstrip())


def line_of(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


def whole_lines(text: str, entry: Entry) -> tuple[int, int]:
    """The offsets of the lines of an entry that stands alone."""
    end = text.find("\n", entry.end)
    return text.rfind("\n", 0, entry.start) + 1, len(text) if end < 0 else end + 1


def in_braces(text: str, entry: Entry) -> tuple[int, int]:
    """An entry of `{...}` with the comma behind or before it."""
    end = entry.end
    while end < len(text) and text[end] in " \n":
        end += 1
    if text[end : end + 1] == ",":
        return entry.start, end + 1 + (text[end + 1 : end + 2] == " ")
    start = entry.start
    while start and text[start - 1] in " \n":
        start -= 1
    return (start - 1 if text[start - 1] == "," else entry.start), entry.end


def means_something(line: str) -> bool:
    """Not blank, no comment."""
    return bool(line.strip()) and not line.lstrip().startswith("#")


def with_text(text: str, line: int, column: int, old: str, new: str) -> str:
    """A text with `old`, which stands at a place that counts from 1, replaced."""
    lines = text.splitlines(keepends=True)
    before, after = lines[line - 1][: column - 1], lines[line - 1][column - 1 :]
    lines[line - 1] = before + after.replace(old, new, 1)
    return "".join(lines)
