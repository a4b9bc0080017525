"""Paths with placeholders: `{date}/orders-{id}.parquet`, as `bucket` and `file` take them."""

import glob
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from buildflow.primitives.bucket.object_names import why_no_name
from buildflow.spec.values import check_placeholders, refusal

PLACEHOLDERS = ("id", "date", "hour", "consumer")


def check_template(template: str, known: tuple[str, ...], key: str) -> None:
    """Raise a refusal for a placeholder that there is not, and for a path that would leave its folder."""
    check_placeholders(template, known, key)
    if why := why_no_name(template):
        raise refusal("BF204", f'"{template}" is no path below its folder: {why}', "write folder/name.jsonl", key)


def with_id(template: str) -> str:
    """The template with `{id}` before its extension, where it has none: files of one name would replace each
    other."""
    if "{id}" in template:
        return template
    folder, slash, last = template.rpartition("/")
    stem, dot, extension = last.rpartition(".")
    name = f"{stem}-{{id}}{dot}{extension}" if stem else f"{last}-{{id}}"
    return f"{folder}{slash}{name}"


def fill(template: str, *, id: str, moment: datetime, consumer: str, extension: str = "") -> str:
    """One path. `moment` is in UTC; a consumer that is a route ("POST /orders") is put in as one word."""
    values = {
        "id": id,
        "date": f"{moment:%Y-%m-%d}",
        "hour": f"{moment:%H}",
        "consumer": re.sub(r"[^\w.-]+", "-", consumer).strip("-."),
        "extension": extension,
    }
    return re.sub(r"\{(\w+)\}", lambda match: values[match[1]], with_id(template))


def filled(template: str, root: Path, id: str) -> Iterator[Path]:
    """The files below `root` whose paths the template gives; `id` is a pattern of its ids."""
    forms = {"id": id, "date": r"\d{4}-\d\d-\d\d", "hour": r"\d\d", "consumer": r"[\w.-]*", "extension": r"\w+"}
    parts = re.split(r"\{(\w+)\}", with_id(template))  # text and placeholders in turn
    loosely = "".join("*" if index % 2 else glob.escape(part) for index, part in enumerate(parts))
    strictly = re.compile("".join(forms[part] if index % 2 else re.escape(part) for index, part in enumerate(parts)))
    for path in root.glob(loosely):
        if strictly.fullmatch(path.relative_to(root).as_posix()) and path.is_file():
            yield path


def fixed_folder(template: str) -> str:
    """The folder that holds all paths of a template; "" when that is the root."""
    return template.split("{", 1)[0].rpartition("/")[0]
