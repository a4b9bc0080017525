"""Where elements go that were given up: the stack's own store in Redis, or a table that the consumer names."""

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from buildflow.ir.runtime import ConsumerPlan
from buildflow.primitives.base import Element, Entry
from buildflow.providers.redis_client import spoken
from buildflow.runtime.connections import Connections
from buildflow.types import DeadLetter

REPLAYS = "buildflow-replays"
"""The header that counts how often an element was replayed."""


class DeadLetters(Protocol):
    def put(self, letters: Sequence[DeadLetter]) -> None:
        """Store them, durable when this returns. The same element (and replay) is stored once."""
        ...

    def all(self) -> list[DeadLetter]:
        """Those not replayed yet, oldest first."""
        ...

    def forget(self, letters: Sequence[DeadLetter]) -> None:
        """They were replayed: leave them out of `all` from now on."""
        ...


def open_dead_letters(consumer: ConsumerPlan, connections: Connections) -> DeadLetters:
    if consumer.dead_letter:
        return TableDeadLetters(consumer, connections)
    return RedisDeadLetters(consumer, connections)


def letter_of(consumer: ConsumerPlan, element: Element, error: str, traceback: str) -> DeadLetter:
    now = datetime.now(UTC)
    return DeadLetter(
        id=element.id,
        consumer=consumer.key,
        source=consumer.source,
        error=encodable(error),
        traceback=encodable(traceback),
        attempts=element.attempt,
        payload=element.body,
        headers=json.dumps(dict(element.headers)),
        sent_at=element.sent_at or now,
        dead_at=now,
    )


def encodable(text: str) -> str:
    """`text` with lone surrogates, which no store takes, written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _name(letter: DeadLetter) -> str:
    """One element's one death: replayed, it may die again."""
    return f"{letter.id}#{json.loads(letter.headers).get(REPLAYS, '0')}"


class RedisDeadLetters:
    """A hash of JSON in the stack's Redis."""

    def __init__(self, consumer: ConsumerPlan, connections: Connections) -> None:
        self.connections = connections
        self.key = f"{connections.namespace}:dead:{consumer.key}"

    def put(self, letters: Sequence[DeadLetter]) -> None:
        if letters:
            with spoken():
                self.connections.state().hset(self.key, mapping={_name(x): _dump(x) for x in letters})

    def all(self) -> list[DeadLetter]:
        with spoken():
            found = [_load(text) for text in self.connections.state().hvals(self.key)]
        return sorted(found, key=lambda letter: letter.dead_at)

    def forget(self, letters: Sequence[DeadLetter]) -> None:
        if letters:
            with spoken():
                self.connections.state().hdel(self.key, *(_name(x) for x in letters))


class TableDeadLetters:
    """Rows of a table with the columns of DeadLetter. A replayed row stays as history; which ones were replayed is
    kept in the stack's Redis."""

    def __init__(self, consumer: ConsumerPlan, connections: Connections) -> None:
        assert consumer.dead_letter is not None
        self.consumer = consumer
        self.table = consumer.dead_letter
        self.connections = connections
        self.replayed = f"{connections.namespace}:replayed:{consumer.key}"

    def put(self, letters: Sequence[DeadLetter]) -> None:
        entries = [Entry(_name(letter), [letter]) for letter in letters]
        if entries:
            self.connections.sink(self.table).commit(f"dead:{self.consumer.key}", entries)

    def all(self) -> list[DeadLetter]:
        resource = self.connections.plan.resource(self.table)
        if resource.managed and not resource.outputs:
            return []  # it was not applied yet
        rows = self.connections.handle(self.table).rows(
            where="consumer = ?", parameters=[self.consumer.key], order_by="dead_at"
        )
        with spoken():
            replayed = {name.decode() for name in self.connections.state().smembers(self.replayed)}
        letters = [DeadLetter(**row) for row in rows]
        return [letter for letter in letters if _name(letter) not in replayed]

    def forget(self, letters: Sequence[DeadLetter]) -> None:
        if letters:
            with spoken():
                self.connections.state().sadd(self.replayed, *(_name(x) for x in letters))


def replay(consumer: ConsumerPlan, connections: Connections, letters: Sequence[DeadLetter]) -> int:
    """Put dead letters back into their source under their own ids, so that a sink that dedupes still does.

    Each is sent before it is forgotten: stopped in between, it is in both places, never in none."""
    store = open_dead_letters(consumer, connections)
    source = connections.source(consumer.source)
    for letter in letters:
        headers: dict[str, str] = json.loads(letter.headers)
        headers[REPLAYS] = str(int(headers.get(REPLAYS, "0")) + 1)
        source.send(letter.payload, headers, id=letter.id)
        store.forget([letter])
    return len(letters)


def _dump(letter: DeadLetter) -> str:
    values = {
        **letter.__dict__,
        "payload": base64.b64encode(letter.payload).decode(),
        "sent_at": letter.sent_at.isoformat(),
        "dead_at": letter.dead_at.isoformat(),
    }
    return json.dumps(values)


def _load(text: bytes) -> DeadLetter:
    values: dict[str, Any] = json.loads(text)
    values["payload"] = base64.b64decode(values["payload"])
    values["sent_at"] = datetime.fromisoformat(values["sent_at"])
    values["dead_at"] = datetime.fromisoformat(values["dead_at"])
    return DeadLetter(**values)
