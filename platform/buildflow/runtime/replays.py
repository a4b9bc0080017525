"""Dead letters get another chance; every replay is recorded, in the stack's Redis."""

import base64
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from buildflow.interrupts import whole
from buildflow.ir.runtime import ConsumerPlan
from buildflow.providers.redis_client import spoken
from buildflow.runtime.connections import Connections
from buildflow.runtime.dead_letters import PAGE, REPLAYS, DeadLetters, name_of, open_dead_letters, replays_of
from buildflow.runtime.sending import Outgoing, Sender
from buildflow.types import DeadLetter


@dataclass(frozen=True)
class Replay:
    """One replay of one element: the `number`th, by whom, and the error that it had died of. `edited` holds its
    payload `before` and `after`, where it was sent with another one."""

    id: str
    number: int
    replayed_at: str
    by: str
    error: str
    edited: dict[str, Any] | None = None


class Replays:
    """The replays of one consumer's dead letters: a hash, by the name of the letter."""

    def __init__(self, consumer: ConsumerPlan, connections: Connections) -> None:
        self.connections = connections
        self.key = f"{connections.namespace}:replays:{consumer.key}"

    def record(self, replays: dict[str, Replay]) -> None:
        """By the names of the letters, as `name_of` gives them."""
        texts = {name: json.dumps(asdict(replay)) for name, replay in replays.items()}
        with spoken():
            self.connections.state().hset(self.key, mapping=texts)

    def of(self, letter: DeadLetter) -> list[Replay]:
        """Those of the same element, oldest first."""
        names = [f"{letter.id}#{number}" for number in range(replays_of(letter.headers))]
        if not names:
            return []
        with spoken():
            found = self.connections.state().hmget(self.key, names)
        return [Replay(**json.loads(text)) for text in found if text]

    def each(self) -> Iterator[Replay]:
        """All of them, in any order."""
        with spoken():
            for _, text in self.connections.state().hscan_iter(self.key, count=PAGE):
                yield Replay(**json.loads(text))


def replay(
    consumer: ConsumerPlan,
    connections: Connections,
    letters: Iterable[DeadLetter],
    sender: Sender,
    *,
    by: str,
    payload: bytes | None = None,
) -> Iterator[list[DeadLetter]]:
    """Put dead letters back into their source under their own ids, so that a sink that dedupes still does; with
    `payload`, what somebody made of it instead. Yields each group that was sent.

    Each is sent before it is recorded and forgotten: stopped in between, it is in both places, never in none."""
    store, log = open_dead_letters(consumer, connections), Replays(consumer, connections)
    for group in sender.groups(letters, lambda letter: len(letter.payload)):
        _send_again(group, store, log, sender, by, payload)
        yield group


@whole()
def _send_again(
    group: Sequence[DeadLetter], store: DeadLetters, log: Replays, sender: Sender, by: str, payload: bytes | None
) -> None:
    sender.send([_outgoing(letter, payload) for letter in group])
    log.record({name_of(letter): _recorded(letter, by, payload) for letter in group})
    store.forget([name_of(letter) for letter in group])


def _outgoing(letter: DeadLetter, payload: bytes | None) -> Outgoing:
    headers = {**json.loads(letter.headers), REPLAYS: str(replays_of(letter.headers) + 1)}
    return letter.payload if payload is None else payload, headers, letter.id


def _recorded(letter: DeadLetter, by: str, payload: bytes | None) -> Replay:
    return Replay(
        id=letter.id,
        number=replays_of(letter.headers) + 1,
        replayed_at=datetime.now(UTC).isoformat(),
        by=by,
        error=letter.error,
        edited=None if payload is None else {"before": in_json(letter.payload), "after": in_json(payload)},
    )


def in_json(payload: bytes) -> dict[str, str]:
    """A payload as it stands in JSON: as text where it is UTF-8, else in base64; `payload_encoding` says which."""
    try:
        return {"payload": payload.decode("utf-8"), "payload_encoding": "utf-8"}
    except UnicodeDecodeError:
        return {"payload": base64.b64encode(payload).decode(), "payload_encoding": "base64"}
