"""Requests of SQS and SNS that carry up to ten entries, some of which may fail while the others do not."""

import itertools
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from buildflow.errors import ServiceUnavailable
from buildflow.providers.aws_errors import passes

T = TypeVar("T")

TEN = 10
"""Entries of one request, at most."""
_TRIES = 5
_FIRST_PAUSE = 0.1

Entry = Mapping[str, Any]
Refusal = tuple[Entry, Mapping[str, Any]]
"""An entry that was refused for good, and what was said of it: `Code`, `Message`."""


def tens(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while group := list(itertools.islice(iterator, TEN)):
        yield group


def send_batch(call: Callable[[list[dict[str, Any]]], Mapping[str, Any]], entries: Sequence[Entry]) -> list[Refusal]:
    """Send one request; entries that failed through no fault of ours go again, with pauses, until none is left.

    What is refused for good is the answer. Raises `ServiceUnavailable` when some fail again and again."""
    left, refused = list(entries), []
    for number in range(_TRIES):
        if number:
            time.sleep(_FIRST_PAUSE * 2 ** (number - 1) * (0.5 + random.random()))
        answer = call([{**entry, "Id": str(index)} for index, entry in enumerate(left)])
        failures = [(left[int(failure["Id"])], failure) for failure in answer.get("Failed", ())]
        refused += [(entry, f) for entry, f in failures if f["SenderFault"] and not passes(f["Code"])]
        again = [(entry, f) for entry, f in failures if not f["SenderFault"] or passes(f["Code"])]
        if not again:
            return refused
        left, said = [entry for entry, _ in again], again[0][1]
    words = said.get("Message") or said["Code"]
    raise ServiceUnavailable(f"AWS did not take {len(left)} of {len(entries)} entries of a request: {words}")
