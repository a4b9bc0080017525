"""A Declaration to a ResourceGraph, where no file of today's primitive types can show it."""

from typing import Annotated

from pydantic import Field

from buildflow.compiler.resolve import resolve
from buildflow.compiler.validate import Declaration
from buildflow.primitives.base import Primitive, Reference, Role, Spec
from buildflow.spec.document import parse


class LinkSpec(Spec):
    next: Annotated[str | None, Reference("queue")] = Field(default=None, description="The next one.")


LINK = Primitive(type="queue", summary="A queue that names another.", spec=LinkSpec, roles=frozenset({Role.SOURCE}))


def chain(**links: str | None) -> Declaration:
    lines = [f"  {key}: {{type: queue, next: {target}}}" for key, target in links.items()]
    document, _ = parse("\n".join(["project: p", "primitives:", *lines]), "f.yaml")
    primitives = {key: (LINK, LinkSpec(type="queue", next=target)) for key, target in links.items()}
    return Declaration(root=document.root, primitives=primitives)


def test_what_is_referred_to_stands_first_else_the_order_of_the_file() -> None:
    graph, found = resolve(chain(c=None, a="b", b="d", d=None, e="c"))
    assert found == []
    assert [r.key for r in graph.resources] == ["c", "d", "b", "a", "e"]
    assert graph["a"].references == {"next": "b"}
    assert [r.key for r in graph.referrers("c")] == ["e"]


def test_a_circle_is_told_once_at_the_reference_that_closes_it() -> None:
    _, found = resolve(chain(a="b", b="c", c="a", x=None))
    assert [(d.code, d.span.line, d.span.column) for d in found] == [("BF216", 5, 26)]
    assert found[0].message == "primitives refer to each other in a circle: a -> b -> c -> a"


def test_one_that_names_itself() -> None:
    _, found = resolve(chain(a="a"))
    assert [d.code for d in found] == ["BF216"]
