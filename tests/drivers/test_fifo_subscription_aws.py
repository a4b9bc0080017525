"""A subscription of a FIFO topic, from its YAML to the order of what it gives, against moto."""

from pathlib import Path

from buildflow.compiler import compile_file
from buildflow.primitives.subscription.aws import DRIVER
from buildflow.primitives.topic.aws import DRIVER as TOPICS
from tests.moto import Moto, session_on

PROJECT = """
project: shop
stacks: {aws: {provider: aws, aws: {region: eu-central-1}}}
primitives:
  orders: {type: topic, aws: {fifo: true}}
  billing: {type: subscription, topic: orders, filter: {kind: [bill]}}
  statistics: {type: subscription, topic: orders, aws: {fifo: false}}
"""


def test_its_queue_is_named_and_found_as_a_fifo_queue_and_keeps_the_order(aws: Moto, tmp_path: Path) -> None:
    """Nothing is recorded of what `apply` made: the run time finds it by the names that the compiler gave."""
    (tmp_path / "buildflow.yaml").write_text(PROJECT)
    compiled = compile_file(tmp_path / "buildflow.yaml", environment={})
    graph = compiled.graph
    assert [r.id for r in graph.resources] == [
        "sns://shop-aws-orders.fifo",
        "sqs://shop-aws-billing.fifo",
        "sqs://shop-aws-statistics",
    ]
    topic = aws.topic(graph["orders"].name)
    aws.subscription(graph["billing"].name, topic, '{"kind": ["bill"]}')
    aws.subscription(graph["statistics"].name, topic)
    session = session_on(aws, tmp_path, *graph.resources)
    orders = TOPICS.handle(graph["orders"], session)
    for number in range(12):
        orders.send(str(number), attributes={"kind": "bill"})
    orders.send("12", attributes={"kind": "other"})
    source = DRIVER.source(graph["billing"], session)
    taken = []
    while group := source.lease(10):
        taken += [element.body for element in group]
        source.acknowledge(group)
    assert taken == [str(number).encode() for number in range(12)]
    assert DRIVER.source(graph["statistics"], session).counts().backlog == 13
    session.close()
