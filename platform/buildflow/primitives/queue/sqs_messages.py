"""Elements as messages of SQS and SNS, and back.

A message is text with up to ten attributes. Headers are attributes as they are, so that SNS can filter by them; those
that no attribute can hold, or that are too many, go together as JSON in one of ours. Bytes that are no text which SQS
takes go as base64. What others sent is taken as it is.
"""

import base64
import binascii
import contextlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from buildflow.errors import BadMessage
from buildflow.primitives.element_ids import new_id

LARGEST = 1_048_576
"""Bytes of a message with its attributes, and of all messages of one request. Source:
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html"""
ID, ENCODING, HEADERS = "buildflow-id", "buildflow-encoding", "buildflow-headers"
"""Our own attributes: the element's id, how its body is written ("base64"), headers that are no attributes."""
GROUP = "MessageGroupId"
"""The header that names a message's group in a FIFO queue or topic; it is no attribute."""
_MOST = 10
_REFUSED = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NAME = re.compile(r"(?!(?i:aws|amazon)\.)(?!buildflow-)(?!.*\.\.)[\w-]([\w.-]{0,254}[\w-])?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message as it is sent; `size` is what counts against the limits."""

    id: str
    text: str
    attributes: Mapping[str, Mapping[str, str]]
    group: str
    size: int


def envelope(
    body: bytes, headers: Mapping[str, str], id: str | None, *, first: Collection[str] = (), largest: int = LARGEST
) -> Envelope:
    """Raises `BadMessage` for one that is too large. Headers in `first` become attributes before others do, and one
    that has more of them than a message has attributes is refused: who filters by them would not get it."""
    id = id or new_id()
    text = _text(body)
    encoding = {} if text is not None else {ENCODING: "base64"}
    if text is None:
        text = base64.b64encode(body).decode() or "\n"  # no message is empty
    values = {ID: id, **encoding, **_as_attributes(headers, _MOST - 1 - len(encoding), first)}
    size = len(text.encode()) + sum(len(name) + len("String") + len(v.encode()) for name, v in values.items())
    if size > largest:
        raise BadMessage(
            f"the message has {size:,} bytes as AWS counts them, and it takes {largest:,} at most",
            hint="write it to a bucket, and send its path",
        )
    attributes = {name: {"DataType": "String", "StringValue": value} for name, value in values.items()}
    return Envelope(id, text, attributes, headers.get(GROUP, ""), size)


def opened(text: str, attributes: Mapping[str, Mapping[str, Any]]) -> tuple[str, bytes, dict[str, str]]:
    """A message's id ("" where another program sent it), body and headers."""
    values = {name: _value(attribute) for name, attribute in attributes.items()}
    id, encoding, packed = (values.pop(name, "") for name in (ID, ENCODING, HEADERS))
    body = text.encode()
    if encoding == "base64":
        with contextlib.suppress(binascii.Error):  # an attribute of another program
            body = base64.b64decode(body)
    return id, body, {**values, **_unpacked(packed)}


def _text(body: bytes) -> str | None:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    return None if not text or _REFUSED.search(text) else text


def _as_attributes(headers: Mapping[str, str], room: int, first: Collection[str]) -> dict[str, str]:
    named = sorted(headers, key=lambda name: name not in first)
    fitting = [n for n in named if n != GROUP and _NAME.fullmatch(n) and headers[n] and not _REFUSED.search(headers[n])]
    others = len([name for name in named if name != GROUP]) > min(len(fitting), room)
    room -= 1 if others else 0
    chosen = {name: headers[name] for name in fitting[:room]}
    if filtered := [name for name in fitting[room:] if name in first]:
        raise BadMessage(
            f"the message has {room + len(filtered)} attributes by which subscriptions filter, beside its own, and AWS "
            f"delivers {_MOST} attributes at most: there is room for {room}",
            hint="send fewer of them, or filter by fewer",
        )
    rest = {name: value for name, value in headers.items() if name not in chosen and name != GROUP}
    return {**chosen, HEADERS: json.dumps(rest)} if rest else chosen


def _value(attribute: Mapping[str, Any]) -> str:
    """Of text and numbers what they say; of bytes base64."""
    if "StringValue" in attribute:
        return str(attribute["StringValue"])
    return base64.b64encode(attribute.get("BinaryValue", b"")).decode()


def _unpacked(packed: str) -> dict[str, str]:
    try:
        found = json.loads(packed or "{}")
        return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}
    except (ValueError, RecursionError):
        return {}
