"""Cron expressions in a time zone: when the next moment is, and which was the latest. Asks nobody for the time.

APScheduler's trigger reads the fields. What it does where clocks are put forward or back is not ours: a time that does
not exist comes when it would have been, one that exists twice comes once; what comes every hour comes in each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger

WORDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
}
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
REACH = timedelta(hours=3)
"""Further than this from a change of clocks nothing is special. No zone puts its clocks by more."""
SPANS = tuple(timedelta(hours=hours) for hours in (2, 72, 24 * 92, 24 * 366 * 9))
"""How far back is looked for the latest moment, one after the other: whatever comes often is found near."""
_DAY = re.compile(r"(?P<first>\*|[a-z0-9]+)(-(?P<last>[a-z0-9]+))?(/(?P<step>[0-9]+))?")


@dataclass(frozen=True, slots=True)
class Cron:
    """An expression of five fields, and the zone whose clocks it means. Raises `ValueError` if it cannot be read."""

    text: str
    zone: ZoneInfo

    def __post_init__(self) -> None:
        _trigger(self.text)

    def after(self, moment: datetime) -> datetime | None:
        """The first moment after this one, in UTC; None if there will be none."""
        local = moment.astimezone(self.zone)
        calm = (moment - REACH).astimezone(self.zone).utcoffset() == (moment + REACH).astimezone(self.zone).utcoffset()
        wall = local.replace(tzinfo=None) - (timedelta(0) if calm else REACH)
        found: datetime | None = None
        until: datetime | None = None
        for reading in _readings(self.text, wall):
            if until is not None and reading > until:
                break
            for instant in self._instants(reading):
                if instant > moment and (found is None or instant < found):
                    found = instant
            if found is not None:
                if calm:
                    break
                until = until or reading + REACH
        return found

    def latest(self, after: datetime, until: datetime) -> datetime | None:
        """The last moment in a stretch of time that begins behind `after` and includes `until`; None without any."""
        for span in SPANS:
            begin = max(after, until - span)
            found = None
            moment = self.after(begin)
            while moment is not None and moment <= until:
                found, moment = moment, self.after(moment)
            if found is not None or begin == after:
                return found
        return None

    def _instants(self, reading: datetime) -> list[datetime]:
        """When the zone's clocks read this."""
        first, second = (reading.replace(tzinfo=self.zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        if first.astimezone(self.zone).replace(tzinfo=None) != reading:
            return [] if _hourly(self.text) else [first]
        return sorted({first, second}) if _hourly(self.text) else [first]


def _fields(text: str) -> list[str]:
    fields = WORDS.get(text.strip().lower(), text).split()
    if len(fields) != 5:
        raise ValueError(f"has {len(fields)} fields; five are needed: minute, hour, day, month, day of the week")
    if fields[2] != "*" and fields[4] != "*":
        raise ValueError("names a day of the month and a day of the week; only one of them can be")
    return fields


def _hourly(text: str) -> bool:
    return _fields(text)[1].startswith("*")


@lru_cache(maxsize=1024)
def _trigger(text: str) -> Any:
    minute, hour, day, month, weekday = _fields(text)
    try:
        return CronTrigger(
            minute=minute, hour=hour, day=day, month=month, day_of_week=_weekdays(weekday), second="0", timezone=UTC
        )
    except ValueError as error:
        raise ValueError(f"cannot be read as a cron expression ({error})") from error


def _weekdays(text: str) -> str:
    """Days by name: APScheduler counts from Monday, everybody else's cron from Sunday."""
    if text == "*":
        return text
    found: list[str] = []
    for part in text.lower().split(","):
        match = _DAY.fullmatch(part)
        if match is None:
            raise ValueError(f'"{part}" is no day of the week')
        every = match["first"] == "*"
        first = 0 if every else _day(match["first"])
        last = 6 if every or (match["step"] and not match["last"]) else _day(match["last"] or match["first"])
        if last < first:
            last += 7
        found += [DAYS[number % 7] for number in range(first, last + 1, max(1, int(match["step"] or 1)))]
    return ",".join(dict.fromkeys(found))


def _day(text: str) -> int:
    if text.isdigit() and int(text) <= 7:
        return int(text)
    if text[:3] in DAYS and not text.isdigit():
        return DAYS.index(text[:3])
    raise ValueError(f'"{text}" is no day of the week')


def _readings(text: str, wall: datetime) -> Iterator[datetime]:
    """What clocks read when it is time, after they read `wall`."""
    trigger = _trigger(text)
    moment: datetime | None = wall.replace(tzinfo=UTC)
    while moment is not None:
        moment = trigger.get_next_fire_time(None, moment + timedelta(microseconds=1))
        if moment is not None:
            yield moment.replace(tzinfo=None)
