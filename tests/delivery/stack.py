"""A project that runs, stops and runs again, and what is at its sources and sinks meanwhile."""

import contextlib
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from buildflow.ir.runtime import RuntimePlan
from buildflow.runtime.connections import Connections
from buildflow.runtime.dead_letters import open_dead_letters
from buildflow.types import DeadLetter
from tests.harness import PATIENCE, Running


class Stack:
    """One project's folder and its run."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.environment = environment
        self.app = Running(folder, **environment)

    def ready(self) -> "Stack":
        self.app.ready()
        return self

    def stop(self) -> None:
        """Everything, in order."""
        self.app.stop()
        assert self.app._all() == []
        self.app.end()

    def start(self) -> None:
        self.app = Running(self.folder, **self.environment).ready()

    def end(self) -> None:
        self.app.end()

    @property
    def plan(self) -> RuntimePlan:
        return RuntimePlan.model_validate_json((self.folder / ".buildflow/local/plan.json").read_bytes())

    @contextlib.contextmanager
    def opened(self) -> Iterator[Connections]:
        """The stack's own ways to its primitives, in this process. While they are open the servers stay up."""
        connections = Connections(self.plan, self.folder)
        try:
            yield connections
        finally:
            connections.close()

    def left(self, *sources: str) -> int:
        """How many elements wait or are in flight."""
        with self.opened() as connections:
            opened = [connections.source(key) for key in sources]
            return sum(sum(source.counts()) for source in opened)

    def wait_until_drained(self, *sources: str, stalled: float = PATIENCE) -> None:
        """Until nothing is left, however slow the machine; an AssertionError once `stalled` seconds brought nothing."""
        fewest, since = math.inf, time.monotonic()
        while left := self.left(*sources) or self.left(*sources):  # one that moves meanwhile may be in neither count
            if left < fewest:
                fewest, since = left, time.monotonic()
            words = f"{left} left in {', '.join(sources)}, no less for {stalled:g} s; log:\n{self.app.text}"
            assert time.monotonic() - since < stalled, words
            time.sleep(0.05)

    def dead(self, consumer: str) -> list[DeadLetter]:
        with self.opened() as connections:
            return open_dead_letters(self.plan.consumer(consumer), connections).all()

    def rows(self, key: str, what: str = "*") -> list[dict[str, Any]]:
        """Of a table or a database."""
        resource = self.plan.resource(key)
        with self.opened() as connections:
            handle = connections.handle(key)
            name = handle.name if resource.type == "table" else resource.spec["table"]
            found: list[dict[str, Any]] = handle.query(f"SELECT {what} FROM {name}")
            return found

    def messages(self, source: str) -> list[Any]:
        """What waits in a source's stream, as JSON."""
        with self.opened() as connections:
            stream: Any = connections.source(source)
            return [json.loads(fields[b"body"]) for _, fields in stream.redis().xrange(stream.key)]
