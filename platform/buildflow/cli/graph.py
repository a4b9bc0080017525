"""`platform graph`: what is stored, served and consumed, and how it hangs together."""

import json
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from buildflow.cli.graph_drawing import Drawing, Edge, Node, Place
from buildflow.cli.graph_texts import dot, mermaid, tree
from buildflow.cli.guarantees import guarantee, sinks_of
from buildflow.cli.project import Choice, FileOption, JsonOption, SetOption, StackOption, correct, refuse_two_formats
from buildflow.cli.terminal import put, say
from buildflow.compiler import DEFAULT_FILE
from buildflow.ir.runtime import Injection, RuntimePlan
from buildflow.primitives.base import Role
from buildflow.primitives.registry import all_primitives


class Format(StrEnum):
    tree = "tree"
    mermaid = "mermaid"
    dot = "dot"
    json = "json"
    svg = "svg"


def graph(
    file: FileOption = Path(DEFAULT_FILE),
    stack: StackOption = None,
    values: SetOption = None,
    format: Annotated[
        Format | None, typer.Option("--format", help="How to draw it; a file's ending says it too, else a tree.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write it there instead of to stdout.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Draw the project: primitives, routes, consumers, dependencies, and what goes where.

    `platform graph --format svg --out graph.svg` makes a picture for a README. GitHub and GitLab draw what
    `--format mermaid` prints in a block of Markdown, Graphviz what `--format dot` prints.
    """
    refuse_two_formats(as_json, format)
    drawing = drawing_of(correct(Choice(file, stack, values), as_json=as_json).plan)
    text = _FORMATS[Format.json if as_json else format or _by_ending(out)](drawing)
    if out is None:
        put(text)
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n", "utf-8")
    except OSError as exc:
        raise typer.BadParameter(f"{out} cannot be written: {exc.strerror}", param_hint="--out") from exc
    say(f"wrote {out}")


def _by_ending(out: Path | None) -> Format:
    ending = out.suffix.removeprefix(".") if out else ""
    return Format(ending) if ending in set(Format) else Format.mermaid if ending == "mmd" else Format.tree


def drawing_of(plan: RuntimePlan) -> Drawing:
    return Drawing(plan.project, plan.stack, tuple(nodes(plan)), tuple(_edges(plan)))


def edges(plan: RuntimePlan) -> Iterator[tuple[str, str, str]]:
    """(from, to, as what), in the direction in which data or a value goes."""
    for origin, target, what in _edges(plan):
        yield origin.key, target.key, what


def _edges(plan: RuntimePlan) -> Iterator[Edge]:
    for resource in plan.resources:
        for name, target in resource.references.items():
            yield Edge(_primitive(target), _primitive(resource.key), name)
    for dependency in plan.dependencies:
        yield from _injected(dependency.inject, Place("dependency", dependency.key))
    for route in plan.routes:
        place = Place("route", f"{route.method} {route.path}")
        yield from _injected(route.inject, place)
        if route.auth:
            yield Edge(Place("dependency", route.auth), place, "auth")
        if route.sink:
            yield Edge(place, _primitive(route.sink), "sink")
    for consumer in plan.consumers:
        place = Place("consumer", consumer.key)
        yield Edge(_primitive(consumer.source), place, "source")
        yield from _injected(consumer.handler.inject, place)
        for sink in sinks_of(consumer):
            yield Edge(place, _primitive(sink), "sink")
        if consumer.dead_letter:
            yield Edge(place, _primitive(consumer.dead_letter), "dead letters")


def _primitive(key: str) -> Place:
    return Place("primitive", key)


def _injected(injections: Iterable[Injection], owner: Place) -> Iterator[Edge]:
    for injection in injections:
        yield Edge(Place(injection.kind, injection.key), owner, "injected")


def nodes(plan: RuntimePlan) -> Iterator[Node]:
    """What the edges are between, and what stands alone."""
    for resource in plan.resources:
        sends_only = Role.STORE not in all_primitives()[resource.type].roles
        yield Node(resource.key, "primitive", resource.type, resource.id, sends_only=sends_only)
    for dependency in plan.dependencies:
        yield Node(dependency.key, "dependency", dependency.scope, dependency.factory)
    for route in plan.routes:
        function = route.handler.function if route.handler else ""
        yield Node(f"{route.method} {route.path}", "route", route.method, function)
    for mount in plan.mounts:
        yield Node(mount.path, "mount", "files", mount.folder)
    for consumer in plan.consumers:
        promised = guarantee(consumer, plan)
        yield Node(consumer.key, "consumer", consumer.pool, consumer.handler.function, promised)


def _json(drawing: Drawing) -> str:
    shown = [
        {
            "key": n.key,
            "kind": n.kind,
            "type": n.type,
            "id": n.id,
            **({"guarantee": n.guarantee} if n.guarantee else {}),
        }
        for n in drawing.nodes
    ]
    linked = [{"from": origin.key, "to": target.key, "as": what} for origin, target, what in drawing.edges]
    return json.dumps({"nodes": shown, "edges": linked}, indent=2, ensure_ascii=False)


def _svg(drawing: Drawing) -> str:
    from buildflow.cli.graph_svg import svg

    return svg(drawing)


_FORMATS: dict[Format, Callable[[Drawing], str]] = {
    Format.tree: lambda drawing: "\n".join(tree(drawing)),
    Format.mermaid: lambda drawing: "\n".join(mermaid(drawing)),
    Format.dot: lambda drawing: "\n".join(dot(drawing)),
    Format.json: _json,
    Format.svg: _svg,
}
