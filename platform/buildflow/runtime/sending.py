"""Many elements into a source: in groups, at a rate, and none of a group in doubt when the command is interrupted."""

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from buildflow.interrupts import whole
from buildflow.primitives.base import Source

T = TypeVar("T")

Outgoing = tuple[bytes, Mapping[str, str], str | None]
"""An element to send: its body, its headers, and its id or None for a new one."""

LARGEST = 1000
"""Elements of a group, at most."""
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

    def groups(self, items: Iterable[T]) -> Iterator[list[T]]:
        """`items` in groups that may go at once, each when it is its turn."""
        iterator = iter(items)
        while group := list(itertools.islice(iterator, self.size)):
            self._wait(len(group))
            yield group

    @whole()
    def send(self, elements: Sequence[Outgoing]) -> list[str]:
        """Their ids, which are durable. What interrupts it waits until it is certain what was sent."""
        if self._many is not None:
            ids: list[str] = self._many(elements)
        else:
            ids = [self._source.send(*element) for element in elements]
        self.sent += len(ids)
        return ids

    def _wait(self, count: int) -> None:
        if self._rate is None:
            return
        now = time.monotonic()
        if self._due > now:
            time.sleep(self._due - now)
        self._due = max(self._due, now) + count / self._rate
