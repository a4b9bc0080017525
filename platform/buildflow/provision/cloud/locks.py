"""Who holds a stack's state: told from what the CLI says of its lock, and from what our own commands noted.

A lock names a host and a process, which two containers can share. So each command notes which process of the CLI holds
the lock, and one is broken only where that note proves that both have ended.
"""

import contextlib
import re
import time
from datetime import datetime
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from buildflow.providers import process_identity
from buildflow.provision.state import write_whole

NOTE = "holder.json"
_LOCK = re.compile(r"created by \S+@(?P<host>\S+) \(pid (?P<pid>\d+)\)(?: at (?P<at>\S+))?")
_PRECISION = 1.0
"""Seconds: a lock's time has whole ones."""


class Holder(BaseModel):
    """The command that holds, or held, the lock, and the CLI that it runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: str
    """Of which machine, container and start: a `process_identity`."""
    pid: int
    since: float
    """When the CLI was started."""
    until: float
    """When it held the lock already."""


def note(folder: Path) -> None:
    """Write down which CLI this process runs. Call when it holds the lock."""
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # it has ended already, and holds nothing
            if any(Path(word).name == "pulumi" for word in child.cmdline()[:2]):
                since, now = child.create_time(), time.time()
                noted = Holder(command=process_identity.own(), pid=child.pid, since=since, until=now)
                write_whole(folder / NOTE, noted.model_dump_json())


def is_stale(said: str, folder: Path) -> bool:
    """Whether the one lock that the CLI tells of is the one that was noted, and its holder is proven to be gone."""
    locks = list(_LOCK.finditer(said))
    try:
        noted = Holder.model_validate_json((folder / NOTE).read_bytes())
    except (OSError, ValidationError):
        return False
    return len(locks) == 1 and _is_of(noted, locks[0]) and process_identity.is_dead(noted.command) and _is_gone(noted)


def holder(said: str) -> str:
    """Who holds the lock, as far as the CLI says it."""
    found = _LOCK.search(said)
    return f"process {found['pid']} on {found['host']} holds it" if found else "another command holds it"


def _is_of(noted: Holder, lock: re.Match[str]) -> bool:
    """Nobody else can have taken the lock in the time in which the noted one did."""
    try:
        at = datetime.fromisoformat(lock["at"] or "").timestamp()
    except ValueError:
        return False
    return int(lock["pid"]) == noted.pid and noted.since - _PRECISION <= at <= noted.until


def _is_gone(noted: Holder) -> bool:
    """Of a process that was of this machine and this container."""
    try:
        found = psutil.Process(noted.pid)
        return found.status() == psutil.STATUS_ZOMBIE or found.create_time() > noted.since + _PRECISION
    except psutil.NoSuchProcess:
        return True
