"""A letter is sent before it is forgotten, and elements go in groups at their rate."""

import itertools
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from buildflow.errors import ServiceUnavailable
from buildflow.runtime import replays
from buildflow.runtime.sending import LARGEST, LARGEST_BYTES, Sender
from buildflow.types import DeadLetter

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def letter(id: str, headers: str = "{}") -> DeadLetter:
    return DeadLetter(id, "save", "orders", "ValueError: no", "", 5, b"{}", headers, NOON, NOON)


def no_bytes(_: Any) -> int:
    return 0


class Source:
    """A source that takes elements one by one."""

    def __init__(self) -> None:
        self.taken: list[tuple[bytes, Mapping[str, str], str | None]] = []

    def send(self, body: bytes, headers: Mapping[str, str], id: str | None = None) -> str:
        self.taken.append((body, headers, id))
        return id or f"new-{len(self.taken)}"


class Bulk(Source):
    def send_many(self, elements: Sequence[Any]) -> list[str]:
        return [self.send(*element) for element in elements]


@pytest.mark.parametrize("fails", ["hset", "forget"])
def test_stopped_after_sending_it_is_in_both_places(monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    forgotten: list[str] = []

    def refuse(*_: Any, **__: Any) -> None:
        raise ServiceUnavailable

    store = SimpleNamespace(forget=refuse if fails == "forget" else forgotten.extend)
    state = SimpleNamespace(hset=refuse if fails == "hset" else lambda *_, **__: None)
    monkeypatch.setattr(replays, "open_dead_letters", lambda *_: store)
    source: Any = Bulk()
    connections: Any = SimpleNamespace(namespace="shop-local", state=lambda: state)
    consumer: Any = SimpleNamespace(key="save")
    sent = replays.replay(consumer, connections, [letter("a", '{"buildflow-replays": "2"}')], Sender(source), by="me")
    with pytest.raises(ServiceUnavailable):
        next(sent)
    assert source.taken == [(b"{}", {"buildflow-replays": "3"}, "a")]
    assert forgotten == []


def test_elements_go_in_groups_or_one_by_one() -> None:
    bulk: Any = Bulk()
    assert [len(group) for group in Sender(bulk).groups(range(2 * LARGEST + 1), no_bytes)] == [LARGEST, LARGEST, 1]
    single: Any = Source()
    sender = Sender(single)
    assert [len(group) for group in sender.groups(range(3), no_bytes)] == [1, 1, 1]
    assert sender.send([(b"a", {}, None), (b"b", {}, "x")]) == ["new-1", "x"]
    assert sender.sent == 2


def test_a_group_has_so_many_bytes_at_most_and_goes_as_soon_as_it_is_full() -> None:
    bulk: Any = Bulk()
    sizes = [LARGEST_BYTES // 2, LARGEST_BYTES // 2, 1, LARGEST_BYTES + 1, 2, 3]
    assert list(Sender(bulk).groups(sizes, int)) == [sizes[:2], [1], [LARGEST_BYTES + 1], [2, 3]]
    single: Any = Source()
    endless = itertools.count()
    assert next(Sender(single).groups(endless, no_bytes)) == [0]
    assert next(endless) == 1, "it did not wait for the next"


def test_a_rate_is_kept_evenly() -> None:
    bulk: Any = Bulk()
    started = time.monotonic()
    groups = list(Sender(bulk, rate=200).groups(range(60), no_bytes))
    assert [len(group) for group in groups] == [20, 20, 20]
    assert 0.2 <= time.monotonic() - started < 1
