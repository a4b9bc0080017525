"""Where elements go that were given up: the stack's own store in Redis, or a table that the consumer names.

A store may hold a million letters: it is read in pages, and nothing here keeps more than one.
"""

import base64
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from buildflow.ir.runtime import ConsumerPlan
from buildflow.primitives.base import Element, Entry
from buildflow.primitives.registry import driver
from buildflow.providers.redis_client import spoken
from buildflow.runtime.connections import Connections
from buildflow.types import DeadLetter

REPLAYS = "buildflow-replays"
"""The header that counts how often an element was replayed."""
PAGE = 500
"""Letters in memory at once, at most."""
PAGE_BYTES = 16_000_000
"""And as large as they are together, at most, unless one alone is larger."""
MANY = 20_000
"""Letters in memory at once, without what makes them large."""
_FIRST = 10
"""Letters of whose size nothing is known."""


class DeadLetters(Protocol):
    def put(self, letters: Sequence[DeadLetter]) -> None:
        """Store them, durable when this returns. The same element (and replay) is stored once."""
        ...

    def count(self) -> int:
        """How many wait: neither replayed nor dropped."""
        ...

    def scan(self) -> Iterator[DeadLetter]:
        """Those that wait, in any order, in one quick pass: while letters go, one may come twice."""
        ...

    def each(self) -> Iterator[DeadLetter]:
        """Those that wait, oldest first. What dies after the beginning is not among them, what goes meanwhile is
        left out."""
        ...

    def begun(self, id: str) -> list[DeadLetter]:
        """Those that wait whose ids begin so, oldest first."""
        ...

    def all(self) -> list[DeadLetter]:
        """`each` in memory."""
        ...

    def forget(self, names: Sequence[str]) -> None:
        """They were replayed or dropped (see `name_of`), and wait no longer."""
        ...


def open_dead_letters(consumer: ConsumerPlan, connections: Connections) -> DeadLetters:
    if consumer.dead_letter:
        return TableDeadLetters(consumer, connections)
    return RedisDeadLetters(consumer, connections)


def gather(consumer: ConsumerPlan, connections: Connections) -> int:
    """Take in what the source's own backstop holds (SQS' redrive queue): what was received too often without a word
    from any worker. Stored before it is taken away: stopped in between, it is in both places, and stored once."""
    resource = connections.plan.resource(consumer.source)
    chosen = driver(resource.type, resource.provider)
    backstop = (
        chosen.backstop(resource, connections.session(resource.provider)) if hasattr(chosen, "backstop") else None
    )
    if backstop is None:
        return 0
    store, taken = open_dead_letters(consumer, connections), 0
    while True:
        with backstop.held(PAGE, PAGE_BYTES) as elements:
            store.put([letter_of(consumer, element, backstop.reason, "") for element in elements])
            backstop.delete(elements)
        if not elements:
            return taken
        taken += len(elements)


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


def name_of(letter: DeadLetter) -> str:
    """One element's one death: replayed, it may die again."""
    return _name(letter.id, letter.headers)


def _name(id: str, headers: str) -> str:
    return f"{id}#{replays_of(headers)}"


def replays_of(headers: str) -> int:
    """How often an element with these headers (JSON) was replayed."""
    return int(json.loads(headers).get(REPLAYS, "0"))


class RedisDeadLetters:
    """A hash of JSON in the stack's Redis."""

    def __init__(self, consumer: ConsumerPlan, connections: Connections) -> None:
        self.connections = connections
        self.key = f"{connections.namespace}:dead:{consumer.key}"

    def put(self, letters: Sequence[DeadLetter]) -> None:
        if letters:
            with spoken():
                self.connections.state().hset(self.key, mapping={name_of(x): _dump(x) for x in letters})

    def count(self) -> int:
        with spoken():
            return int(self.connections.state().hlen(self.key))

    def scan(self) -> Iterator[DeadLetter]:
        return (_load(text) for _, text in self._scan())

    def each(self) -> Iterator[DeadLetter]:
        """Two passes: the order of their names, and then page by page."""
        found = {name: (_died(text), len(text)) for name, text in self._scan()}
        names = sorted(found, key=lambda name: (found[name][0], name))
        left = iter(names)
        for count in _pages([found[name][1] for name in names]):
            with spoken():
                page = self.connections.state().hmget(self.key, list(itertools.islice(left, count)))
            yield from (_load(text) for text in page if text)

    def begun(self, id: str) -> list[DeadLetter]:
        pattern = re.sub(r"([*?\[\\])", r"\\\1", id) + "*"
        found = (_load(text) for _, text in self._scan(pattern))
        return sorted((x for x in found if x.id.startswith(id)), key=lambda letter: letter.dead_at)

    def all(self) -> list[DeadLetter]:
        return list(self.each())

    def forget(self, names: Sequence[str]) -> None:
        for start in range(0, len(names), PAGE):
            with spoken():
                self.connections.state().hdel(self.key, *names[start : start + PAGE])

    def _scan(self, pattern: str | None = None) -> Iterator[tuple[bytes, bytes]]:
        """A few, and then as many at once as fit into a page if they are like those before: Redis gives them in no
        order, so that large ones do not wait at the end."""
        cursor, count, scanned, size = 0, _FIRST, 0, 0
        while True:
            with spoken():
                cursor, found = self.connections.state().hscan(self.key, cursor, match=pattern, count=count)
            yield from found.items()
            if not cursor:
                return
            scanned += count
            size += sum(map(len, found.values()))
            count = max(1, min(2 * count, PAGE, PAGE_BYTES * scanned // max(1, size)))


class TableDeadLetters:
    """Rows of a table with the columns of DeadLetter. One that was replayed or dropped stays as history; which ones
    were is kept in the stack's Redis."""

    def __init__(self, consumer: ConsumerPlan, connections: Connections) -> None:
        assert consumer.dead_letter is not None
        self.consumer = consumer
        self.table = consumer.dead_letter
        self.connections = connections
        self.gone = f"{connections.namespace}:replayed:{consumer.key}"

    def put(self, letters: Sequence[DeadLetter]) -> None:
        entries = [Entry(name_of(letter), [letter]) for letter in letters]
        if entries:
            self.connections.sink(self.table).commit(f"dead:{self.consumer.key}", entries)

    def count(self) -> int:
        with spoken():
            none_gone = not self.connections.state().exists(self.gone)
        if none_gone:
            rows = self._select("count(*) AS n", "consumer = ?", [self.consumer.key])
            return int(rows[0]["n"]) if rows else 0
        counted = self._each("id, headers, dead_at", "length(headers)", page=MANY)
        return sum(1 for _ in counted)  # who deletes a row says so to nobody

    def scan(self) -> Iterator[DeadLetter]:
        return self.each()

    def each(self) -> Iterator[DeadLetter]:
        return (DeadLetter(**row) for row in self._each("*", _SIZE))

    def begun(self, id: str) -> list[DeadLetter]:
        where = ("substr(id, 1, ?) = ?", [len(id), id]) if id else ("", [])
        return [DeadLetter(**row) for row in self._each("*", _SIZE, *where)]

    def all(self) -> list[DeadLetter]:
        return list(self.each())

    def forget(self, names: Sequence[str]) -> None:
        for start in range(0, len(names), PAGE):
            with spoken():
                self.connections.state().sadd(self.gone, *names[start : start + PAGE])

    def _each(
        self, columns: str, size: str, where: str = "", parameters: Sequence[Any] = (), *, page: int = PAGE
    ) -> Iterator[dict[str, Any]]:
        """Rows that wait, in pages by the time of their death, which is nearly the order in which they lie. `size` is
        what these columns have of bytes: it is asked for first, for many pages at once."""
        conditions = " AND ".join(["consumer = ?", *([where] if where else [])])
        values = [self.consumer.key, *parameters]
        newest = next(iter(self._select("max(dead_at) AS at", conditions, values)), {"at": None})["at"]
        if newest is None:
            return
        conditions, values = f"{conditions} AND dead_at <= ?", [*values, newest]
        beyond, after = conditions, values
        sizes = self._select(f"{size} AS bytes", beyond, after, limit=MANY)
        while sizes:
            for count in _pages([row["bytes"] or 0 for row in sizes], page):
                rows = self._select(columns, beyond, after, limit=count)
                if not rows:
                    return
                yield from self._waiting(rows)
                last = rows[-1]
                beyond = f"{conditions} AND dead_at >= ? AND (dead_at > ? OR id > ?)"
                after = [*values, last["dead_at"], last["dead_at"], last["id"]]
            sizes = self._select(f"{size} AS bytes", beyond, after, limit=MANY)  # others may have come in between

    def _waiting(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        with spoken():
            gone = self.connections.state().smismember(self.gone, [_name(row["id"], row["headers"]) for row in rows])
        return [row for row, is_gone in zip(rows, gone, strict=True) if not is_gone]

    def _select(self, columns: str, where: str, parameters: Sequence[Any], *, limit: int = 0) -> list[dict[str, Any]]:
        resource = self.connections.plan.resource(self.table)
        if resource.managed and not resource.outputs:
            return []  # it was not applied yet
        handle = self.connections.handle(self.table)
        ordered = f" ORDER BY dead_at, id LIMIT {limit}" if limit else ""
        rows: list[dict[str, Any]] = handle.query(
            f"SELECT {columns} FROM {handle.name} WHERE {where}{ordered}", parameters
        )
        return rows


_SIZE = "octet_length(payload) + length(traceback) + length(headers)"


def _pages(sizes: Sequence[int], most: int = PAGE) -> Iterator[int]:
    """How many letters go together, of these sizes in their order: up to `most`, and no more bytes than a page has."""
    count = together = 0
    for size in sizes:
        if count == most or (count and together + size > PAGE_BYTES):
            yield count
            count = together = 0
        count += 1
        together += size
    if count:
        yield count


def _died(text: bytes) -> float:
    return datetime.fromisoformat(json.loads(text)["dead_at"]).timestamp()


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
