"""Data that may be too much for memory: written as it comes."""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any


def put_list(values: Iterable[Any]) -> None:
    """A JSON list to stdout, as `put_json` would print it; whole also where its values end with a failure."""
    before = "[\n"
    try:
        for value in values:
            text = json.dumps(value, indent=2, default=str, ensure_ascii=False)
            sys.stdout.write(before + "  " + text.replace("\n", "\n  "))
            before = ",\n"
    finally:
        sys.stdout.write("[]\n" if before == "[\n" else "\n]\n")
        sys.stdout.flush()


@contextlib.contextmanager
def written(path: Path | None) -> Iterator[Callable[[str], Any]]:
    """What writes to a file, which appears when it is whole; without one, to stdout."""
    if path is None:
        yield sys.stdout.write
        return
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            yield file.write
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
