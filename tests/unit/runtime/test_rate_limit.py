"""Permits of a rate, over all who ask."""

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from buildflow.providers.redis_service import attach
from buildflow.runtime.rate_limit import RateLimit


@pytest.fixture
def connections(tmp_path: Path) -> Iterator[Any]:
    service = attach(tmp_path / "stack")
    client = service.client()
    yield cast("Any", SimpleNamespace(namespace="shop-local", state=lambda: client))
    service.close(5.0)


def test_no_more_than_the_rate_is_granted_over_all_who_ask(connections: Any) -> None:
    askers = [RateLimit("save", 200.0, connections) for _ in range(3)]
    started, granted = time.monotonic(), 0
    while time.monotonic() - started < 1.0:
        granted += sum(asker.take(7)[0] for asker in askers)
    seconds = time.monotonic() - started
    assert 200 * 0.9 * seconds - 20 <= granted <= 200 * seconds + 21, "the rate, and a tenth of a second's burst"


def test_a_slow_rate_lets_one_go_and_says_when_the_next_may(connections: Any) -> None:
    limit = RateLimit("save", 0.5, connections)
    assert limit.take(10) == (1, pytest.approx(2.0, abs=0.1))
    granted, seconds = limit.take(10)
    assert granted == 0
    assert 1.5 < seconds <= 2.0


def test_what_was_not_used_may_be_taken_again(connections: Any) -> None:
    limit = RateLimit("save", 1.0, connections)
    assert limit.take(1)[0] == 1
    limit.give_back(1)
    assert limit.take(1)[0] == 1
    assert limit.take(1)[0] == 0


def test_consumers_have_rates_of_their_own(connections: Any) -> None:
    assert RateLimit("save", 1.0, connections).take(1)[0] == 1
    assert RateLimit("sell", 1.0, connections).take(1)[0] == 1
