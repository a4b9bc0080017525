"""The file backend: stacks, their locks and their history below `<url>/.pulumi`, laid out as the real one does."""

import getpass
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pulumi_cli.problems import CommandFailed

SCHEME = "file://"


class FileBackend:
    """One project's stacks in one file backend."""

    def __init__(self, url: str, project: str) -> None:
        if not url:
            raise CommandFailed(
                "PULUMI_ACCESS_TOKEN must be set for login during non-interactive CLI sessions"
                " (the stand-in knows file:// backends alone)"
            )
        if not url.startswith(SCHEME):
            raise CommandFailed(f"unknown backend cloudUrl format {url!r} (the stand-in knows file:// backends alone)")
        folder = Path(url.removeprefix(SCHEME)).expanduser().resolve()
        if not folder.is_dir():
            raise CommandFailed(f"unable to open bucket {SCHEME}{folder}: stat {folder}: no such file or directory")
        self.url = f"{SCHEME}{folder}"
        self.project = project
        self._root = folder / ".pulumi"

    def stacks(self) -> list[str]:
        return sorted(path.stem for path in (self._root / "stacks" / self.project).glob("*.json"))

    def read(self, stack: str) -> dict[str, Any]:
        path = self._stack(stack)
        if not path.exists():
            raise CommandFailed(f"no stack named '{stack}' found")
        return json.loads(path.read_text())

    def changed_at(self, stack: str) -> datetime:
        return datetime.fromtimestamp(self._stack(stack).stat().st_mtime, UTC)

    def create(self, stack: str, text: str) -> None:
        if self._stack(stack).exists():
            raise CommandFailed(f"stack 'organization/{self.project}/{stack}' already exists")
        meta = self._root / "meta.yaml"
        self.write(stack, text)
        if not meta.exists():
            meta.write_text("version: 1\n")

    def write(self, stack: str, text: str) -> None:
        """Replace a stack's file, whole or not at all."""
        path = self._stack(stack)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(f".{os.getpid()}")
        beside.write_text(text)
        beside.replace(path)

    def remove(self, stack: str) -> None:
        self._stack(stack).unlink()
        for path in self._history(stack).glob("*"):
            path.unlink()

    def _stack(self, stack: str) -> Path:
        return self._root / "stacks" / self.project / f"{stack}.json"

    # Locks. One file each: the real backend writes its own and then looks whether there are others.

    @contextmanager
    def locked(self, stack: str) -> Iterator[None]:
        self._refuse_if_locked(stack, but=None)
        own = self._locks(stack) / f"{uuid.uuid4()}.json"
        own.parent.mkdir(parents=True, exist_ok=True)
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        holder = {"pid": os.getpid(), "username": getpass.getuser(), "hostname": socket.gethostname(), "timestamp": now}
        own.write_text(json.dumps(holder))
        try:
            self._refuse_if_locked(stack, but=own)
            yield
        finally:
            own.unlink(missing_ok=True)

    def locks(self, stack: str) -> list[Path]:
        return sorted(self._locks(stack).glob("*.json"))

    def _locks(self, stack: str) -> Path:
        return self._root / "locks" / "organization" / self.project / stack

    def _refuse_if_locked(self, stack: str, but: Path | None) -> None:
        others = [path for path in self.locks(stack) if path != but]
        if not others:
            return
        message = (
            f"the stack is currently locked by {len(others)} lock(s). Either wait for the other process(es) to end "
            "or delete the lock file with `pulumi cancel`."
        )
        for path in others:
            holder = json.loads(path.read_text())
            message += (
                f"\n  {SCHEME}{path}: created by {holder['username']}@{holder['hostname']} "
                f"(pid {holder['pid']}) at {holder['timestamp']}"
            )
        raise CommandFailed(message)

    # History

    def add_history(self, stack: str, entry: dict[str, Any]) -> None:
        folder = self._history(stack)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{stack}-{time.time_ns()}.history.json").write_text(json.dumps(entry))

    def history(self, stack: str) -> list[dict[str, Any]]:
        """The latest first."""
        found = sorted(self._history(stack).glob("*.history.json"), reverse=True)
        return [json.loads(path.read_text()) for path in found]

    def _history(self, stack: str) -> Path:
        return self._root / "history" / self.project / stack
