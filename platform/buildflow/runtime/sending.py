"""Many elements into a source: in groups, at a rate, and none of a group in doubt when the command is interrupted."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from buildflow.interrupts import whole
from buildflow.primitives.base import Source

T = TypeVar("T")

Outgoing = tuple[bytes, Mapping[str, str], str | None]
"""An element to send: its body, its headers, and its id or None for a new one."""

LARGEST = 1000
"""Elements of a group, at most."""
LARGEST_BYTES = 16_000_000
"""Bytes of a group, at most, unless one element alone has more."""
GROUPS_A_SECOND = 10
"""Where a rate is kept, so many groups or more share a second's elements, so that they come evenly."""


class Sender:
    """Sends elements to one source, `rate` a second at most. `sent` counts those that the source has for certain."""

    def __init__(self, source: Source, rate: float | None = None) -> None:
        self.sent = 0
        self._source = source
        self._many: Any = getattr(source, "send_many", None)
        self._rate = rate
        self._due = 0.0

    @property
    def size(self) -> int:
        """How many elements may go at once."""
        together = LARGEST if self._many is not None else 1
        return together if self._rate is None else max(1, min(together, int(self._rate / GROUPS_A_SECOND)))

    def groups(self, items: Iterable[T], bytes_of: Callable[[T], int]) -> Iterator[list[T]]:
        """`items` in groups that may go at once, each when it is its turn, as soon as it is full."""
        group: list[T] = []
        left = LARGEST_BYTES
        for item in items:
            if group and bytes_of(item) > left:
                yield self._in_turn(group)
                group, left = [], LARGEST_BYTES
            group.append(item)
            left -= bytes_of(item)
            if len(group) == self.size:
                yield self._in_turn(group)
                group, left = [], LARGEST_BYTES
        if group:
            yield self._in_turn(group)

    @whole()
    def send(self, elements: Sequence[Outgoing]) -> list[str]:
        """Their ids, which are durable. What interrupts it waits until it is certain what was sent."""
        if self._many is not None:
            ids: list[str] = self._many(elements)
        else:
            ids = [self._source.send(*element) for element in elements]
        self.sent += len(ids)
        return ids

    def _in_turn(self, group: list[T]) -> list[T]:
        if self._rate is not None:
            now = time.monotonic()
            if self._due > now:
                time.sleep(self._due - now)
            self._due = max(self._due, now) + len(group) / self._rate
        return group
