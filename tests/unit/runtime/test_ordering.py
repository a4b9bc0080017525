"""The lines of an ordered consumer, and its stream: what a leader takes, keeps and leaves to the next."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildflow.errors import LeadershipLost
from buildflow.primitives.base import Element
from buildflow.primitives.redis_stream import RedisStream
from buildflow.primitives.redis_stream_order import InOrder
from buildflow.providers.redis_service import attach
from buildflow.runtime.ordering import Lines


def element(key: object, number: int) -> Element:
    return Element(id=f"{key}{number}", body=json.dumps({"key": key, "n": number}).encode(), receipt=f"{key}-{number}")


def ids(elements: list[Element]) -> list[str]:
    return [e.id for e in elements]


def test_one_of_each_key_is_under_way_at_a_time_in_order() -> None:
    lines = Lines("key")
    for one in (element("a", 1), element("a", 2), element("b", 1), element("a", 3)):
        lines.add(one)
    assert ids(lines.next(10, 0.0)) == ["a1", "b1"]
    assert lines.next(10, 0.0) == []
    assert ids(lines.waiting()) == ["a2", "a3"], "which are renewed here; the others with their groups"
    lines.done(element("a", 1))
    assert ids(lines.next(10, 0.0)) == ["a2"]
    lines.done(element("b", 1))
    lines.done(element("a", 2))
    assert (lines.count, ids(lines.next(10, 0.0))) == (1, ["a3"])
    lines.done(element("a", 3))
    assert (lines.count, lines.by_key) == (0, {})


def test_a_retry_keeps_its_place_and_its_key_waits_for_it() -> None:
    lines = Lines("key")
    for one in (element("a", 1), element("a", 2), element("b", 1)):
        lines.add(one)
    lines.next(10, 0.0)
    lines.again(element("a", 1), due=5.0)
    assert lines.due() == 5.0
    assert lines.next(10, 4.9) == []
    assert ids(lines.next(10, 5.0)) == ["a1"]


def test_what_lapsed_goes_with_all_behind_it_for_it_comes_again() -> None:
    lines = Lines("key")
    for key in "abc":
        for number in (1, 2, 3):
            lines.add(element(key, number))
    lines.next(1, 0.0)
    lost = {"a2", "b1", "c3"}
    lines.forget(lambda e: e.id not in lost)
    assert [ids(list(line.elements)) for line in lines.by_key.values()] == [["a1"], ["c1", "c2"]]
    assert lines.count == 3
    for one in (element("a", 1), element("a", 2), element("b", 1)):
        lines.add(one)
    lines.done(element("a", 1))
    assert ids(lines.next(10, 0.0)) == ["c1", "b1", "a1"], "the one that was under way comes twice, never late"


def test_every_key_has_its_turn() -> None:
    lines = Lines("key")
    for key in "abc":
        lines.add(element(key, 1))
        lines.add(element(key, 2))
    assert ids(lines.next(2, 0.0)) == ["a1", "b1"]
    lines.done(element("a", 1))
    lines.done(element("b", 1))
    assert ids(lines.next(2, 0.0)) == ["c1", "a2"]


@pytest.mark.parametrize("body", [b"no json", b"[]", b'{"other": 1}', b"\xff", b'"text"', b"[" * 100_000])
def test_an_element_without_the_key_waits_for_nobody(body: bytes) -> None:
    lines = Lines("key")
    lines.add(Element("1", body, "r1"))
    lines.add(Element("2", body, "r2"))
    assert ids(lines.next(10, 0.0)) == ["1", "2"]


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[RedisStream]:
    service = attach(tmp_path / "stack")
    found = RedisStream(service.client(), "orders", consumer="one")
    found.ensure()
    yield found
    service.close(5.0)


def leader(stream: RedisStream, token: str, consumer: str = "one") -> InOrder:
    stream.redis().set("lock", token)
    return RedisStream(stream.redis, stream.key, consumer=consumer).in_order("lock", token)


def test_the_next_leader_finds_what_was_not_finished_in_its_order_and_its_attempts(stream: RedisStream) -> None:
    first = leader(stream, "first")
    for number in range(5):
        stream.send(str(number).encode(), {})
    taken = first.next(4)
    assert [e.body for e in taken] == [b"0", b"1", b"2", b"3"]
    assert {(e.attempt, e.alone) for e in taken} == {(0, False)}
    first.count([taken[1], taken[2]])
    first.count([taken[2]])
    first.count([taken[3]])
    first.count([taken[3]], -1)
    stream.acknowledge([taken[0]])
    second = leader(stream, "second", "two")
    found = second.resume(2)
    assert [(e.body, e.attempt, e.alone) for e in found] == [(b"1", 1, True), (b"2", 2, True), (b"3", 0, False)]
    assert [e.body for e in second.next(10)] == [b"4"]
    assert second.resume(10)[3].body == b"4"


def test_whoever_does_not_lead_any_more_takes_nothing(stream: RedisStream) -> None:
    first = leader(stream, "first")
    stream.send(b"1", {})
    (taken,) = first.next(1)
    leader(stream, "second", "two")
    stream.send(b"2", {})
    for step in (lambda: first.next(1), lambda: first.resume(1), lambda: first.count([taken])):
        with pytest.raises(LeadershipLost):
            step()
    assert stream.counts().in_flight == 1
