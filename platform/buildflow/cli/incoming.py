"""Messages that a command was given: as arguments, as lines of a file, or as lines of stdin."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import typer

from buildflow.cli.terminal import say
from buildflow.errors import BadMessage
from buildflow.primitives.messages import Encoder, encode

CHUNK = 1 << 20


@dataclass(frozen=True)
class Incoming:
    """Messages as they arrive: each part is there at once, and may be too much for memory. `count` is how many there
    are in all, None where that is not known before the end."""

    parts: Iterable[Iterable[bytes]]
    count: int | None = None


@contextlib.contextmanager
def incoming(texts: Sequence[str] | None, file: Path | None, check: Encoder) -> Iterator[Incoming]:
    """The messages, all of them checked before the first is given. What arrives on a pipe is given as it arrives where
    there is nothing to check; else it waits in a temporary file."""
    if texts:
        bodies = [os.fsencode(text) for text in texts]
        yield Incoming([bodies], _checked(bodies, check, "message"))
        return
    with _opened(file) as opened:
        if opened.seekable():
            yield _whole(opened, check)
        elif check is encode:
            yield Incoming(_as_they_come(opened))
        else:
            with tempfile.TemporaryFile() as kept:
                shutil.copyfileobj(opened, kept)
                kept.seek(0)
                yield _whole(kept, check)


@contextlib.contextmanager
def _opened(file: Path | None) -> Iterator[BinaryIO]:
    if file is None or str(file) == "-":
        if sys.stdin.isatty():
            say("reading messages, a line each; Ctrl-D ends")
        yield sys.stdin.buffer
        return
    try:
        opened = file.open("rb")
    except OSError as exc:
        raise typer.BadParameter(f"{file} cannot be read: {exc.strerror}", param_hint="--from") from exc
    with opened:
        yield opened


def _whole(file: BinaryIO, check: Encoder) -> Incoming:
    start = file.tell()
    count = _checked(_lines(file), check, "line")
    file.seek(start)
    return Incoming([_lines(file)], count)


def _checked(bodies: Iterable[bytes], check: Encoder, what: str) -> int:
    number = 0
    for number, body in enumerate(bodies, 1):
        try:
            check(body)
        except BadMessage as exc:
            raise BadMessage(str(exc), hint=f"{what} {number} of those given; the source has none of them") from exc
    return number


def _lines(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Without their ends; empty ones are no messages."""
    return filter(None, (line.rstrip(b"\r\n") for line in lines))


def _as_they_come(stream: BinaryIO) -> Iterator[list[bytes]]:
    """The lines that a pipe holds, whenever it holds some."""
    begun = b""
    while chunk := stream.read1(CHUNK):  # type: ignore[attr-defined]
        *whole, begun = (begun + chunk).split(b"\n")
        yield list(_lines(whole))
    yield list(_lines([begun]))
