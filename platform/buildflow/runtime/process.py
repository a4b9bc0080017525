"""What every process of a stack does: read its plan, log, say how it is, tell its supervisor."""

import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from buildflow import validation
from buildflow.errors import BuildflowError
from buildflow.ir.runtime import RuntimePlan
from buildflow.providers.secret_mask import masked
from buildflow.runtime.connections import Connections

BEAT = 1.0
"""Seconds between heartbeats; one is missed after five of them."""


def read_plan(path: Path) -> RuntimePlan:
    """The plan in a file, or on stdin for `-`."""
    return RuntimePlan.model_validate_json(sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes())


class _Format(logging.Formatter):
    """`12:30:05 worker    WARNING text`, the level only where it is more than a note, secrets starred."""

    def __init__(self, part: str, colour: bool) -> None:
        super().__init__()
        self.part = f"\x1b[36m{part:<10}\x1b[0m" if colour else f"{part:<10}"
        self.colour = colour

    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno <= logging.INFO else f"{record.levelname} "
        if self.colour and level:
            level = f"\x1b[{'33' if record.levelno == logging.WARNING else '31'}m{level}\x1b[0m"
        text = f"{time.strftime('%H:%M:%S', time.localtime(record.created))} {self.part} {level}{record.getMessage()}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return masked(text)


_NOISY = (
    *("celery", "kombu", "amqp", "asyncio", "watchfiles", "uvicorn", "multipart", "python_multipart"),
    *("boto3", "botocore", "urllib3"),
)
"""Libraries whose warnings alone are shown."""


def set_up_logging(part: str, level: str) -> None:
    """All of a process's logs to stderr, named after its part."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Format(part, sys.stderr.isatty() and "NO_COLOR" not in os.environ))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level)))
    sys.excepthook = _log_failure
    threading.excepthook = lambda failed: _log_failure(failed.exc_type, failed.exc_value, failed.exc_traceback)


def _log_failure(kind: type[BaseException], failure: BaseException | None, where: TracebackType | None) -> None:
    """What nobody caught, as Python tells it, but by way of the log: its text may hold a secret."""
    if not issubclass(kind, KeyboardInterrupt | SystemExit):
        found = failure if failure is not None else kind()
        logging.getLogger("buildflow").critical("a failure that nobody caught", exc_info=(kind, found, where))


class Notify:
    """Tells the supervisor how this process is, as lines of JSON on an inherited descriptor."""

    def __init__(self, fd: int | None) -> None:
        self.fd = fd
        self.heartbeat: Heartbeat | None = None

    def __call__(self, state: str, error: str = "") -> None:
        if self.heartbeat is not None:
            self.heartbeat.soon()
        if self.fd is None:
            return
        try:
            os.write(self.fd, json.dumps({"state": state, "error": masked(error)[:500]}).encode() + b"\n")
        except BrokenPipeError:
            self.fd = None  # started alone, or its supervisor is gone


class Heartbeat:
    """Keeps this process's entry in the stack's Redis, which `status` reads; it lapses when the process dies."""

    def __init__(self, kind: str, connections: Connections, describe: Callable[[], dict[str, Any]]) -> None:
        self.kind = kind
        self.connections = connections
        self.describe = describe
        self.key = f"{connections.namespace}:process:{kind}:{socket.gethostname()}:{os.getpid()}"
        self.since = time.time()
        self._heard = self._told = False
        self._stop = threading.Event()
        self._soon = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> "Heartbeat":
        self._thread.start()
        return self

    def beat(self) -> None:
        entry = {
            "kind": self.kind,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": self.since,
            **self.describe(),
        }
        self.connections.state().set(self.key, json.dumps(entry), ex=int(BEAT * 5))

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.beat()
                self._heard = True
            except Exception as exc:
                if self._heard or not self._told:
                    logging.getLogger("buildflow").warning("no heartbeat: %s", exc)
                self._heard, self._told = False, True
            self._soon.wait(BEAT)
            self._soon.clear()

    def soon(self) -> None:
        """Beat now: something has changed that `status` should tell."""
        self._soon.set()

    def stop(self) -> None:
        """Take the entry away. Where nobody hears the heart it lapses by itself: an end does not wait for that."""
        self._stop.set()
        self._soon.set()
        self._thread.join(timeout=1)
        if self._thread.is_alive() or not self._heard:
            return
        try:
            self.connections.state().delete(self.key)
        except Exception as exc:
            logging.getLogger("buildflow").debug("heartbeat not removed: %s", exc)


def in_words(exc: BaseException) -> str:
    """A failure as one line for `status` and the log, secrets starred: they leave this process by way of others,
    which do not know them."""
    if isinstance(exc, BuildflowError):
        return masked(f"{exc}" + (f" ({exc.hint})" if exc.hint else ""))
    return masked(f"{type(exc).__name__}: {validation.in_words(exc)}")
