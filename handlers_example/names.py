"""Names of pictures: what people call them, and where they lie in the bucket."""

import re
import secrets
import unicodedata
from datetime import UTC, datetime

LONGEST = 120
"""Bytes of a cleaned name. File systems end at 255, and a prefix and temporary names need room."""

FORBIDDEN = frozenset('/\\:*?"<>|#%&')
OBJECT_NAME = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}-(?P<name>.+)", re.DOTALL)


def object_path(filename: str | None, now: datetime | None = None) -> str:
    """A new path in the bucket for an upload: `20261121T090500Z-3f9a1c07-dog.jpg`.

    The random part keeps two uploads with one name apart. The result is one path part: it cannot climb out
    of the bucket, whatever the browser sent.
    """
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    return f"{moment:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}-{clean(filename or '')}"


def display_name(path: str) -> str:
    """What people called the picture at `path`, also where somebody else put it into the bucket."""
    last = path.rpartition("/")[2]
    uploaded = OBJECT_NAME.fullmatch(last)
    return uploaded["name"] if uploaded else last


def clean(filename: str) -> str:
    """The last part of a file name, without what file systems, URLs or terminals could misread."""
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", filename))[-1]
    name = "".join("_" if part in FORBIDDEN else part for part in last if _is_visible(part))
    return _shorten(name.strip(" .")) or "image"


def _is_visible(character: str) -> bool:
    """Whether a character is text. Control, direction-changing and half characters are not."""
    return not unicodedata.category(character).startswith("C")


def _shorten(name: str) -> str:
    """Cut a name to `LONGEST` bytes, keeping its suffix and whole characters."""
    stem, dot, suffix = name.rpartition(".")
    if not stem or len(suffix.encode()) > 10:
        stem, dot, suffix = name, "", ""
    room = LONGEST - len((dot + suffix).encode())
    return stem.encode()[:room].decode(errors="ignore") + dot + suffix
