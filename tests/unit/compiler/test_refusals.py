"""What a cloud would refuse is told before it is asked: what the cases of tests/golden do not show."""

from itertools import permutations

import pytest

from buildflow.compiler import Compilation
from tests.unit.compiler.conftest import Compiled

HEAD = "project: shop\nstacks: {aws: {provider: aws, aws: {region: eu-west-1}}}\nprimitives:\n"


def told(compiled: Compilation, *codes: str) -> list[tuple[str, int]]:
    return [(d.code, d.span.line) for d in compiled.diagnostics if d.code in codes]


def streams(compiled: Compiled, *fields: str) -> list[tuple[str, int]]:
    lines = [f"  s{n}: {{type: file_change_stream, bucket: images, {f}}}" for n, f in enumerate(fields)]
    return told(compiled("\n".join([f"{HEAD}  images: {{type: bucket}}", *lines])), "BF229")


@pytest.mark.parametrize(
    "fields",
    [
        ("prefix: raw/", "prefix: raw/2026/"),
        ("prefix: raw/", "suffix: .png"),
        ("suffix: .gz", "suffix: .tar.gz"),
        ("events: [created, deleted]", "events: [deleted]"),
    ],
)
def test_streams_of_one_bucket_that_meet_are_refused_at_the_second_one(
    fields: tuple[str, str], compiled: Compiled
) -> None:
    for ordered in permutations(fields):
        assert streams(compiled, *ordered) == [("BF229", 6)]


@pytest.mark.parametrize(
    "fields",
    [
        ("prefix: raw/", "prefix: done/"),
        ("suffix: .gz", "suffix: .zip"),
        ("prefix: a/, suffix: .png", "prefix: a/, suffix: .jpg"),
        ("events: [created]", "events: [deleted]"),
        ("prefix: a", "prefix: ab, managed: false, name: theirs"),
    ],
)
def test_streams_of_one_bucket_that_never_meet_are_taken(fields: tuple[str, str], compiled: Compiled) -> None:
    assert streams(compiled, *fields) == []


def test_each_stream_that_meets_another_is_told_once(compiled: Compiled) -> None:
    assert streams(compiled, *["lease: 30s"] * 4) == [("BF229", 6), ("BF229", 7), ("BF229", 8)]


def test_nothing_is_concluded_from_a_value_that_was_not_read(compiled: Compiled) -> None:
    """A default stands in its place; which value is meant, nobody knows."""
    assert streams(compiled, "prefix: [a]", "prefix: b") == []
    text = f"{HEAD}  t: {{type: topic, aws: {{fifo: perhaps}}}}\n  s: {{type: subscription, topic: t, name: s.fifo}}"
    consumer = "\nconsumers: {c: {source: s, handler: app:handle, ordering: {key: id}}}"
    assert told(compiled(text + consumer), "BF220", "BF229", "BF230") == []
    assert told(compiled((text + consumer).replace("topic: t,", "topic: x,")), "BF220", "BF229", "BF230") == []
    assert told(compiled(f'{HEAD}  q: {{type: queue, aws: {{account_id: "1"}}}}'), "BF229") == []


def test_what_is_not_managed_is_not_refused(compiled: Compiled) -> None:
    """It exists: AWS took it."""
    rows = "  orders: {type: database, name: orders, managed: false, user: admin, tier: any}"
    assert told(compiled(HEAD + rows), "BF229") == []


def test_another_provider_does_not_refuse_what_aws_does(compiled: Compiled) -> None:
    rows = "  orders: {type: database, user: admin, tier: db-f1-micro, aws: {subnets: [one]}}"
    assert told(compiled(HEAD.replace("provider: aws", "provider: local") + rows), "BF229") == []


def test_a_subscription_is_fifo_where_its_topic_is(compiled: Compiled) -> None:
    rows = ["  t: {type: topic, aws: {fifo: true}}", "  a: {type: subscription, topic: t}"]
    graph = compiled(HEAD + "\n".join(rows)).graph
    assert graph["a"].id == "sqs://shop-aws-a.fifo"
    assert graph["a"].spec["aws"] == {"fifo": True}
    long = compiled(HEAD + "\n".join([rows[0], f"  {'a' * 90}: {{type: subscription, topic: t}}"])).graph
    assert len(long["a" * 90].name) == 80
    assert long["a" * 90].name.endswith(".fifo")


def test_the_user_that_a_database_gets_from_its_name_may_be_one_that_postgresql_keeps(compiled: Compiled) -> None:
    yaml = HEAD.replace("shop", "pg") + "  orders: {type: database}\n  named: {type: database, user: orders}\n"
    assert told(compiled(yaml), "BF229") == [("BF229", 4)]


@pytest.mark.parametrize("name", ["std", "ordered.fifo"])
def test_a_subscription_that_exists_is_fifo_as_its_name_says(name: str, compiled: Compiled) -> None:
    yaml = f"{HEAD}  orders: {{type: topic, aws: {{fifo: true}}}}\n"
    found = compiled(f"{yaml}  billing: {{type: subscription, topic: orders, managed: false, name: {name}}}\n")
    assert told(found, "BF220", "BF229") == []
    assert found.graph["billing"].spec["aws"]["fifo"] is name.endswith(".fifo")
