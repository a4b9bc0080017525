"""Ids of elements, and the marks that sinks keep of those they have written.

An id of ours is a UUID of version 8 (RFC 9562): its first digits are random, so that a few tell it from others, its
last twelve the moment it was made at, with which its mark begins. Elements of one time have marks side by side, and a
sink looks a new one up among its neighbours: PostgreSQL at one edge of its index, DuckDB, which has none, in the row
groups whose minima and maxima it cannot rule out. Ids that others chose have marks anywhere: that costs time, and
nothing else depends on it.
"""

import hashlib
import os
import re
import time
from collections import deque

_OURS = re.compile(r"[0-9a-f]{12}8[0-9a-f]{3}8[0-9a-f]{3}([0-9a-f]{12})")
"""What it ends with are milliseconds since 1970."""

_HASHED = 86
"""Bits of a mark that are a hash, where the 42 others are a time: milliseconds until the year 2109."""

_spare: deque[str] = deque()
"""Random digits for ids to come. Asked for each, the system would keep a busy gateway waiting for Python's lock."""
os.register_at_fork(after_in_child=_spare.clear)


def new_id() -> str:
    """An id that nothing else has: 32 hexadecimal digits."""
    return _id(_random_digits(), f"{time.time_ns() // 1_000_000:012x}")


def derived_id(id: str, *parts: str) -> str:
    """An id that follows from another: always the same one, and of the same time."""
    digits = _hash(*parts, id).hex()
    made = _OURS.fullmatch(id)
    return _id(digits, made[1]) if made else digits


def mark_of(writer: str, id: str) -> int:
    """128 bits that stand for an element that `writer` has written."""
    hashed = int.from_bytes(_hash(writer, id))
    made = _OURS.fullmatch(id)
    if made is None:
        return hashed
    moment = int(made[1], 16) % (1 << 128 - _HASHED)
    return moment << _HASHED | hashed % (1 << _HASHED)


def _random_digits() -> str:
    try:
        return _spare.popleft()
    except IndexError:
        digits = os.urandom(256 * 9).hex()
        _spare.extend(digits[start : start + 18] for start in range(18, len(digits), 18))
        return digits[:18]


def _hash(*parts: str) -> bytes:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).digest()


def _id(digits: str, moment: str) -> str:
    return f"{digits[:12]}8{digits[12:15]}8{digits[15:18]}{moment}"
