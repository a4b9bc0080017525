"""How a test kills at one step of an element's way. Copied into a project, whose handlers name the handler's steps;
what lies beyond them is wrapped by `install`, a `global` dependency, in a worker's main process before it forks.

    received, handled   in the handler
    written             in the child, after the sink has committed
    acknowledging       in the main process, once all consumers have committed, before the first is acknowledged
    disordered          in the main process, once all are done: what has an odd number is acknowledged, the rest not

A step is armed by a file of its name, which holds how many consumers take part, and kills once for each of them
(acknowledging and disordered: once for all).
"""

import json
import os
import signal
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

STEPS = ("received", "handled", "written", "acknowledging")
FIRST = {"received": 6000, "handled": 6100, "written": 6200, "acknowledging": 6300, "disordered": 2000}
"""Numbers of a step's elements begin here; ten of them are its own."""
FATAL = 3
"""Which of them kills."""
COUNT = 6
"""How many of them are sent."""


def at(step: str, consumer: str, number: int) -> None:
    """Die here, the first time that the step's fatal element comes by."""
    if number == FIRST[step] + FATAL and _armed(step) and _first_time(f"{step}-{consumer}"):
        _die()


def number_of(body: bytes) -> int:
    """Of an element of any source."""
    values = json.loads(body)
    if "time" in values and "schedule" in values:
        return int(datetime.fromisoformat(values["time"]).timestamp())
    return int(values["file_path"] if "file_path" in values else values["number"])


def install() -> str:
    """Wrap what a handler does not see."""
    from buildflow.primitives.redis_stream import RedisStream
    from buildflow.runtime.sinks import Sinks

    commit, acknowledge = Sinks.commit, RedisStream.acknowledge

    def commit_and_die(sinks: Sinks, entries: Sequence[Any], *, fresh: bool = False) -> None:
        commit(sinks, entries, fresh=fresh)
        for number in (row.number for entry in entries for row in entry.rows):
            at("written", sinks.writer, number)
            if _belongs("acknowledging", number):
                Path(f"committed-{sinks.writer}").touch()

    def die_before_acknowledging(stream: RedisStream, elements: Sequence[Any]) -> None:
        step = next((step for step in ("acknowledging", "disordered") if _armed(step)), "")
        numbers = [number_of(element.body) for element in elements] if step else []
        if not any(_belongs(step, number) for number in numbers):
            acknowledge(stream, elements)
        elif step == "acknowledging":
            while len(list(Path().glob("committed-*"))) < _armed(step):
                time.sleep(0.005)
            _disarm_and_die(step)
        else:
            acknowledge(stream, [e for e, number in zip(elements, numbers, strict=True) if number % 2])
            if _count_done(stream.key, numbers) == _armed(step):
                _disarm_and_die(step)

    Sinks.commit = commit_and_die  # type: ignore[method-assign]
    RedisStream.acknowledge = die_before_acknowledging  # type: ignore[method-assign]
    return "installed"


_done: dict[str, set[int]] = {}


def _count_done(stream: str, numbers: Iterable[int]) -> int:
    """How many streams have all of their elements done."""
    _done.setdefault(stream, set()).update(numbers)
    return sum(len(done) == COUNT for done in _done.values())


def _belongs(step: str, number: int) -> bool:
    return FIRST[step] <= number < FIRST[step] + 10


def _armed(step: str) -> int:
    """How many consumers take part in the step; 0 where it is not armed."""
    try:
        return int(Path(step).read_text())
    except FileNotFoundError:
        return 0


def _first_time(mark: str) -> bool:
    try:
        Path(mark).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _disarm_and_die(step: str) -> None:
    Path(step).rename(f"{step}-everybody")
    _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
