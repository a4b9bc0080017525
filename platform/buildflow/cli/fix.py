"""`platform check --fix`: what is safe to put right is put right in the file, and told."""

import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from buildflow.cli.terminal import say, styled
from buildflow.compiler import Compilation
from buildflow.compiler.cure import Cured, cured
from buildflow.compiler.fix import Edit, edits
from buildflow.compiler.source import shown_path
from buildflow.errors import BuildflowError
from buildflow.spec.environment import effective_environment


def fix(file: Path, result: Compilation, compile: Callable[..., Compilation]) -> Compilation:
    """Apply what is safe, say what it was, and compile what is there then. `compile` takes a path, and an environment.

    Raises BuildflowError where the file cannot be written.
    """
    if not edits(result):
        return result
    path = file.resolve()  # of a link, the file that it stands for
    _need_writable(path, shown_path(file))
    before = path.read_bytes()
    environment = effective_environment(file.parent, os.environ)
    draft = _Draft(path)
    try:
        cure = cured(before.decode(), result, lambda text: compile(draft.write(text), environment=environment))
        if cure.done:
            draft.write(cure.text)
            draft.replace(before, shown_path(file))
    finally:
        draft.close()
    _tell(cure, shown_path(file))
    return compile(file) if cure.done else result


def _need_writable(path: Path, shown: str) -> None:
    """A new file in the place of one that is write-protected would be a way around that."""
    if not os.access(path, os.W_OK) or not path.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH):
        raise BuildflowError(f"{shown} cannot be written: it is read-only", hint="nothing was changed")


class _Draft:
    """A file beside the real one, from where handlers are found alike. What was compiled is what takes its place."""

    def __init__(self, path: Path) -> None:
        self.real = path
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".draft", dir=path.parent)
        os.close(descriptor)
        self.path = Path(name)

    def write(self, text: str) -> Path:
        self.path.write_bytes(text.encode())
        return self.path

    def replace(self, before: bytes, shown: str) -> None:
        """Take the real file's place at once, with its mode and owner; never over what someone wrote meanwhile."""
        status = self.real.stat()
        self.path.chmod(stat.S_IMODE(status.st_mode))
        with suppress(PermissionError):  # it is another user's, in a folder of ours
            os.chown(self.path, status.st_uid, status.st_gid)
        with self.path.open("rb") as written:
            os.fsync(written.fileno())
        if self.real.read_bytes() != before:
            raise BuildflowError(f"{shown} was changed meanwhile", hint="nothing was changed here; try again")
        self.path.replace(self.real)

    def close(self) -> None:
        self.path.unlink(missing_ok=True)


def _tell(cure: Cured, shown: str) -> None:
    for edit in sorted(cure.done, key=lambda e: e.span):
        say(f"{styled('fixed', 'green', 'bold')} {_line(edit, shown)}")
    for edit in cure.left:
        say(f"{styled('left', 'yellow', 'bold')}  {_line(edit, shown)}: the file would be no better")
    say()


def _line(edit: Edit, shown: str) -> str:
    return f"{shown}:{edit.span.line}:{edit.span.column}  {edit.old} -> {edit.new}"
