"""What `package.module:name` names, imported; where that fails, the line of the user's own code that is at fault.

    python -m buildflow.loading REFERENCE...

imports them for whoever wants to know beforehand whether that works, and prints the failures as JSON.
"""

import importlib
import json
import os
import sys
import sysconfig
import traceback
from pathlib import Path
from typing import Any

from buildflow.errors import HandlerRejected
from buildflow.validation import in_words

_NOT_THEIRS = (
    *(os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    os.path.join(os.path.dirname(os.path.abspath(__file__)), ""),
)
"""Folders of Python itself, of what is installed, and of the platform."""
_INSTALLED = {"site-packages", "dist-packages"}


def load(reference: str) -> Any:
    """Something that can be called. Raises `HandlerRejected`, in words."""
    found = named(reference)
    if not callable(found):
        raise HandlerRejected(f"{reference} is no function")
    return found


def named(reference: str) -> Any:
    """Whatever bears the name. Raises `HandlerRejected`, in words."""
    module, _, attribute = reference.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except (Exception, SystemExit) as exc:
        raise HandlerRejected(_failed(reference, exc), hint=_cure(exc, module)) from exc
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise HandlerRejected(f'module "{module}" has no "{attribute}"')
        found = getattr(found, part)
    return found


def _failed(reference: str, exc: BaseException) -> str:
    """One sentence: what, where, why."""
    place = _place(exc)
    why = exc.msg if isinstance(exc, SyntaxError) else in_words(exc).strip().split("\n", 1)[0]
    if not isinstance(exc, ImportError | SyntaxError):
        why = f"{type(exc).__name__}: {why}" if why else type(exc).__name__
    return f"{reference} cannot be imported: {place}{': ' if place else ''}{why}"


def _place(exc: BaseException) -> str:
    """`file:line` of the innermost of the user's own lines that led to it, "" where none did."""
    if isinstance(exc, SyntaxError) and exc.filename:
        return f"{_shown(exc.filename)}:{exc.lineno}"
    frames = [f for f in traceback.extract_tb(exc.__traceback__) if _is_theirs(f.filename)]
    return f"{_shown(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""


def _is_theirs(file: str) -> bool:
    return os.path.isabs(file) and not file.startswith(_NOT_THEIRS) and _INSTALLED.isdisjoint(Path(file).parts)


def _shown(file: str) -> str:
    return file.removeprefix(os.path.join(os.getcwd(), ""))


def _cure(exc: BaseException, module: str) -> str:
    missing = exc.name if isinstance(exc, ModuleNotFoundError) else None
    return f"pip install {missing.partition('.')[0]}" if missing and missing != module else ""


def failures(references: list[str]) -> list[dict[str, str]]:
    """Why modules cannot be imported, each told once: `error` and `hint`."""
    found = []
    for reference in {r.partition(":")[0]: r for r in reversed(references)}.values():
        try:
            named(reference)
        except HandlerRejected as exc:
            found.append({"error": str(exc), "hint": exc.hint})
    return found[::-1]


def main() -> None:
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what the modules print is no answer
    answer.write(json.dumps(failures(sys.argv[1:])))
    answer.close()


if __name__ == "__main__":
    main()
