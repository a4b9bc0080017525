"""What the two tables know of the pictures, newest first, for the pages to show."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from buildflow.types import Table
from handlers_example.names import display_name
from handlers_example.schemas import BUILT_IN

NEWEST = 100
"""How many pictures a page lists."""


def collect(classifications: Table, failures: Table) -> dict[str, Any]:
    """The newest results and failures, one entry a picture, ready to become JSON.

    A picture that failed and was labelled later (`platform dlq replay`) is no failure any more.
    """
    rows = classifications.rows(order_by="upload_time DESC", limit=NEWEST)
    results = _first_of_each([_result(row) for row in rows])
    labelled = {result["image_path"] for result in results}
    dead = [_failure(row) for row in failures.rows(order_by="dead_at DESC", limit=NEWEST)]
    return {
        "results": results,
        "failures": [failure for failure in _first_of_each(dead) if failure["image_path"] not in labelled],
        "built_in": bool(results) and results[0]["model"] == BUILT_IN,
    }


def tag(found: Mapping[str, Any]) -> str:
    """An ETag: equal as long as the listing is."""
    return f'"{hashlib.sha256(json.dumps(found).encode()).hexdigest()[:20]}"'


def _first_of_each(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first entry of each picture. The same path comes again where a file was overwritten."""
    first: dict[str, dict[str, Any]] = {}
    for entry in entries:
        first.setdefault(entry["image_path"], entry)
    return list(first.values())


def _result(row: Mapping[str, Any]) -> dict[str, Any]:
    labels = [{"label": each["label"], "confidence": each["confidence"]} for each in row["classifications"]]
    return {
        "image_path": row["image_path"],
        "image_name": row["image_name"],
        "upload_time": _utc(row["upload_time"]),
        "model": row["model"],
        "classifications": labels,
    }


def _failure(row: Mapping[str, Any]) -> dict[str, Any]:
    path = _path_in(row["payload"])
    return {
        "image_path": path,
        "image_name": display_name(path),
        "upload_time": _utc(row["sent_at"]),
        "reason": _reason(row["error"]),
        "attempts": row["attempts"],
    }


def _path_in(payload: bytes) -> str:
    """The picture that an event was about. Whatever else lies in the table must not break the page."""
    try:
        return str(json.loads(payload)["file_path"])
    except (ValueError, KeyError, TypeError):
        return "(unknown)"


def _reason(error: str) -> str:
    """The words of an error, without the name of the exception's type before them."""
    kind, colon, words = error.partition(": ")
    return words if colon and kind.replace(".", "_").isidentifier() else error


def _utc(moment: datetime) -> str:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
