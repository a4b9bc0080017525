"""When a schedule ticks: the moments of an interval, or those of a cron expression on the clock of a time zone.

Celery's crontab finds the next time of day; it is asked about clocks that nobody sets, because across a change
of daylight saving time it forgets an hour (celery 5.7: in autumn `0 * * * *` ticks at 02:00 CEST and next at 03:00
CET, two hours later). What such a change means is decided here, as cron(8) does.
"""

import re
from calendar import monthrange
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Protocol
from zoneinfo import ZoneInfo


class Times(Protocol):
    """Moments, all in UTC."""

    def following(self, after: datetime) -> datetime:
        """The first one after `after`. An interval counts from there."""
        ...

    def latest(self, after: datetime, until: datetime) -> datetime | None:
        """The last one after `after` that is not after `until`, however many there are; None when there is none."""
        ...


def times_of(spec: Mapping[str, Any]) -> Times:
    """The times that a schedule's spec declares."""
    return Cron(spec["cron"], spec.get("time_zone", "UTC")) if spec.get("cron") else Interval(spec["every"])


class Interval:
    """One every so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._step = timedelta(seconds=seconds)

    def following(self, after: datetime) -> datetime:
        return after + self._step

    def latest(self, after: datetime, until: datetime) -> datetime | None:
        steps = (until - after) // self._step
        return after + steps * self._step if steps > 0 else None


_LONGEST_CHANGE = timedelta(hours=3)
"""Of a clock, by daylight saving time."""

_LEAP_YEAR = 2000

_LOOKS_BACK = tuple(timedelta(minutes=m) for m in (1, 60, 24 * 60, 31 * 24 * 60, 366 * 24 * 60))


class Cron:
    """A cron expression. When the clock is put forward or back, an expression of certain hours happens once: what
    falls into the hour that is left out comes as much later, of the hour that comes twice the first counts. One of
    every hour (its hour begins with `*`) happens whenever the clock shows its time: it keeps its pace.

    Days of the month and of the week, when neither begins with `*`, are alternatives. Source:
    https://man7.org/linux/man-pages/man5/crontab.5.html
    """

    def __init__(self, text: str, zone: str = "UTC") -> None:
        self._minute, self._hour, self._day, self._month, self._weekday = text.split()
        self._zone = ZoneInfo(zone)

    def following(self, after: datetime) -> datetime:
        return self._at_every_hour(after) if self._hour.startswith("*") else self._at_certain_hours(after)

    def latest(self, after: datetime, until: datetime) -> datetime | None:
        """Looks back farther and farther, so that a minute of a year ago costs no walk through the year."""
        for back in (*_LOOKS_BACK, until - after):
            found = max(self._between(max(after, until - back), until), default=None)
            if found or until - back <= after:
                return found
        return None

    def can_happen(self) -> bool:
        """False for the 31st of February."""
        return self._month == "*" or bool(self._days)

    def _between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        while (after := self.following(after)) <= until:
            yield after

    def _at_certain_hours(self, after: datetime) -> datetime:
        """Every reading of the clock counts once. Begins with the earlier reading where a change is not long ago:
        ticks of the hour that was left out may still be due."""
        offset = min(self._offset(after), self._offset(after - _LONGEST_CHANGE))
        reading = after + offset
        while True:
            reading = self._next_reading(reading)
            found = reading.replace(tzinfo=self._zone).astimezone(UTC)
            if found > after:
                return found

    def _at_every_hour(self, after: datetime) -> datetime:
        """Goes by a clock that is not changed; where the zone's was, by one that shows the time since then."""
        offset = self._offset(after)
        found = self._next_reading(after + offset) - offset
        if self._offset(found) != offset:
            offset = self._offset(found)
            found = self._next_reading(after + offset) - offset
            while self._offset(found) != offset:
                found = self._next_reading(found + offset) - offset
        return found

    def _offset(self, moment: datetime) -> timedelta:
        return moment.astimezone(self._zone).utcoffset() or timedelta()

    def _next_reading(self, reading: datetime) -> datetime:
        """The clock's next matching reading. It is given and taken as if it were UTC, which is never changed."""
        found: list[datetime] = []
        for crontab in self._crontabs:
            start, step, _ = crontab.remaining_delta(reading, tz=UTC)
            found.append(start + step)
        return min(found)

    @cached_property
    def _crontabs(self) -> list[Any]:
        return [self._crontab(day, weekday) for day, weekday in self._days]

    @cached_property
    def _days(self) -> list[tuple[str, str]]:
        """Days of the month with days of the week. Celery takes a day only when both fit, cron when either does."""
        either = not self._day.startswith("*") and not self._weekday.startswith("*")
        days = [(self._day, "*"), ("*", self._weekday)] if either else [(self._day, self._weekday)]
        longest = max(monthrange(_LEAP_YEAR, month)[1] for month in _numbers(self._month, 1, 12))
        return [(day, weekday) for day, weekday in days if min(_numbers(day, 1, 31)) <= longest]

    def _crontab(self, day: str, weekday: str) -> Any:
        from celery.schedules import crontab

        made = crontab(
            minute=_numbers(self._minute, 0, 59),
            hour=_numbers(self._hour, 0, 23),
            day_of_month=day if day == "*" else _numbers(day, 1, 31),
            month_of_year="*" if self._month == "*" else _numbers(self._month, 1, 12),
            day_of_week={number % 7 for number in _numbers(weekday, 0, 7 if "7" in weekday else 6)},
            nowfun=lambda: datetime.now(UTC),
        )
        made.tz = UTC  # else it makes a Celery app to ask
        return made


def _numbers(field: str, lowest: int, highest: int) -> set[int]:
    """What a field names. `5/10` begins at 5: Celery knows `/` behind `*` and ranges only."""
    from celery.schedules import crontab_parser

    field = re.sub(r"(^|,)(\w+)/", rf"\1\2-{highest}/", field)
    numbers: set[int] = crontab_parser(highest - lowest + 1, lowest).parse(field)
    return numbers
