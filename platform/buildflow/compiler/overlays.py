"""A stack's overlay: laid over the base (mappings merge, lists replace, `null` removes), and held against it."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from buildflow.compiler.mistakes import inside, singular
from buildflow.diagnostics import Diagnostic, Related, closest, misspelt
from buildflow.spec.document import Mapping, Node, Pair, Scalar, key_span, walk, with_values
from buildflow.spec.project import OVERLAYS

_ENTRIES = ("primitives", "dependencies", "services", "routes", "consumers")
"""Sections whose entries have keys that other things name."""


def effective(root: Mapping, stack: str) -> Mapping:
    """The document of one stack: the base with that stack's overlay, and `stacks` reduced to its settings."""
    stacks = root.get("stacks")
    block = stacks.get(stack) if isinstance(stacks, Mapping) else None
    if not isinstance(stacks, Mapping) or not isinstance(block, Mapping):
        return root
    result = root
    for section in OVERLAYS:
        over = block.get(section)
        if over is not None:
            base = result.get(section)
            result = result.with_value(section, overlay(base, over) if base else _drop_nulls(over))
    settings = block.without(*OVERLAYS)
    kept = Mapping({**stacks.pairs, stack: Pair(stacks.pairs[stack].key, settings)}, stacks.span)
    return result.with_value("stacks", kept)


def overlay(base: Node, over: Node) -> Node:
    """Mappings merge, lists and values replace, `null` removes."""
    if not isinstance(base, Mapping) or not isinstance(over, Mapping):
        return _drop_nulls(over)
    pairs = dict(base.pairs)
    for key, pair in over.pairs.items():
        if isinstance(pair.value, Scalar) and pair.value.value is None:
            pairs.pop(key, None)
        elif key in pairs and isinstance(pairs[key].value, Mapping) and isinstance(pair.value, Mapping):
            pairs[key] = Pair(pairs[key].key, overlay(pairs[key].value, pair.value))
        else:
            pairs[key] = Pair(pair.key, _drop_nulls(pair.value))
    return Mapping(pairs, base.span)


def _drop_nulls(node: Node) -> Node:
    if not isinstance(node, Mapping):
        return node
    empty = [k for k, pair in node.pairs.items() if isinstance(pair.value, Scalar) and pair.value.value is None]
    return with_values(node.without(*empty) if empty else node, _drop_nulls)


def blocks(root: Mapping) -> Iterator[tuple[str, Mapping]]:
    """Every stack's own block, by name."""
    stacks = root.get("stacks")
    for name, pair in stacks.pairs.items() if isinstance(stacks, Mapping) else ():
        if isinstance(pair.value, Mapping):
            yield name, pair.value


def has_overlay(block: Mapping) -> bool:
    return not block.pairs.keys().isdisjoint(OVERLAYS)


def without_overlays(root: Mapping) -> Mapping:
    """The file as its base alone."""
    stacks = root.get("stacks")
    if not isinstance(stacks, Mapping):
        return root
    bare = with_values(stacks, lambda block: block.without(*OVERLAYS) if isinstance(block, Mapping) else block)
    return root.with_value("stacks", bare)


def check_overlays(root: Mapping) -> list[Diagnostic]:
    """A `null` that removes nothing, and an entry that is laid over nothing but all but bears the name of one."""
    found: list[Diagnostic] = []
    for stack, block in blocks(root):
        for section in OVERLAYS:
            over, base = block.get(section), root.get(section)
            if isinstance(over, Mapping):
                base = base if isinstance(base, Mapping) else Mapping({}, over.span)
                found += _removed(over, base, f'stack "{stack}"', section)
                found += _misspelt_entries(over, base, section) if section in _ENTRIES else []
    return found


def _removed(over: Mapping, base: Mapping, stack: str, where: str) -> Iterator[Diagnostic]:
    """Every `null` below an overlay, against what it would remove."""
    for key, pair in over.pairs.items():
        below = base.get(key)
        if isinstance(pair.value, Scalar) and pair.value.value is None:
            if key not in base.pairs:
                message = f'{stack} removes "{pair.key.value}" of {where}, and there is none'
                yield misspelt("BF210", message, pair.key.span, str(pair.key.value), _written(base), "leave it out")
        elif isinstance(pair.value, Mapping) and isinstance(below, Mapping):
            yield from _removed(pair.value, below, stack, f"{where}.{key}")


def with_removals(found: Iterable[Diagnostic], root: Mapping, stack: str) -> list[Diagnostic]:
    """The diagnostics of one stack: those about what its overlay removes say where it does, and propose no other
    name."""
    removed = dict(_phrases(root, stack))
    result = []
    for diagnostic in found:
        place = next((related for words, related in removed.items() if words in diagnostic.message), None)
        if place:
            hint = "keep it there, or let this stack do without what needs it"
            related = (*diagnostic.related, place)
            diagnostic = replace(diagnostic, hint=hint, related=related, fix=None)
        result.append(diagnostic)
    return result


def _phrases(root: Mapping, stack: str) -> Iterator[tuple[str, Related]]:
    """How diagnostics speak of what is not there, for everything that one stack's overlay removes."""
    block = dict(blocks(root)).get(stack, Mapping({}, root.span))
    for section in OVERLAYS:
        for path, node in walk(block.get(section) or Mapping({}, root.span), (section,)):
            if len(path) > 1 and isinstance(node, Scalar) and node.value is None:
                here = Related(f'stack "{stack}" removes it here', key_span(block, path))
                yield f"`{path[-1]}` is missing{inside((), path)}", here
                if len(path) == 2:
                    yield f'there is no {singular(section)} "{path[-1]}"', here
                    yield f'parameter "{path[-1]}" ', here


def _written(mapping: Mapping) -> list[str]:
    """Its keys as they are written: a route's method in the letter case of the file."""
    return [str(pair.key.value) for pair in mapping.pairs.values()]


_WHOLE = {"primitives": "type", "dependencies": "factory", "services": "", "routes": "handler", "consumers": "source"}
"""The key without which an entry cannot stand alone."""


def _misspelt_entries(over: Mapping, base: Mapping, section: str) -> Iterator[Diagnostic]:
    for key, pair in over.pairs.items():
        near = closest(str(pair.key.value), _written(base)) if key not in base.pairs else None
        entry = pair.value
        if near and isinstance(entry, Mapping) and not entry.pairs.keys() & {_WHOLE[section], "type"}:
            message = f'there is no "{pair.key.value}" in {section} to lay this over'
            yield misspelt("BF210", message, pair.key.span, str(pair.key.value), _written(base))
