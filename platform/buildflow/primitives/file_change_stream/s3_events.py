"""File changes as S3 tells them: messages in an SQS queue, an event each as a rule."""

import hashlib
import json
import logging
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from buildflow.errors import BuildflowError
from buildflow.ir.graph import Resource
from buildflow.primitives.base import Element
from buildflow.primitives.file_change_stream.ledger import bucket_of
from buildflow.primitives.file_change_stream.local import DRIVER as BY_HAND
from buildflow.primitives.queue.sqs import SQSSource, deliveries_of, source_options
from buildflow.primitives.queue.sqs_queue import queue_of
from buildflow.providers.aws import AwsSession
from buildflow.types.events import FileChangeEvent

if TYPE_CHECKING:
    from buildflow.primitives.bucket.s3 import S3BucketHandle

log = logging.getLogger("buildflow.sqs")

_FORGET = 1000
"""Messages of several events whose leases are looked after, before those that nobody settles are forgotten."""
_KINDS = {"ObjectCreated": "created", "ObjectRemoved": "deleted", "LifecycleExpiration": "deleted"}
"""By the first word of an event's name. Source:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-how-to-event-types-and-destinations.html"""


@dataclass
class _Together:
    """A message of several events, which is settled when each of them is."""

    waiting: set[str]
    """The ids of those that are not settled yet."""
    again: dict[str, tuple[float, bool, bool]] = field(default_factory=dict)
    """How some of them are to come again, by id: after which delay, alone, counted."""

    def settled(self, element: Element) -> bool:
        """Whether none is left."""
        self.waiting.discard(element.id)
        return not self.waiting


class EventSource(SQSSource):
    """A `Source` of the events of one bucket; an element is an event.

    S3's test message, and the markers of empty folders that its console makes, are acknowledged silently. Where a
    message holds several events, each is an element of its own, whose message stays until all are settled; when one
    of them is to come again all do, under the same ids. S3 tells of some events twice, in two messages: these are
    two elements of one id, of which a sink that dedupes takes the first.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._together: dict[str, _Together] = {}
        """By their receipts, until they are settled."""
        self._left_over: list[Element] = []

    def lease(self, limit: int) -> Sequence[Element]:
        found = self._still_left_over()
        nobodys: list[Element] = []
        for element in super().lease(limit - len(found)):
            events = self._events(element)
            found += events
            nobodys += [] if events else [element]
        self._left_over = found  # renewed meanwhile
        try:
            super().acknowledge(nobodys)
        except BuildflowError as exc:  # those who wait for the others are not to lose them by it
            log.warning("queue %s: %d messages of no event come again: %s", self.queue.name, len(nobodys), exc)
        self._left_over = found[limit:]
        return found[:limit]

    def renew(self, elements: Sequence[Element]) -> None:
        """And what waits here for the next `lease`."""
        super().renew([*elements, *self._left_over])

    def acknowledge(self, elements: Sequence[Element]) -> None:
        done: dict[str, Element] = {}
        for element in elements:
            if not _is_of_several(element):
                done[element.receipt] = element
            elif (together := self._settled(element)) and together.again:
                self._release_together(element, together)
            elif together:
                done[_of_message(element)] = element
        super().acknowledge(list(done.values()))
        for receipt in done:
            self._together.pop(receipt, None)

    def release(self, element: Element, *, delay: float = 0.0, alone: bool = False, counted: bool = True) -> None:
        if not _is_of_several(element):
            super().release(element, delay=delay, alone=alone, counted=counted)
            return
        if together := self._together.get(_of_message(element)):
            together.again[element.id] = (delay, alone, counted)
        if together := self._settled(element):
            self._release_together(element, together)

    def _settled(self, element: Element) -> _Together | None:
        """Its message, when this was the last of its events; None too when the message was settled before, for who
        settles may repeat what it has said."""
        together = self._together.get(_of_message(element))
        return together if together and together.settled(element) else None

    def _release_together(self, element: Element, together: _Together) -> None:
        delays, alone, counted = zip(*together.again.values(), strict=True)
        super().release(element, delay=max(delays), alone=any(alone), counted=any(counted))
        self._together.pop(_of_message(element), None)

    def _still_left_over(self) -> list[Element]:
        """Without those of messages that have lapsed, which come again whole."""
        if len(self._together) > _FORGET:
            self._together = {receipt: t for receipt, t in self._together.items() if self._holds(receipt)}
        return [element for element in self._left_over if self.is_mine(element)]

    def close(self) -> None:
        """Give back what waits here for a `lease`, too."""
        left_over, self._left_over = self._left_over, []
        try:
            for element in left_over:
                self.release(element, alone=element.alone, counted=False)
        except BuildflowError as exc:
            log.warning("queue %s: %d events come again when they lapse: %s", self.queue.name, len(left_over), exc)
        super().close()

    def _events(self, element: Element) -> list[Element]:
        """A message's events, as elements; none where it tells of nothing."""
        records = _records(element.body)
        if records is None:
            return [element]
        wanted = [record for record in records if not _is_folder(record)]
        named = element.id != self.message_of(element)  # by who sent it: a replay, perhaps
        if len(records) == 1:
            return [element if named else replace(element, id=_id(one) or element.id) for one in wanted]
        try:
            bodies = [json.dumps({"Records": [record]}).encode() for record in wanted]
        except RecursionError:
            return [element]
        ids = ["" if named else _id(record) for record in wanted]
        events = [
            replace(element, id=id or f"{element.id}#{number}", body=body, receipt=f"{element.receipt} {number}")
            for number, (id, body) in enumerate(zip(ids, bodies, strict=True))
        ]
        if events:
            self._together[element.receipt] = _Together({event.id for event in events})
        return events


def _is_of_several(element: Element) -> bool:
    """Whether it shares its message, and thus its lease, with other events."""
    return element.receipt != _of_message(element)


def _of_message(element: Element) -> str:
    """The receipt of an element's message, behind which an event of several has its number."""
    return " ".join(element.receipt.split(" ")[:4])


def _id(record: Mapping[str, Any]) -> str:
    """The same whenever S3 tells of the same event; "" where it does not say what tells two of them apart.

    Source: https://repost.aws/knowledge-center/s3-duplicate-sqs-messages. The time is for emulators, whose every event
    has the same sequencer."""
    bucket, about = record["s3"].get("bucket"), record["s3"]["object"]
    facts = [record["eventName"], bucket.get("name") if isinstance(bucket, dict) else None, record.get("eventTime")]
    facts += [about.get(name) for name in ("key", "versionId", "sequencer")]
    if not about.get("sequencer") or not all(isinstance(fact, str | None) for fact in facts):
        return ""
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _records(body: bytes) -> list[dict[str, Any]] | None:
    """The events in a message of S3, none in its test message; None for another message."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict):
        return None
    if message.get("Event") == "s3:TestEvent":
        return []
    records = message.get("Records")
    whole = isinstance(records, list) and all(_is_record(record) for record in records)
    return records if whole else None


def _is_record(record: Any) -> bool:
    try:
        return all(isinstance(text, str) for text in (record["s3"]["object"]["key"], record["eventName"]))
    except (TypeError, KeyError):
        return False


def _is_folder(record: Mapping[str, Any]) -> bool:
    about = record["s3"]["object"]
    return unquote_plus(about["key"]).endswith("/") and not about.get("size")


def decode(body: bytes, resource: Resource, session: AwsSession) -> FileChangeEvent:
    """The event in an element's body; its object is read from the bucket when asked for. Beside what S3 writes, it
    takes what `platform send` names by hand: `{"file_path": "cat.png"}`. Raises ValueError, in words."""
    records = _records(body)
    if records and len(records) > 1:
        raise ValueError("a message of several events cannot be taken apart")
    event = _event(records[0], resource, session) if records else BY_HAND.decode(body, resource, session)
    about = _S3Object(event.file_path, resource, session)
    return replace(event, read=about.read, local_path=about.local_path)


def _event(record: Mapping[str, Any], resource: Resource, session: AwsSession) -> FileChangeEvent:
    name, about = str(record["eventName"]), record["s3"]["object"]
    kind = _KINDS.get(name.partition(":")[0])
    if kind is None:
        raise ValueError(f"S3 tells of {name}, which is neither a creation nor a removal")
    facts = {field: about[field] for field in ("eTag", "versionId", "sequencer") if field in about}
    return FileChangeEvent(
        file_path=unquote_plus(about["key"]),
        event_type=kind,
        bucket=bucket_of(resource, session).name,
        size=int(about.get("size") or 0),
        time=datetime.fromisoformat(record["eventTime"]) if record.get("eventTime") else None,
        metadata={"eventName": name, **facts},
    )


class _S3Object:
    """The object that an event is about; asks for it when it is first read."""

    def __init__(self, path: str, stream: Resource, session: AwsSession) -> None:
        self._path = path
        self._stream = stream
        self._session = session

    @cached_property
    def _bucket(self) -> "S3BucketHandle":
        from buildflow.primitives.bucket.s3 import S3BucketHandle

        return S3BucketHandle(bucket_of(self._stream, self._session), self._session)

    def read(self) -> bytes:
        return self._bucket.read_object(self._path)

    def local_path(self) -> Path:
        """A temporary file, which goes when nobody has the event any more."""
        folder = tempfile.mkdtemp(prefix="buildflow-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        name = PurePosixPath(self._path).name
        target = Path(folder, name if name.isprintable() and 0 < len(name.encode()) <= 200 else "object")
        self._bucket.download(self._path, target)
        return target


def event_source(resource: Resource, session: AwsSession) -> EventSource:
    return EventSource(queue_of(resource, session), deliveries_of(resource, session), **source_options(resource))
