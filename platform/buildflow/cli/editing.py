"""A payload in the user's editor: pretty JSON where it is JSON, and nothing half right comes out of it."""

import json
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from buildflow.cli.terminal import confirm, say
from buildflow.errors import BuildflowError


def edited(payload: bytes, check: Callable[[bytes], object]) -> bytes | None:
    """What the user's editor made of `payload`; None when it was left as it was, or emptied. What is no JSON though
    it was, or is refused by `check`, is edited again, or kept in a file."""
    try:
        before, is_json = _shown(payload.decode("utf-8"))
    except UnicodeDecodeError:
        words = "the payload is not UTF-8 text, so no editor can show it"
        raise BuildflowError(
            words, hint="platform dlq export gives it as base64; platform send sends another"
        ) from None
    file = _file(before, ".json" if is_json else ".txt")
    while True:
        _open_editor(file)
        after = file.read_text("utf-8", "surrogateescape")
        if after.strip() in ("", before.strip()):
            file.unlink()
            return None
        body = after.rstrip("\n").encode("utf-8", "surrogateescape")
        wrong = _wrong(body, is_json, check)
        if not wrong:
            file.unlink()
            return body
        say(wrong)
        if not confirm("Edit it again?"):
            raise BuildflowError(f"nothing was sent: {wrong}", hint=f"your text is kept in {file}")


def _shown(text: str) -> tuple[str, bool]:
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n", True
    except ValueError:
        return text, False


def _wrong(body: bytes, is_json: bool, check: Callable[[bytes], object]) -> str:
    try:
        if is_json:
            json.loads(body)
        check(body)
    except BuildflowError as exc:
        return str(exc)
    except ValueError as exc:
        return f"it is no JSON any more: {exc}"
    return ""


def _file(text: str, suffix: str) -> Path:
    """A new file that only its owner reads."""
    descriptor, name = tempfile.mkstemp(prefix="dead-letter-", suffix=suffix)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    return Path(name)


def _open_editor(file: Path) -> None:
    named = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    command = shlex.split(named) if named else [next(filter(shutil.which, ("nano", "vi")), "vi")]
    try:
        code = subprocess.run([*command, str(file)], check=False).returncode
    except OSError as exc:
        file.unlink()
        raise BuildflowError(f"the editor {command[0]} cannot be started: {exc}", hint="set EDITOR") from exc
    if code:
        file.unlink()
        raise BuildflowError(f"the editor {command[0]} ended with {code}; nothing was sent")
