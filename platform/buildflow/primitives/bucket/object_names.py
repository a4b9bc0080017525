"""Which paths are object names: relative, with `/` between parts, never leading out of the bucket."""

from buildflow.errors import InvalidObjectName

HIDDEN = ".buildflow-tmp"
"""The folder in a bucket for unfinished writes and locks; no object name may contain it."""
PART_BYTES = 255
"""What file systems allow between two slashes."""
PATH_BYTES = 1024
"""What S3 and Cloud Storage allow as a whole."""


def object_parts(path: str) -> tuple[str, ...]:
    """The parts of an object's path. Raises `InvalidObjectName`, in words, for one that is none."""
    refusal = why_no_name(path)
    if refusal:
        raise InvalidObjectName(
            f"{path!r} is no object name: {refusal}",
            hint="Names are relative, with / between parts: photos/cat.png",
        )
    return tuple(path.split("/"))


def is_object_name(path: str) -> bool:
    """Whether a file of this path in a bucket is an object."""
    return not why_no_name(path)


def why_no_name(path: object) -> str:
    """Why this is no object name; empty when it is one."""
    if not isinstance(path, str):
        return "a name is text"
    if not path:
        return "it is empty"
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    if len(encoded) > PATH_BYTES:
        return f"it is longer than {PATH_BYTES} bytes"
    if "\0" in path:
        return "it contains a NUL character"
    if "\\" in path:
        return "it contains a backslash; parts are separated by /"
    if path.startswith("/"):
        return "it begins with /"
    return next(filter(None, map(_part_refusal, path.split("/"))), "")


def _part_refusal(part: str) -> str:
    if not part:
        return "it has an empty part (a double or a last /)"
    if part in (".", ".."):
        return f'it has the part "{part}"'
    if part.casefold() == HIDDEN:
        return f"the part {HIDDEN} is the bucket's own"
    if len(part.encode()) > PART_BYTES:
        return f"a part of it is longer than {PART_BYTES} bytes"
    return ""
