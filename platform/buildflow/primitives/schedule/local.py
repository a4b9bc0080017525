"""A schedule on the local stack: the watcher's leader appends ticks to a Redis stream."""

import json
import threading
from datetime import UTC, datetime
from typing import Any

from buildflow.errors import ResourceFailed
from buildflow.ir.graph import Resource
from buildflow.primitives.base import Action, Change
from buildflow.primitives.redis_stream import RedisStream, check_key
from buildflow.primitives.schedule.clock import BESIDE, ScheduleClock
from buildflow.providers.base import LocalSession, physical_name
from buildflow.spec.units import in_words
from buildflow.types.events import Tick


class LocalScheduleDriver:
    """`schedule` on the local stack; a `LocalDriver`."""

    label = "LocalSchedule"
    outputs = ("name",)

    def name(self, key: str, spec: Any, project: str, stack: str) -> str:
        return spec.name or physical_name(project, stack, key)

    def identify(self, resource: Resource, settings: Any) -> str:
        return f"redis://{resource.name}"

    def check_name(self, name: str) -> str:
        return check_key("schedule", name)

    def create(self, resource: Resource, session: LocalSession) -> dict[str, Any]:
        """It begins now: an interval's first tick comes one interval later."""
        _stream(resource, session).ensure()
        ScheduleClock(resource, session).begin()
        return {"name": resource.name}

    def exists(self, resource: Resource, session: LocalSession) -> bool:
        return _stream(resource, session).exists()

    def compare(self, old: Resource, new: Resource, session: LocalSession) -> Change:
        """Ticks that wait are kept; other times count from now on."""
        before, after = _declared(old), _declared(new)
        fields = tuple(f"{name}: {before[name]} -> {after[name]}" for name in after if before[name] != after[name])
        return Change(Action.UPDATE if fields else Action.NONE, fields)

    def update(self, old: Resource, new: Resource, session: LocalSession) -> dict[str, Any]:
        if old.name != new.name and not _stream(old, session).rename(new.name, BESIDE):
            raise ResourceFailed(f'schedule "{new.key}" cannot be renamed to {new.name}: Redis holds that key already')
        if any(_declared(old)[name] != _declared(new)[name] for name in ("every", "cron", "time_zone")):
            ScheduleClock(new, session).restart()
        return self.create(new, session)

    def content(self, resource: Resource, session: LocalSession) -> str:
        stream = _stream(resource, session)
        count = sum(stream.counts())
        return f"{count:,} tick{'s' * (count != 1)}" if count else ""

    def delete(self, resource: Resource, session: LocalSession) -> None:
        _stream(resource, session).delete(BESIDE)

    def source(self, resource: Resource, session: LocalSession) -> RedisStream:
        return _stream(resource, session)

    def watch(self, resource: Resource, session: LocalSession, stop: threading.Event) -> None:
        """Tick until `stop`. The watcher's leader calls it. One that is not ours ticks where it is managed."""
        if resource.managed:
            ScheduleClock(resource, session).run(stop)
        stop.wait()

    def decode(self, body: bytes, resource: Resource, session: LocalSession) -> Tick:
        """The tick in an element's body. `{}` is one that is due as it is handled, so that `platform send` can make
        a tick by hand. Raises ValueError, in words."""
        try:
            tick = json.loads(body)
        except ValueError as error:
            raise ValueError(f"a tick is JSON: {error}") from error
        if not isinstance(tick, dict):
            raise ValueError('a tick is a mapping, such as {"time": "2026-01-02T06:00:00Z"} or {}')
        return Tick(time=_moment(tick.get("time")), schedule=str(tick.get("schedule") or resource.key))


DRIVER = LocalScheduleDriver()


def _moment(text: Any) -> datetime:
    if text is None:
        return datetime.now(UTC)
    try:
        time = datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise ValueError(f"a tick's time is an ISO 8601 text, not {text!r}") from error
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def _stream(resource: Resource, session: LocalSession) -> RedisStream:
    return RedisStream(session.redis, resource.name, lease_seconds=float(resource.spec.get("lease", 30.0)))


def _declared(resource: Resource) -> dict[str, str]:
    """What of a declaration makes a difference, in words."""
    spec = resource.spec
    return {
        "name": resource.name,
        "every": in_words(spec["every"]) if spec.get("every") else "(none)",
        "cron": spec.get("cron") or "(none)",
        "time_zone": spec.get("time_zone", "UTC"),
        "missed": spec.get("missed", "last"),
        "lease": in_words(spec.get("lease", 30.0)),
    }
