"""Where a consumer's rows go: to its sink, or to each of several whose condition they meet."""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, is_typeddict

from buildflow.errors import HandlerRejected, InvalidRow
from buildflow.ir.runtime import ConsumerPlan, SinkPlan
from buildflow.primitives.base import Entry, row_values
from buildflow.runtime.connections import Connections
from buildflow.runtime.functions import load
from buildflow.types import Message

Test = Callable[[Any], bool]


class Sinks:
    """A consumer's sinks as one. A row that meets the conditions of several goes to each of them; one that meets
    none is refused: it would be lost."""

    def __init__(self, plan: ConsumerPlan, connections: Connections) -> None:
        self.writer = plan.key
        self.connections = connections
        self.only = plan.sink
        self.choices = [(choice.to, _test(choice)) for choice in plan.sinks]

    def __bool__(self) -> bool:
        return self.only is not None or bool(self.choices)

    def prepare(self) -> None:
        """Make the sinks, and let those that keep things for a while see to what a process left that died."""
        for key in [self.only] if self.only is not None else {key for key, _ in self.choices}:
            self.connections.sink(key).commit(self.writer, ())

    def check(self, row: Any) -> None:
        """Raise `InvalidRow`, in words, when `row` cannot be stored where it belongs; writes nothing."""
        for key in self._places(row):
            self.connections.sink(key).check(row)

    def commit(self, entries: Sequence[Entry], *, fresh: bool = False) -> None:
        """`Sink.commit` of every sink that gets rows, one after the other. When a later one fails, all of it comes
        again: a transactional sink skips what it has, any other takes it twice."""
        if self.only is not None:
            self.connections.sink(self.only).commit(self.writer, entries, fresh=fresh)
            return
        rows: dict[str, dict[int, list[Any]]] = {}
        for number, entry in enumerate(entries):
            for row in entry.rows:
                for key in self._places(row):
                    rows.setdefault(key, {}).setdefault(number, []).append(row)
        for key, of_entry in rows.items():
            mine = [Entry(entry.id, of_entry.get(number, ())) for number, entry in enumerate(entries)]
            self.connections.sink(key).commit(self.writer, mine, fresh=fresh)

    def _places(self, row: Any) -> list[str]:
        if self.only is not None:
            return [self.only]
        places = list(dict.fromkeys(key for key, test in self.choices if test(row)))
        if self.choices and not places:
            raise InvalidRow(f"a {type(row).__name__} meets no `when` of the consumer's sinks: it would be lost")
        return places


def _test(choice: SinkPlan) -> Test:
    if choice.type:
        kind = load(choice.type)
        if is_typeddict(kind) or not isinstance(kind, type):
            raise HandlerRejected(
                f"`when: {choice.type}` cannot be told from other rows: at run time it is no class",
                hint="name fields and the values that they have instead: `when: {status: failed}`",
            )
        return lambda row: isinstance(row, kind)
    if choice.fields:
        return lambda row: _has(row, choice.fields)
    return lambda _: True


def _has(row: Any, fields: Mapping[str, Any]) -> bool:
    try:
        values = row_values(row.data if isinstance(row, Message) else row, ())
    except TypeError:  # text, bytes or a number has no fields
        return False
    return all(name in values and _plain(values[name]) == wanted for name, wanted in fields.items())


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value
