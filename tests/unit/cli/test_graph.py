"""A project as a graph: what its edges are, and what tree, Mermaid and DOT make of them."""

import re
from pathlib import Path

import pytest

from buildflow.cli.graph import drawing_of, edges
from buildflow.cli.graph_drawing import Drawing, Edge, Node, Place
from buildflow.cli.graph_texts import dot, mermaid, tree
from buildflow.cli.guarantees import bindings
from buildflow.compiler import compile_file
from buildflow.ir.runtime import RuntimePlan
from buildflow.primitives.base import Role
from buildflow.primitives.bucket.sink import BucketSink
from buildflow.primitives.database.postgresql_sink import PostgreSQLSink
from buildflow.primitives.file.sink import FileSink
from buildflow.primitives.queue.local import QueueSink
from buildflow.primitives.registry import all_primitives
from buildflow.primitives.table.duckdb_table import DuckDBSink
from tests.harness import ROOT, project

SHOP = """
project: shop
primitives:
  pictures: {type: bucket}
  uploads: {type: file_change_stream, bucket: pictures}
  orders: {type: queue}
  sales: {type: table, columns: {item: string}}
  failures: {type: table, columns: buildflow.types:DeadLetter}
dependencies:
  clock: {factory: app:clock}
  model: {factory: app:model}
routes:
  POST /orders: app:order
  POST /pictures: app:upload
  GET /sales: app:list_sales
mounts: {/static: static}
consumers:
  sales: {source: orders, handler: app:sell, sink: sales, dead_letter: failures}
  label: {source: uploads, handler: app:label, sink: orders}
"""
APP = """
def clock(): ...
def model(clock): ...
def order(orders, body: dict) -> dict: ...
def upload(pictures) -> dict: ...
def list_sales(sales) -> list[dict]: ...
def sell(order: dict, model) -> dict: ...
def label(event) -> dict: ...
"""


@pytest.fixture
def plan(tmp_path: Path) -> RuntimePlan:
    (tmp_path / "static").mkdir()
    project(tmp_path, SHOP, app=APP)
    result = compile_file(tmp_path / "buildflow.yaml", environment={})
    assert result.ok, result.diagnostics
    return result.plan


def test_edges_go_the_way_that_data_and_values_go(plan: RuntimePlan) -> None:
    assert set(edges(plan)) == {
        ("pictures", "uploads", "bucket"),
        ("clock", "model", "injected"),
        ("model", "sales", "injected"),
        ("orders", "POST /orders", "injected"),
        ("pictures", "POST /pictures", "injected"),
        ("sales", "GET /sales", "injected"),
        ("orders", "sales", "source"),
        ("sales", "sales", "sink"),
        ("sales", "failures", "dead letters"),
        ("uploads", "label", "source"),
        ("label", "orders", "sink"),
    }


def test_guards_and_several_sinks_are_edges_too(tmp_path: Path) -> None:
    yaml = """
    project: shop
    primitives:
      orders: {type: queue}
      sales: {type: table, columns: {item: string}}
      again: {type: queue}
    dependencies:
      user: {factory: app:user, scope: request}
    services: {api: {prefix: /api, auth: user}}
    routes:
      GET /: {handler: app:index, service: api}
    consumers:
      sell: {source: orders, handler: app:sell, sink: [{to: sales, when: {item: tea}}, {to: again}]}
    """
    app = "def user(): ...\ndef index(): ...\ndef sell(order: dict) -> dict: ...\n"
    result = compile_file(project(tmp_path, yaml, app=app) / "buildflow.yaml", environment={})
    assert result.ok, result.diagnostics
    assert {("user", "GET /api/", "auth"), ("sell", "sales", "sink"), ("sell", "again", "sink")} <= set(
        edges(result.plan)
    )
    assert "        └── is guarded by user" in [line.replace("│", " ") for line in tree(drawing_of(result.plan))]
    (consumer,) = [node for node in drawing_of(result.plan).nodes if node.kind == "consumer"]
    assert consumer.guarantee == "at least once", "the weaker of the two"


def test_a_consumer_says_how_often_its_rows_arrive(plan: RuntimePlan) -> None:
    found = {node.key: node.guarantee for node in drawing_of(plan).nodes if node.kind == "consumer"}
    assert found == {"sales": "effectively once", "label": "at least once"}


def test_a_consumer_and_a_primitive_of_one_name_are_two_nodes(plan: RuntimePlan) -> None:
    drawing = drawing_of(plan)
    (sink,) = [link for link in drawing.links if link.what == "sink" and link.right.key == "sales"]
    assert (sink.left.kind, sink.right.kind) == ("consumer", "primitive")


def test_what_writes_stands_before_what_it_writes_to(plan: RuntimePlan) -> None:
    links = {(link.left.key, link.right.key): link for link in drawing_of(plan).links if link.style == "held"}
    assert links["POST /orders", "orders"].turned, "a queue's handle only sends"
    assert links["POST /pictures", "pictures"].turned, "a POST changes something"
    assert not links["sales", "GET /sales"].turned, "a GET reads"
    assert not links["clock", "model"].turned


def test_a_tree_tells_everything_below_its_kind(plan: RuntimePlan) -> None:
    ids = {resource.key: resource.id for resource in plan.resources}
    assert list(tree(drawing_of(plan))) == [
        "shop (local)",
        "├── primitives",
        f"│   ├── pictures  bucket  {ids['pictures']}",
        f"│   ├── uploads  file_change_stream  {ids['uploads']}",
        "│   │   └── uses pictures",
        f"│   ├── orders  queue  {ids['orders']}",
        f"│   ├── sales  table  {ids['sales']}",
        f"│   └── failures  table  {ids['failures']}",
        "├── dependencies",
        "│   ├── clock  app:clock  (replica)",
        "│   └── model  app:model  (replica)",
        "│       └── uses clock",
        "├── routes",
        "│   ├── POST /orders  -> app:order",
        "│   │   └── uses orders",
        "│   ├── POST /pictures  -> app:upload",
        "│   │   └── uses pictures",
        "│   └── GET /sales  -> app:list_sales",
        "│       └── uses sales",
        "├── mounts",
        "│   └── /static  -> static",
        "└── consumers",
        "    ├── sales  -> app:sell  (effectively once)",
        "    │   ├── takes from orders",
        "    │   ├── uses model",
        "    │   ├── writes to sales",
        "    │   └── gives up to failures",
        "    └── label  -> app:label  (at least once)",
        "        ├── takes from uploads",
        "        └── writes to orders",
    ]


# text that means something to the language around it

ODD = 'a"b\\c<d>&e`f#g]h}i|j\nk;l'


def odd() -> Drawing:
    nodes = (Node(ODD, "primitive", "queue", "id"), Node("end", "consumer", "main", "app:end"))
    return Drawing("odd", "local", nodes, (Edge(Place("primitive", ODD), Place("consumer", "end"), "source"),))


def test_mermaid_keeps_names_and_ids_apart() -> None:
    lines = list(mermaid(odd()))
    assert lines[:4] == [
        "flowchart LR",
        '  n0[("a#34;b#92;c#60;d#62;#38;e#96;f#35;g]h}i#124;j#10;k#59;l<br/><i>queue</i>")]:::primitive',
        '  n1[["end<br/><i>app:end</i>"]]:::consumer',
        "  n0 -->|source| n1",
    ]


def test_mermaid_gives_each_kind_its_shape(plan: RuntimePlan) -> None:
    text = "\n".join(mermaid(drawing_of(plan)))
    for shape in ('[("orders', '{{"clock', '(["GET /sales', '[/"/static', '[["label'):
        assert shape in text
    assert re.search(r"^  n\d+ -\.-\|injected\| n\d+$", text, re.MULTILINE)


def test_dot_escapes_what_ends_a_string_and_what_a_label_reads() -> None:
    lines = list(dot(odd()))
    assert r'  n0 [label="a\"b\\c<d>&amp;e`f#g]h}i|j k;l\nqueue", ' in lines[4]
    assert lines[6].startswith('  n0 -> n1 [label="source"')
    assert (lines[0], lines[-1]) == ('digraph "odd" {', "}")


def test_an_empty_project_is_drawn_too() -> None:
    nothing = Drawing("nothing", "local", (), ())
    assert list(tree(nothing)) == ["nothing (local)"]
    assert list(mermaid(nothing)) == ["flowchart LR"]
    assert list(dot(nothing))[-1] == "}"


def test_the_example_of_this_repository_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    drawing = drawing_of(compile_file(Path("buildflow.yaml"), environment={}).plan)
    assert len(list(drawing.links)) == len(drawing.edges)


def test_every_sink_says_how_often_rows_arrive() -> None:
    sinks = {type: primitive for type, primitive in all_primitives().items() if Role.SINK in primitive.roles}
    promised = {type: primitive.guarantee for type, primitive in sinks.items()}
    written_by = {"bucket": BucketSink, "database": PostgreSQLSink, "file": FileSink, "queue": QueueSink}
    written_by |= {"table": DuckDBSink, "topic": QueueSink}
    assert promised == {type: sink.guarantee for type, sink in written_by.items()}


@pytest.mark.parametrize("provider", ["local", "aws"])
def test_a_promise_is_the_same_on_every_provider(provider: str, tmp_path: Path) -> None:
    yaml = f"""
    project: shop
    default_stack: one
    stacks: {{one: {{provider: {provider}, {provider}: {{}}}}}}
    primitives:
      orders: {{type: queue}}
      again: {{type: queue}}
      news: {{type: topic}}
      books: {{type: database, table: sales, columns: {{item: string}}}}
    consumers:
      sell: {{source: orders, handler: app:sell, sink: [{{to: again}}, {{to: news}}]}}
      book: {{source: again, handler: app:sell, sink: books}}
    """
    result = compile_file(project(tmp_path, yaml, app="def sell(order: dict) -> dict: ...") / "buildflow.yaml")
    assert {c.key: words for c, words in bindings(result.plan)} == {"sell": "at least once", "book": "effectively once"}
