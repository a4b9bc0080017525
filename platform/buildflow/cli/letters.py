"""Dead letters as `platform dlq` names, chooses, groups and prints them."""

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from buildflow.errors import UnknownName
from buildflow.runtime.dead_letters import DeadLetters
from buildflow.runtime.delivery import short
from buildflow.runtime.replays import Replay, in_json
from buildflow.types import DeadLetter

MOST_GROUPS = 1000
"""Groups that are told apart by their text; what comes after them counts by the class of its error, so that a
million errors of which no two are alike need no more memory."""
EXAMPLES = 3
BRIEF = 200
"""Characters of an error in a list."""


@dataclass
class Group:
    """The letters of a consumer that died of the same error, with some of their ids."""

    consumer: str
    error: str
    first_seen: datetime
    last_seen: datetime
    count: int = 0
    ids: list[str] = field(default_factory=list)

    def add(self, letter: DeadLetter) -> None:
        self.count += 1
        self.first_seen = min(self.first_seen, letter.dead_at)
        self.last_seen = max(self.last_seen, letter.dead_at)
        if len(self.ids) < EXAMPLES and letter.id not in self.ids:
            self.ids.append(letter.id)


def grouped(letters: Iterable[DeadLetter]) -> list[Group]:
    """Letters by the class and first line of their error, the largest group first."""
    groups: dict[tuple[str, str], Group] = {}
    for letter in letters:
        error = error_of(letter)
        if (letter.consumer, error) not in groups and len(groups) >= MOST_GROUPS:
            error = error.partition(":")[0]
        key = (letter.consumer, error)
        if key not in groups:
            groups[key] = Group(*key, letter.dead_at, letter.dead_at)
        groups[key].add(letter)
    return sorted(groups.values(), key=lambda group: (-group.count, group.first_seen))


def error_of(letter: DeadLetter) -> str:
    """What a letter is grouped by."""
    return letter.error.strip().partition("\n")[0]


def group_json(group: Group) -> dict[str, Any]:
    return {
        "consumer": group.consumer,
        "error": group.error,
        "count": group.count,
        "first_seen": group.first_seen.isoformat(),
        "last_seen": group.last_seen.isoformat(),
        "ids": group.ids,
    }


def group_row(group: Group) -> dict[str, Any]:
    """Narrow enough for 80 columns: what belongs to an error stands below it."""
    error = group.error if len(group.error) <= BRIEF else f"{group.error[: BRIEF - 1]}…"
    more = "" if len(group.ids) == group.count else " …"
    return {
        "consumer": group.consumer,
        "count": f"{group.count:,}",
        "error": "\n".join([error, _span(group), " ".join(short(id) for id in group.ids) + more]),
    }


def _span(group: Group) -> str:
    first, last = moment(group.first_seen), moment(group.last_seen)
    if first == last:
        return first
    return f"{first} to {last[11:] if first[:10] == last[:10] else last}"


def chosen(store: DeadLetters, ids: Sequence[str], error: str | None) -> Iterator[DeadLetter]:
    """The letters that were named: by ids or their beginnings, by the beginning of their error; without either, all,
    oldest first. Raises `UnknownName` for an id that there is not."""
    if ids:
        return iter({letter.id: letter for letter in [one(store, id) for id in ids]}.values())
    if error is None:
        return store.each()
    beginning = error.strip().removesuffix("…")
    return (letter for letter in store.each() if error_of(letter).startswith(beginning))


def one(store: DeadLetters, id: str) -> DeadLetter:
    """The letter of an id, or of its beginning. Of an element that was sent again and died again meanwhile, the
    last."""
    begun = store.begun(id)
    found = {letter.id: letter for letter in begun if letter.id == id} or {letter.id: letter for letter in begun}
    if len(found) != 1:
        words = f'no dead letter begins with "{id}"' if not found else f'"{id}" is the beginning of {len(found)} ids'
        raise UnknownName(words, hint="platform dlq ls --all shows them")
    return next(iter(found.values()))


def letter_json(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "consumer": letter.consumer,
        "source": letter.source,
        "error": letter.error,
        "attempts": letter.attempts,
        "sent_at": letter.sent_at.isoformat(),
        "dead_at": letter.dead_at.isoformat(),
        "headers": json.loads(letter.headers),
        **in_json(letter.payload),
        "traceback": letter.traceback,
    }


def letter_row(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "consumer": letter.consumer,
        "dead_at": moment(letter.dead_at),
        "attempts": letter.attempts,
        "error": error_of(letter),
    }


def replay_row(consumer: str, replay: Replay) -> dict[str, Any]:
    return {
        "id": replay.id,
        "consumer": consumer,
        "replay": replay.number,
        "at": moment(datetime.fromisoformat(replay.replayed_at)),
        "by": replay.by,
        "edited": "yes" if replay.edited else "",
        "error": replay.error,
    }


def in_sentence(replay: Replay) -> str:
    at = moment(datetime.fromisoformat(replay.replayed_at))
    return f"{at} by {replay.by}{', edited' if replay.edited else ''}; it had died of {replay.error}"


def moment(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S}"


def tell_apart(ids: Iterable[str]) -> int:
    """How many characters of each tell them apart: whoever names one may leave the others out."""
    ordered = sorted(set(ids))
    common = (_common(a, b) for a, b in itertools.pairwise(ordered))
    return max(8, max(common, default=0) + 1)


def _common(one: str, other: str) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
