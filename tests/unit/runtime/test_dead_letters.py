"""Reading dead letters: all of them, in order, and never more in memory than a page."""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from buildflow.ir.columns import Column
from buildflow.primitives.base import Element
from buildflow.primitives.table.duckdb_columns import definition
from buildflow.primitives.table.duckdb_file import database
from buildflow.primitives.table.duckdb_table import DuckDBSink, DuckDBTable, Location
from buildflow.providers.redis_service import attach
from buildflow.runtime import dead_letters
from buildflow.runtime.dead_letters import DeadLetters, RedisDeadLetters, TableDeadLetters, gather, name_of
from buildflow.types import DeadLetter

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
LARGE = 100_000
KINDS: dict[str, Any] = {"attempts": "integer", "payload": "bytes", "sent_at": "timestamp", "dead_at": "timestamp"}
COLUMNS = [Column(name=field.name, kind=KINDS.get(field.name, "string")) for field in dataclasses.fields(DeadLetter)]


def letters(sizes: Sequence[int]) -> list[DeadLetter]:
    """Oldest first; their ids are in no order."""
    return [
        DeadLetter(f"{7 * n % 1000:03}", "save", "orders", "ValueError: no", "", 5, b"x" * size, "{}", NOON, died)
        for n, size in enumerate(sizes)
        for died in [NOON + timedelta(seconds=n)]
    ]


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Any]:
    service = attach(tmp_path / "stack")
    yield service.client()
    service.close(5.0)


class Store:
    """Dead letters, and how many bytes of payload each question brought."""

    def __init__(self, kind: str, state: Any, folder: Path) -> None:
        self.brought: list[int] = []
        connections: Any = SimpleNamespace(namespace="shop-test", state=lambda: self)
        consumer: Any = SimpleNamespace(key="save", dead_letter="graves")
        self.state = state
        self.letters: DeadLetters = RedisDeadLetters(consumer, connections)
        if kind == "table":
            location = Location(folder / "tables.duckdb", "main", "graves")
            self.table = DuckDBTable(location, COLUMNS)
            definitions = ", ".join(definition(column) for column in COLUMNS)
            create = f"CREATE TABLE {location.sql} ({definitions})"
            database(location.path).write(lambda connection: connection.execute(create), create=True)
            connections.sink = lambda _: DuckDBSink(location, COLUMNS)
            connections.handle = lambda _: SimpleNamespace(name=self.table.name, query=self.query)
            connections.plan = SimpleNamespace(resource=lambda _: SimpleNamespace(managed=False, outputs={}))
            self.letters = TableDeadLetters(consumer, connections)

    def query(self, sql: str, parameters: Sequence[Any]) -> list[dict[str, Any]]:
        rows = self.table.query(sql, parameters)
        self.brought.append(sum(len(row.get("payload", b"")) for row in rows))
        return rows

    def hscan(self, *arguments: Any, **options: Any) -> Any:
        cursor, found = self.state.hscan(*arguments, **options)
        self.brought.append(sum(map(len, found.values())))
        return cursor, found

    def hmget(self, *arguments: Any) -> Any:
        found = self.state.hmget(*arguments)
        self.brought.append(sum(map(len, found)))
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self.state, name)


@pytest.fixture(params=["redis", "table"])
def store(request: pytest.FixtureRequest, state: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(dead_letters, "PAGE_BYTES", 10 * LARGE)
    return Store(request.param, state, tmp_path)


def test_no_more_is_in_memory_than_a_page_however_large_they_are(store: Store) -> None:
    many = letters([LARGE] * 60)
    store.letters.put(many)
    assert [letter.id for letter in store.letters.each()] == [letter.id for letter in many]
    assert {letter.id for letter in store.letters.scan()} == {letter.id for letter in many}
    assert len(store.letters.begun("0")) == len([letter for letter in many if letter.id.startswith("0")])
    assert LARGE < max(store.brought) <= 20 * LARGE, "twice a page, where one can only guess"


def test_small_ones_go_together_and_one_larger_than_a_page_alone(store: Store) -> None:
    many = letters([*[1] * 300, 15 * LARGE, *[1] * 300])
    store.letters.put(many)
    assert [len(letter.payload) for letter in store.letters.each()] == [len(letter.payload) for letter in many]
    assert len(store.brought) < 40


def test_pages_are_full_when_letters_are_small(store: Store) -> None:
    store.letters.put(letters([1] * 900))
    store.brought.clear()
    assert store.letters.count() == len(list(store.letters.each())) == 900
    assert len(store.brought) < 20


def test_a_letter_that_is_written_meanwhile_pushes_no_other_out(
    state: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is older than some that are there: an element failed before its group ended."""
    store = Store("table", state, tmp_path)
    there = letters([1] * 5)
    store.letters.put(there)
    late = dataclasses.replace(there[0], id="late", dead_at=NOON + timedelta(seconds=1.5))
    asked = store.query

    def query(sql: str, parameters: Sequence[Any]) -> list[dict[str, Any]]:
        rows = asked(sql, parameters)
        if " AS bytes" in sql:
            store.letters.put([late])
        return rows

    monkeypatch.setattr(store, "query", query)
    assert {letter.id for letter in store.letters.each()} >= {letter.id for letter in there}


def test_those_that_went_are_left_out_and_the_others_counted(store: Store) -> None:
    many = letters([10] * 50)
    store.letters.put(many)
    store.letters.forget([name_of(letter) for letter in many[:20]])
    assert store.letters.count() == 30
    assert [letter.id for letter in store.letters.each()] == [letter.id for letter in many[20:]]


def test_a_backstop_is_emptied_however_little_it_gives_at_once(
    state: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Store("redis", state, tmp_path)
    waiting = [Element(str(n), b"x", f"r{n}") for n in range(25)]

    class Backstop:
        reason = "moved by SQS, reason unknown"

        def held(self, *_: int) -> Any:
            return contextlib.nullcontext(list(itertools.islice(waiting, 10)))

        def delete(self, elements: Sequence[Element]) -> None:
            for element in elements:
                waiting.remove(element)

    monkeypatch.setattr(dead_letters, "driver", lambda *_: SimpleNamespace(backstop=lambda *_: Backstop()))
    monkeypatch.setattr(dead_letters, "open_dead_letters", lambda *_: found.letters)
    resource = SimpleNamespace(type="queue", provider="aws")
    connections: Any = SimpleNamespace(plan=SimpleNamespace(resource=lambda _: resource), session=lambda _: None)
    consumer: Any = SimpleNamespace(key="save", source="orders")
    assert gather(consumer, connections) == 25
    assert found.letters.count() == 25
