"""Proposals of diagnostics as edits of the text: one word of one key or value each, and nothing else changes.

A proposal becomes an edit where it surely is that word, where the new one means itself in YAML, and where no other
proposal contradicts it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from buildflow.compiler import Compilation
from buildflow.diagnostics import Replacement, Span
from buildflow.spec.document import Document, Mapping, Scalar, scalar_value, walk


@dataclass(frozen=True, slots=True)
class Edit:
    """One word, exactly at `span`, and the one that takes its place."""

    span: Span
    old: str
    new: str


def replaced(text: str, chosen: Iterable[Edit]) -> str:
    """The text with each edit's word replaced, byte for byte the same elsewhere."""
    start = text[: text.startswith("\ufeff")]  # spans do not count it
    lines = text[len(start) :].splitlines(keepends=True)
    for edit in sorted(chosen, key=lambda e: e.span, reverse=True):
        line, first, last = edit.span.line - 1, edit.span.column - 1, edit.span.end_column - 1
        lines[line] = lines[line][:first] + edit.new + lines[line][last:]
    return start + "".join(lines)


def edits(result: Compilation) -> list[Edit]:
    """The cures that may be applied at once, in file order. Of two that overlap, or that would give a mapping one key
    twice, the first; of two that disagree about one word, none."""
    keys_beside = _scalars(result.document)
    chosen: list[Edit] = []
    found = sorted(_located(result, keys_beside), key=lambda found: (found[0].span, found[0].new))
    for _, group in groupby(found, key=lambda found: found[0].span):
        (edit, scalar), *others = group
        overlaps = chosen and _start(edit.span) < _end(chosen[-1].span)
        if not others and not overlaps and not any(edit.new in keys for keys in keys_beside[scalar]):
            for keys in keys_beside[scalar]:
                keys.add(edit.new)
            chosen.append(edit)
    return chosen


def _located(result: Compilation, scalars: Iterable[Span]) -> set[tuple[Edit, Span]]:
    """Each cure that is surely one, and the scalar that it is in."""
    declared = _declared(result)
    by_line = {line: list(spans) for line, spans in groupby(sorted(scalars), key=lambda span: span.line)}
    found = set()
    for diagnostic in result.diagnostics:
        fix = diagnostic.fix
        span = located(fix, result.document) if fix else None
        if fix is None or span is None or (diagnostic.code in _REFERENCES and fix.old in declared):
            continue
        scalar = next(
            (s for s in by_line.get(span.line, ()) if _start(s) <= _start(span) and _end(span) <= _end(s)), None
        )
        if scalar:
            found.add((Edit(span, fix.old, fix.new), scalar))
    return found


def _start(span: Span) -> tuple[int, int]:
    return span.line, span.column


def _end(span: Span) -> tuple[int, int]:
    return span.end_line, span.end_column


def located(fix: Replacement, document: Document) -> Span | None:
    """Where in a file the one text is that a fix replaces; None if it is not surely that one."""
    span = fix.span
    if span.file != document.path or span.end_line != span.line or span.line > len(document.lines):
        return None
    source = document.lines[span.line - 1][span.column - 1 : span.end_column - 1]
    found = list(re.finditer(_alone(fix.old), source)) if _means_itself(fix) else []
    if len(found) != 1:
        return None
    first, last = (span.column + place for place in found[0].span())
    return Span(span.file, span.line, first, span.line, last)


def _alone(text: str) -> str:
    """A pattern for a text that is no part of a longer word, and no anchor, alias or tag."""
    before = r"(?<![\w&*!-])" if text[:1].isalnum() or text[:1] == "_" else ""
    behind = r"(?![\w-])" if text[-1:].isalnum() or text[-1:] == "_" else ""
    return before + re.escape(text) + behind


def _means_itself(fix: Replacement) -> bool:
    """Whether the new text is what it says, quoted or not: it differs from the old one in words alone."""
    signs, as_before = (re.sub(r"[\w.-]+", " ", text) for text in (fix.new, fix.old))
    begins = fix.new[:1].isalpha() or fix.new[:1] == "_" or fix.new[:1] == fix.old[:1]
    return bool(fix.old and begins and signs == as_before) and isinstance(scalar_value(fix.new), str)


def _scalars(document: Document) -> dict[Span, list[set[str]]]:
    """The places of all keys and values; a key's with the keys of each mapping that it is in, through anchors too."""
    found: dict[Span, list[set[str]]] = {}
    for _, node in walk(document.root):
        if isinstance(node, Scalar):
            found.setdefault(node.span, [])
        elif isinstance(node, Mapping):
            keys = set(node.pairs)
            for pair in node.pairs.values():
                found.setdefault(pair.key.span, []).append(keys)
    return found


_REFERENCES = {"BF122", "BF210"}
_SECTIONS = ("primitives", "dependencies", "services", "variables")


def _declared(result: Compilation) -> set[str]:
    """What the file declares anywhere. A name of one stack is unknown in another, and yet no misspelling."""
    proposed = {diagnostic.fix.span for diagnostic in result.diagnostics if diagnostic.fix}
    return {
        key
        for path, node in walk(result.document.root)
        if path and path[-1] in _SECTIONS and isinstance(node, Mapping)
        for key, pair in node.pairs.items()
        if pair.key.span not in proposed
    }
