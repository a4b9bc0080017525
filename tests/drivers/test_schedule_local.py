"""`schedule` on the local stack: when it ticks, what becomes of ticks that nobody saw, and that each time has one."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from buildflow.errors import ResourceFailed
from buildflow.ir.graph import Resource, ResourceGraph
from buildflow.primitives.base import Action, Element, Source
from buildflow.primitives.schedule import ScheduleSpec
from buildflow.primitives.schedule.clock import ScheduleClock
from buildflow.primitives.schedule.local import DRIVER
from buildflow.primitives.schedule.times import Cron, Interval, times_of
from buildflow.providers.local import LocalSession
from buildflow.types import Tick

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
BERLIN = "Europe/Berlin"


def schedule(key: str = "nightly", **fields: Any) -> Resource:
    spec = ScheduleSpec(type="schedule", **fields)
    name = DRIVER.name(key, spec, "shop", "local")
    return Resource(
        key=key,
        type="schedule",
        provider="local",
        name=name,
        id=f"redis://{name}",
        label=DRIVER.label,
        spec=spec.model_dump(mode="json"),
    )


@pytest.fixture
def session(tmp_path: Path) -> Iterator[LocalSession]:
    session = LocalSession(ResourceGraph(project="shop", stack="local"), tmp_path, tmp_path / "local", "shop-local")
    yield session
    session.close(wait=5)


class Clock:
    """A schedule's clock at a time that the test sets."""

    def __init__(self, session: LocalSession, now: datetime = NOON, **fields: Any) -> None:
        self.session = session
        self.resource = schedule(**fields)
        self.now = now
        self.clock = self.another()
        self.clock.begin()

    def another(self) -> ScheduleClock:
        """What the next leader has: it knows what Redis knows."""
        return ScheduleClock(self.resource, self.session, now=lambda: self.now)

    def at(self, now: datetime) -> list[datetime]:
        """The ticks that come when it is `now`."""
        self.now = now
        return ticks_of(self.clock, self.source)

    @property
    def source(self) -> Source:
        return DRIVER.source(self.resource, self.session)

    def elements(self) -> list[Element]:
        return list(self.source.lease(10_000))


def ticks_of(clock: ScheduleClock, source: Source) -> list[datetime]:
    while clock.step() == 0:
        continue
    found = list(source.lease(10_000))
    source.acknowledge(found)
    return [datetime.fromisoformat(json.loads(element.body)["time"]) for element in found]


def minutes(*numbers: int) -> list[datetime]:
    return [NOON + timedelta(minutes=number) for number in numbers]


def after(text: str, start: datetime, number: int, zone: str = BERLIN) -> list[str]:
    """The next times as the zone's clock shows them."""
    times, found = Cron(text, zone), []
    for _ in range(number):
        start = times.following(start)
        found.append(start.astimezone(ZoneInfo(zone)).strftime("%m-%d %H:%M %Z"))
    return found


# -- times -----------------------------------------------------------------------------------------------------

SPRING = datetime(2026, 3, 28, 23, 10, tzinfo=UTC)  # 00:10 in Berlin; at 02:00 it is 03:00
AUTUMN = datetime(2026, 10, 24, 22, 10, tzinfo=UTC)  # 00:10 in Berlin; at 03:00 it is 02:00


@pytest.mark.parametrize(
    ("text", "start", "times"),
    [
        ("30 2 * * *", SPRING, ["03-29 03:30 CEST", "03-30 02:30 CEST", "03-31 02:30 CEST"]),
        ("15,45 2 * * *", SPRING, ["03-29 03:15 CEST", "03-29 03:45 CEST", "03-30 02:15 CEST"]),
        ("0 2,3 * * *", SPRING, ["03-29 03:00 CEST", "03-30 02:00 CEST", "03-30 03:00 CEST"]),
        ("30 2 * * *", AUTUMN, ["10-25 02:30 CEST", "10-26 02:30 CET"]),
        ("0 2,3 * * *", AUTUMN, ["10-25 02:00 CEST", "10-25 03:00 CET", "10-26 02:00 CET"]),
        ("0 * * * *", SPRING, ["03-29 01:00 CET", "03-29 03:00 CEST", "03-29 04:00 CEST"]),
        (
            "0 * * * *",
            AUTUMN,
            ["10-25 01:00 CEST", "10-25 02:00 CEST", "10-25 02:00 CET", "10-25 03:00 CET", "10-25 04:00 CET"],
        ),
        ("45 */2 * * *", AUTUMN, ["10-25 00:45 CEST", "10-25 02:45 CEST", "10-25 02:45 CET", "10-25 04:45 CET"]),
    ],
)
def test_a_change_of_the_clock_neither_drops_nor_doubles_a_tick(text: str, start: datetime, times: list[str]) -> None:
    assert after(text, start, len(times)) == times


@pytest.mark.parametrize("start", [SPRING, AUTUMN])
def test_every_hour_is_an_hour_apart_over_a_change_of_the_clock(start: datetime) -> None:
    times = Cron("0 * * * *", BERLIN)
    found = list(itertools.accumulate(range(48), lambda last, _: times.following(last), initial=start))[1:]
    assert {later - earlier for earlier, later in itertools.pairwise(found)} == {timedelta(hours=1)}


def test_a_time_of_the_second_of_two_equal_hours_still_comes() -> None:
    """Asked between two readings of 02:15, 03:00 is ahead, not a day away."""
    between = datetime(2026, 10, 25, 1, 15, tzinfo=UTC)
    assert after("0 3 * * *", between, 1) == ["10-25 03:00 CET"]
    assert after("30 2 * * *", between, 1) == ["10-26 02:30 CET"]


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("0 6 * * mon-fri", ["07-02 06:00", "07-03 06:00", "07-06 06:00"]),
        ("0 6 * * 5-7", ["07-03 06:00", "07-04 06:00", "07-05 06:00", "07-10 06:00"]),
        ("0 6 * * 7", ["07-05 06:00", "07-12 06:00"]),
        ("5/20 9 * * *", ["07-02 09:05", "07-02 09:25", "07-02 09:45", "07-03 09:05"]),
        ("0 0 1 JAN,aug *", ["08-01 00:00", "01-01 00:00", "08-01 00:00"]),
        ("0 0 29 2 *", ["02-29 00:00"]),
        ("0 0 13 * fri", ["07-03 00:00", "07-10 00:00", "07-13 00:00"]),  # either of them, as cron has it
        ("0 0 31 2 mon", ["02-01 00:00", "02-08 00:00"]),
    ],
)
def test_fields_mean_what_cron_means_by_them(text: str, times: list[str]) -> None:
    assert [found.removesuffix(" UTC") for found in after(text, NOON, len(times), "UTC")] == times


def test_a_day_that_no_month_has_never_comes() -> None:
    assert [Cron(text).can_happen() for text in ("0 0 31 2,4 *", "0 0 29 2 *", "0 0 31 * *")] == [False, True, True]


@pytest.mark.parametrize("text", ["* * * * *", "*/7 3-5 * * *", "0 12 1 * *", "0 0 29 2 *"])
def test_the_latest_time_is_found_without_counting_all_of_them(text: str) -> None:
    times, long_ago = Cron(text, BERLIN), datetime(1996, 1, 1, tzinfo=UTC)
    started = time.perf_counter()
    found = times.latest(long_ago, NOON)
    assert time.perf_counter() - started < 1
    assert found
    assert found <= NOON < times.following(found)
    assert times.latest(found, NOON) is None
    assert times.latest(NOON, NOON - timedelta(days=1)) is None


def test_an_interval_counts_from_its_last_time() -> None:
    times = times_of({"every": 90.0})
    assert isinstance(times, Interval)
    assert times.following(NOON) == NOON + timedelta(seconds=90)
    assert times.latest(NOON, NOON + timedelta(seconds=89)) is None
    assert times.latest(NOON, NOON + timedelta(seconds=280)) == NOON + timedelta(seconds=270)


# -- ticking ---------------------------------------------------------------------------------------------------


def test_a_tick_is_made_when_it_is_due_and_says_when_that_was(session: LocalSession) -> None:
    clock = Clock(session, cron="0 6 * * *", time_zone=BERLIN)
    assert clock.clock.step() == 16 * 3600
    clock.now = datetime(2026, 7, 2, 4, 0, 0, 120_000, tzinfo=UTC)
    assert clock.clock.step() == 0
    [element] = clock.elements()
    assert element.id == "shop-local-nightly@2026-07-02T04:00:00+00:00"
    due = datetime(2026, 7, 2, 4, tzinfo=UTC)
    assert DRIVER.decode(element.body, clock.resource, session) == Tick(time=due, schedule="nightly")
    assert clock.clock.step() == pytest.approx(24 * 3600 - 0.12)


def test_an_interval_does_not_drift(session: LocalSession) -> None:
    clock = Clock(session, every="60s")
    assert clock.at(NOON) == []
    assert clock.at(NOON + timedelta(seconds=61.5)) == minutes(1)
    assert clock.at(NOON + timedelta(seconds=123.9)) == minutes(2)
    clock.clock = clock.another()
    assert clock.at(NOON + timedelta(seconds=200)) == minutes(3), "late by 20 s, and the times stay the same"
    assert clock.at(NOON + timedelta(seconds=240)) == minutes(4)


@pytest.mark.parametrize(
    ("missed", "comes"), [("skip", minutes(4)), ("last", minutes(3, 4)), ("all", minutes(1, 2, 3, 4))]
)
@pytest.mark.parametrize("times", [{"every": "1m"}, {"cron": "* * * * *"}])
def test_what_becomes_of_ticks_that_came_while_nothing_ran(
    session: LocalSession, missed: str, comes: list[datetime], times: dict[str, Any]
) -> None:
    clock = Clock(session, missed=missed, **times)
    clock.clock = clock.another()
    found = clock.at(NOON + timedelta(minutes=3, seconds=30))
    assert found + clock.at(NOON + timedelta(minutes=4)) == comes


@pytest.mark.parametrize("missed", ["skip", "last", "all"])
def test_a_tick_that_falls_into_a_change_of_the_leader_is_not_missed(session: LocalSession, missed: str) -> None:
    clock = Clock(session, every="1m", missed=missed)
    clock.clock = clock.another()
    assert clock.at(NOON + timedelta(minutes=1, seconds=4.5)) == minutes(1)
    assert clock.at(NOON + timedelta(minutes=2)) == minutes(2)


def test_a_long_absence_is_made_good_in_groups(session: LocalSession) -> None:
    clock = Clock(session, every="1s", missed="all")
    clock.now = NOON + timedelta(seconds=2500)
    started = time.perf_counter()
    steps = list(iter(clock.clock.step, 1.0))
    print(f"\n2,500 ticks in {time.perf_counter() - started:.2f} s")
    assert steps == [0.0] * 3
    found = clock.elements()
    assert [DRIVER.decode(e.body, clock.resource, session).time for e in found] == [
        NOON + timedelta(seconds=n) for n in range(1, 2501)
    ]


def test_a_clock_that_goes_back_makes_no_tick_twice(session: LocalSession, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock(session, every="1m")
    assert clock.at(NOON + timedelta(minutes=1)) == minutes(1)
    assert clock.at(NOON - timedelta(hours=1)) == []
    assert clock.at(NOON - timedelta(minutes=30)) == []
    assert [r.message for r in caplog.records] == [
        "the clock went back: the schedule nightly ticks again after 2026-07-01T12:01:00+00:00"
    ]
    assert clock.at(NOON + timedelta(minutes=2)) == minutes(2)


def test_two_leaders_make_one_tick(session: LocalSession) -> None:
    """Both have read the same last time, and append at once, a hundred times."""
    clock = Clock(session, every="1m", missed="all")
    leaders = [clock.another(), clock.another()]
    barrier = threading.Barrier(2, action=lambda: setattr(clock, "now", clock.now + timedelta(minutes=1)))

    def lead(leader: ScheduleClock) -> None:
        for _ in range(100):
            barrier.wait(60)
            while leader.step() == 0:
                continue

    threads = [threading.Thread(target=lead, args=(leader,)) for leader in leaders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = clock.elements()
    assert [DRIVER.decode(e.body, clock.resource, session).time for e in found] == minutes(*range(1, 101))
    assert len({element.id for element in found}) == 100


LEADER = """
import sys
from datetime import datetime, timedelta
from pathlib import Path
from buildflow.ir.graph import ResourceGraph
from buildflow.primitives.schedule.clock import ScheduleClock
from buildflow.providers.local import LocalSession
from tests.drivers.test_schedule_local import NOON, schedule

root = Path(sys.argv[1])
session = LocalSession(ResourceGraph(project="shop", stack="local"), root, root / "local", "shop-local")
now = NOON + timedelta(seconds=20_500)
clock = ScheduleClock(schedule(every="1s", missed="all"), session, now=lambda: now)
session.redis().ping()
print("begun", flush=True)
while clock.step() == 0:
    pass
print("done", flush=True)
"""


def test_leaders_killed_at_any_moment_lose_and_double_nothing(session: LocalSession, tmp_path: Path) -> None:
    clock = Clock(session, every="1s", missed="all")
    killed = 0
    for run in range(100):
        command = [sys.executable, "-c", LEADER, str(tmp_path)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["platform", "."])}
        leader = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert leader.stdout
        assert leader.stdout.readline() == "begun\n"
        time.sleep(0.02 + 0.01 * (run % 7) + 0.005 * run)  # the later the longer: a slow machine gets on, too
        leader.send_signal(signal.SIGKILL)
        if leader.communicate()[0]:
            break
        killed += 1
    found = [element.id for element in DRIVER.source(clock.resource, session).lease(30_000)]
    made = [NOON + timedelta(seconds=n) for n in range(1, 20_501)]
    assert found == [f"shop-local-nightly@{moment.isoformat()}" for moment in made]
    print(f"\n20,500 ticks by {killed} killed leaders")
    assert killed >= 2


def test_a_running_schedule_is_on_time(session: LocalSession) -> None:
    """As the watcher runs it, twice at once; prints how late it was."""
    resource = schedule(every="1s")
    DRIVER.create(resource, session)
    stop = threading.Event()
    threads = [threading.Thread(target=DRIVER.watch, args=(resource, session, stop)) for _ in range(2)]
    for thread in threads:
        thread.start()
    source, lateness, due = DRIVER.source(resource, session), [], []
    while len(due) < 5:
        source.wait(2)
        for element in source.lease(10):
            due.append(DRIVER.decode(element.body, resource, session).time)
            assert element.sent_at
            lateness.append((element.sent_at - due[-1]).total_seconds())
    stop.set()
    for thread in threads:
        thread.join(5)
    assert [later - earlier for earlier, later in itertools.pairwise(due)] == [timedelta(seconds=1)] * (len(due) - 1)
    print(f"\n{len(due)} ticks, late by at most {max(lateness) * 1000:.0f} ms")
    assert max(lateness) < 1


def test_one_that_another_stack_manages_ticks_there_alone(session: LocalSession) -> None:
    clock = Clock(session, NOON - timedelta(days=1), every="1h", missed="all")
    stop = threading.Event()
    foreign = clock.resource.model_copy(update={"managed": False})
    watch = threading.Thread(target=DRIVER.watch, args=(foreign, session, stop))
    watch.start()
    assert not clock.source.lease(1)
    clock.source.wait(0.5)
    stop.set()
    watch.join(5)
    assert clock.source.counts().backlog == 0


def test_it_rides_out_the_death_of_redis(session: LocalSession) -> None:
    resource = schedule(every="1s", missed="all")
    DRIVER.create(resource, session)
    stop = threading.Event()
    watch = threading.Thread(target=DRIVER.watch, args=(resource, session, stop))
    watch.start()
    os.kill(session.redis().info("server")["process_id"], signal.SIGKILL)
    source = DRIVER.source(resource, session)
    found: list[datetime] = []
    while len(found) < 3:
        source.wait(2)
        found += [DRIVER.decode(element.body, resource, session).time for element in source.lease(10)]
    stop.set()
    watch.join(5)
    assert {later - earlier for earlier, later in itertools.pairwise(found)} == {timedelta(seconds=1)}


# -- provision -------------------------------------------------------------------------------------------------


def test_it_is_created_found_and_deleted(session: LocalSession) -> None:
    resource = schedule(every="1h")
    assert resource.name == "shop-local-nightly"
    assert DRIVER.identify(resource, None) == "redis://shop-local-nightly"
    assert DRIVER.check_name("a b") == "a schedule's name has neither blanks nor control characters"
    assert not DRIVER.exists(resource, session)
    assert DRIVER.create(resource, session) == {"name": "shop-local-nightly"}
    began = session.redis().get("shop-local-nightly:last")
    DRIVER.create(resource, session)
    assert session.redis().get("shop-local-nightly:last") == began, "what is there already is adopted"
    assert DRIVER.exists(resource, session)
    DRIVER.delete(resource, session)
    assert not DRIVER.exists(resource, session)
    assert session.redis().keys("shop-local-nightly*") == []


def test_its_content_is_the_ticks_that_nobody_handled(session: LocalSession) -> None:
    clock = Clock(session, every="1m", missed="all")
    assert DRIVER.content(clock.resource, session) == ""
    clock.now = minutes(1)[0]
    clock.clock.step()
    assert DRIVER.content(clock.resource, session) == "1 tick"
    clock.now = minutes(3)[0]
    clock.clock.step()
    clock.source.lease(1)
    assert DRIVER.content(clock.resource, session) == "3 ticks"


def test_other_times_count_from_the_change(session: LocalSession) -> None:
    clock = Clock(session, every="1h", missed="all")
    clock.now = NOON + timedelta(hours=1)
    clock.clock.step()
    new = schedule(cron="* * * * *", missed="all")
    change = DRIVER.compare(clock.resource, new, session)
    assert (change.action, change.fields, change.loses_data) == (
        Action.UPDATE,
        ("every: 1h -> (none)", "cron: (none) -> * * * * *"),
        "",
    )
    before = datetime.now(UTC)
    DRIVER.update(clock.resource, new, session)
    assert before <= ScheduleClock(new, session).begin() <= datetime.now(UTC)
    assert DRIVER.content(new, session) == "1 tick", "those that wait are kept"


def test_what_is_no_other_time_changes_nothing_of_them(session: LocalSession) -> None:
    clock = Clock(session, every="1h")
    new = schedule(every="60m", missed="all", lease="2m", name="hourly")
    assert DRIVER.compare(clock.resource, new, session).fields == (
        "name: shop-local-nightly -> hourly",
        "missed: last -> all",
        "lease: 30s -> 2m",
    )
    clock.now = NOON + timedelta(hours=1)
    clock.clock.step()
    assert DRIVER.update(clock.resource, new, session) == {"name": "hourly"}
    assert not session.redis().keys("shop-local-nightly*")
    assert ScheduleClock(new, session).begin() == NOON + timedelta(hours=1)
    assert DRIVER.content(new, session) == "1 tick"
    assert DRIVER.source(new, session).lease_seconds == 120
    assert DRIVER.compare(new, new, session).action is Action.NONE
    DRIVER.create(clock.resource, session)
    with pytest.raises(ResourceFailed, match='"nightly" cannot be renamed to hourly: Redis holds that key already'):
        DRIVER.update(clock.resource, new, session)


# -- connect ---------------------------------------------------------------------------------------------------


def test_the_source_has_all_that_is_asked_of_it(session: LocalSession) -> None:
    source = DRIVER.source(schedule(every="1h"), session)
    asked = {*vars(Source), *getattr(Source, "__annotations__", {})}
    assert [name for name in asked if not name.startswith("_") and not hasattr(source, name)] == []


@pytest.mark.parametrize(
    ("body", "tick"),
    [
        (b'{"time": "2026-07-01T14:00:00+02:00"}', Tick(NOON, "nightly")),
        (b'{"time": "2026-07-01T12:00:00", "schedule": "other"}', Tick(NOON, "other")),
    ],
)
def test_a_tick_by_hand_names_its_time(session: LocalSession, body: bytes, tick: Tick) -> None:
    assert DRIVER.decode(body, schedule(every="1h"), session) == tick


def test_a_tick_by_hand_without_a_time_is_due_now(session: LocalSession) -> None:
    before = datetime.now(UTC)
    assert before <= DRIVER.decode(b"{}", schedule(every="1h"), session).time <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"now", "a tick is JSON"),
        (b"[]", 'a tick is a mapping, such as {"time": "2026-01-02T06:00:00Z"} or {}'),
        (b'{"time": "noon"}', "a tick's time is an ISO 8601 text, not 'noon'"),
        (b'{"time": 5}', "a tick's time is an ISO 8601 text, not 5"),
    ],
)
def test_what_is_no_tick_is_said_in_words(session: LocalSession, body: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("(", r"\(").replace("{", r"\{")):
        DRIVER.decode(body, schedule(every="1h"), session)
