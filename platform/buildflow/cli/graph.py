"""`platform graph`: what is stored, served and consumed, and how it hangs together."""

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from buildflow.cli.project import Choice, FileOption, JsonOption, SetOption, StackOption, correct
from buildflow.cli.terminal import put, put_json
from buildflow.compiler import DEFAULT_FILE
from buildflow.ir.runtime import HandlerPlan, RuntimePlan


class Format(StrEnum):
    tree = "tree"
    mermaid = "mermaid"
    json = "json"


def graph(
    file: FileOption = Path(DEFAULT_FILE),
    stack: StackOption = None,
    values: SetOption = None,
    format: Annotated[Format, typer.Option("--format", help="How to draw it.")] = Format.tree,
    as_json: JsonOption = False,
) -> None:
    """Draw the project: primitives, routes, consumers, dependencies, and what goes where."""
    plan = correct(Choice(file, stack, values), as_json=as_json).plan
    if as_json or format is Format.json:
        put_json({"nodes": list(_nodes(plan)), "edges": [{"from": a, "to": b, "as": c} for a, b, c in edges(plan)]})
    elif format is Format.mermaid:
        put("\n".join(_mermaid(plan)))
    else:
        put("\n".join(_tree(plan)))


def edges(plan: RuntimePlan) -> Iterator[tuple[str, str, str]]:
    """(from, to, as what), in the direction in which data or a value goes."""
    for resource in plan.resources:
        for name, target in resource.references.items():
            yield target, resource.key, name
    for dependency in plan.dependencies:
        for injection in dependency.inject:
            yield injection.key, dependency.key, "injected"
    for route in plan.routes:
        yield from _handler_edges(f"{route.method} {route.path}", route.handler)
        if route.sink:
            yield f"{route.method} {route.path}", route.sink, "sink"
    for consumer in plan.consumers:
        yield consumer.source, consumer.key, "source"
        yield from _handler_edges(consumer.key, consumer.handler)
        if consumer.sink:
            yield consumer.key, consumer.sink, "sink"
        if consumer.dead_letter:
            yield consumer.key, consumer.dead_letter, "dead letters"


def _handler_edges(owner: str, handler: HandlerPlan) -> Iterator[tuple[str, str, str]]:
    for injection in handler.inject:
        yield injection.key, owner, "injected"


def _nodes(plan: RuntimePlan) -> Iterator[dict[str, str]]:
    for resource in plan.resources:
        yield {"key": resource.key, "kind": "primitive", "type": resource.type, "id": resource.id}
    for dependency in plan.dependencies:
        yield {"key": dependency.key, "kind": "dependency", "type": dependency.scope, "id": dependency.factory}
    for route in plan.routes:
        yield {"key": f"{route.method} {route.path}", "kind": "route", "type": route.method,
               "id": route.handler.function}  # fmt: skip
    for consumer in plan.consumers:
        yield {"key": consumer.key, "kind": "consumer", "type": consumer.pool, "id": consumer.handler.function}


def _tree(plan: RuntimePlan) -> Iterator[str]:
    yield f"{plan.project} ({plan.stack})"
    groups: dict[str, list[tuple[str, list[str]]]] = {}
    incoming: dict[str, list[str]] = {}
    for origin, target, what in edges(plan):
        if what == "source":
            incoming.setdefault(target, []).insert(0, f"takes from {origin}")
        elif what in ("sink", "dead letters"):
            incoming.setdefault(origin, []).append(f"{'writes to' if what == 'sink' else 'gives up to'} {target}")
        else:
            incoming.setdefault(target, []).append(f"uses {origin}")
    for node in _nodes(plan):
        line = {"primitive": f"{node['key']}  {node['type']}  {node['id']}",
                "route": f"{node['key']}  -> {node['id']}",
                "consumer": f"{node['key']}  -> {node['id']}",
                "dependency": f"{node['key']}  {node['id']}  ({node['type']})"}[node["kind"]]  # fmt: skip
        heading = "dependencies" if node["kind"] == "dependency" else f"{node['kind']}s"
        groups.setdefault(heading, []).append((line, incoming.get(node["key"], [])))
    for number, (heading, items) in enumerate(groups.items()):
        last_group = number == len(groups) - 1
        yield f"{'└' if last_group else '├'}── {heading}"
        bar = "    " if last_group else "│   "
        for index, (line, leaves) in enumerate(items):
            last = index == len(items) - 1
            yield f"{bar}{'└' if last else '├'}── {line}"
            for leaf, text in enumerate(leaves):
                yield f"{bar}{'    ' if last else '│   '}{'└' if leaf == len(leaves) - 1 else '├'}── {text}"


_SHAPES = {"primitive": "[({})]", "route": "([{}])", "consumer": "[[{}]]", "dependency": "{{{{{}}}}}"}


def _mermaid(plan: RuntimePlan) -> Iterator[str]:
    yield "flowchart LR"
    names: dict[str, str] = {}
    for number, node in enumerate(_nodes(plan)):
        names[node["key"]] = f"n{number}"
        label = f'"{node["key"]}<br/><i>{node["type"]}</i>"'
        yield f"  n{number}{_SHAPES[node['kind']].format(label)}"
    for origin, target, what in edges(plan):
        if origin in names and target in names:
            yield f"  {names[origin]} -->|{what}| {names[target]}"
