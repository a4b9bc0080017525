"""What stands before what: the order of primitives and dependencies, whoever names whom."""

from itertools import pairwise
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from buildflow.compiler import Compilation
from buildflow.compiler.ordering import in_order
from buildflow.diagnostics import Severity
from buildflow.ir.runtime import SCOPES
from tests.unit.compiler.conftest import Compiled
from tests.unit.compiler.looking import many

names = st.sampled_from("abcdef")
graphs = st.dictionaries(names, st.lists(names, max_size=3, unique=True), min_size=1)


def reachable(needs: dict[str, list[str]], key: str) -> set[str]:
    """What a key needs, directly or not."""
    found: set[str] = set()
    waiting = [*needs.get(key, ())]
    while waiting:
        if (each := waiting.pop()) not in found and each in needs:
            found.add(each)
            waiting += needs[each]
    return found


def in_circles(needs: dict[str, list[str]]) -> set[str]:
    return {key for key in needs if key in reachable(needs, key)}


def respects(order: list[str], needs: dict[str, list[str]]) -> bool:
    """Whether each key stands behind those that it needs, circles aside."""
    place = {key: number for number, key in enumerate(order)}
    edges = [(key, needed) for key in needs for needed in needs[key] if needed in needs]
    return all(place[needed] < place[key] for key, needed in edges if key not in reachable(needs, needed) | {needed})


@many
@given(graphs)
def test_an_order_respects_every_edge_and_tells_every_circle(needs: dict[str, list[str]]) -> None:
    order, circles = in_order(needs)
    assert sorted(order) == sorted(needs)
    assert respects(order, needs)
    assert bool(circles) == bool(in_circles(needs))
    for circle in circles:
        assert circle[0] == circle[-1]
        assert all(after in needs[before] for before, after in pairwise(circle))


REFERRING = {"file_change_stream": "bucket", "subscription": "topic", "database": "instance", "file": "bucket"}
"""Types whose primitives name another one, and in which field."""
primitive_graphs = st.dictionaries(
    names, st.tuples(st.sampled_from(("bucket", "topic", "queue", *REFERRING)), names), min_size=1
)


def primitive(type_: str, target: str) -> dict[str, Any]:
    more: dict[str, Any] = {"path": "x"} if type_ == "file" else {}
    return {"type": type_, **({REFERRING[type_]: target} if type_ in REFERRING else {}), **more}


def test_primitives_stand_behind_those_that_they_name(compiled: Compiled) -> None:
    @many
    @given(primitive_graphs)
    def holds(graph: dict[str, tuple[str, str]]) -> None:
        document = {"project": "shop", "primitives": {key: primitive(*body) for key, body in graph.items()}}
        result = compiled(yaml.dump(document, sort_keys=False))
        needs = {r.key: list(r.references.values()) for r in result.graph.resources}
        assert respects([r.key for r in result.graph.resources], needs)
        assert {d.code for d in result.diagnostics} >= expected_codes(graph)

    holds()


def expected_codes(graph: dict[str, tuple[str, str]]) -> set[str]:
    """An unknown name, a wrong type, a circle of databases."""
    wanted = {"subscription": "topic", "database": "database"}
    found = set()
    instances = {key: [target] for key, (type_, target) in graph.items() if type_ == "database"}
    for type_, target in graph.values():
        if type_ in REFERRING and target not in graph:
            found.add("BF210")
        elif type_ in REFERRING and graph[target][0] != wanted.get(type_, "bucket"):
            found.add("BF211")
    return found | ({"BF216"} if in_circles(instances) else set())


dependency_graphs = st.dictionaries(
    names, st.tuples(st.sampled_from(SCOPES), st.lists(names, max_size=3, unique=True)), min_size=1
)


def test_dependencies_are_built_behind_those_that_they_need(compiled: Compiled) -> None:
    @many
    @given(dependency_graphs)
    def holds(graph: dict[str, tuple[str, list[str]]]) -> None:
        needs = {key: [n for n in needed if n in graph and n != key] for key, (_, needed) in graph.items()}
        result = built(graph, needs, compiled)
        codes = {d.code for d in result.diagnostics if d.severity is Severity.ERROR}
        assert codes == ({"BF321"} if in_circles(needs) else set()) | ({"BF320"} if shorter(graph, needs) else set())
        told = {(d.span.line, d.related[0].span.line) for d in result.diagnostics if d.code == "BF320"}
        lines = {key: number for number, key in enumerate(graph, 3)}
        assert told == {(lines[key], lines[needed]) for key, needed in shorter(graph, needs)}
        order = [d.key for d in result.plan.dependencies]
        assert respects(order, needs)
        asked = next(iter(graph))
        assert result.plan.gateway_dependencies == tuple(k for k in order if k == asked or k in reachable(needs, asked))

    holds()


def built(graph: dict[str, tuple[str, list[str]]], needs: dict[str, list[str]], compiled: Compiled) -> Compilation:
    """A project with these dependencies, one a line from line 3, and one route that needs the first of them."""
    lines = [f"  {key}: {{factory: made:{key}, scope: {scope}}}" for key, (scope, _) in graph.items()]
    text = "\n".join(["project: shop", "dependencies:", *lines, "routes: {GET /: made:index}", ""])
    functions = [f"def {key}({', '.join(needed)}): ..." for key, needed in needs.items()]
    return compiled(text, made="\n".join([*functions, f"def index({next(iter(graph))}): ..."]))


def shorter(graph: dict[str, tuple[str, list[str]]], needs: dict[str, list[str]]) -> set[tuple[str, str]]:
    """Who needs what lives shorter; what is new at each injection may be needed by all."""
    lives = {key: SCOPES.index(scope) for key, (scope, _) in graph.items()}
    return {
        (key, needed)
        for key in needs
        for needed in needs[key]
        if lives[needed] > lives[key] and graph[needed][0] != "none"
    }
