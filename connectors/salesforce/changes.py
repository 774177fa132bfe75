"""A place in the feed of changed records that can be kept, and from which nothing is skipped.

Rows become visible when their transaction ends, not in the order of their times. `latestDateCovered` of getUpdated
says up to when nothing is missing any more: it is asked before a walk, and the next walk begins there, less an
overlap. Within a walk each page asks anew for what comes after the last row, by time and id.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from connectors.salesforce.values import Row, quoted, stamp
from crmsync.connecting import feed
from crmsync.connecting.values import moment_of
from crmsync.errors import Retry

MODIFIED = "SystemModstamp"
ORDER = f"{MODIFIED}, Id"
EVERY = timedelta(minutes=5)
"""Salesforce advises against asking getUpdated more often."""


@dataclass(frozen=True, slots=True)
class Place(feed.Place):
    """Times are Salesforce's, in whole seconds, written as in a query; "" is before all times.

    `floor`: everything before it was handed out. `at` and `id` name the last row of a walk that goes on. `top` is the
    latest change seen, `covered` up to when nothing was missing at `asked`.
    """

    floor: str = ""
    at: str = ""
    id: str = ""
    top: str = ""
    covered: str = ""
    asked: str = ""

    @classmethod
    def begin(cls, since: datetime | None) -> Place:
        """The oldest record, or the first change at or after an instant."""
        return cls(floor="" if since is None else stamp(since))

    def is_sound(self) -> bool:
        """See the base."""
        times = (self.floor, self.at, self.top, self.covered, self.asked)
        sound = all(time == "" or moment_of(time) for time in times)
        return sound and re.fullmatch(r"[A-Za-z0-9]*", self.id) is not None

    def is_due(self, now: datetime) -> bool:
        """Whether a walk begins, and what is covered should be asked before it."""
        asked = moment_of(self.asked)
        return not self.at and (asked is None or not timedelta(0) <= now - asked < EVERY)

    def covering(self, covered: datetime | None, now: datetime) -> Place:
        """The same, with what getUpdated said."""
        return replace(self, asked=stamp(now), covered=stamp(covered) if covered else "")

    def conditions(self) -> Sequence[str]:
        """What the next page asks for."""
        if self.at:
            return [f"({MODIFIED} > {self.at} OR ({MODIFIED} = {self.at} AND Id > {quoted(self.id)}))"]
        return [f"{MODIFIED} >= {self.floor}"] if self.floor else []

    def after(self, page: Sequence[Row], overlap: timedelta, *, more: bool) -> Place:
        """Where to go from a page."""
        times = [_time(row) for row in page]
        if times != sorted(times) or (times and times[0] < self.at):
            raise Retry("Salesforce gave a bad response: a query that is not in order")
        top = max([self.top, *times])
        if more:
            return replace(self, at=times[-1], id=str(page[-1]["Id"]), top=top)
        safe = moment_of(self.covered or top)
        floor = max(self.floor, stamp(safe - overlap)) if safe else self.floor
        return replace(self, floor=floor, at="", id="", top=top)


def _time(row: Row) -> str:
    moment = moment_of(row.get(MODIFIED))
    if moment is None:
        raise Retry("Salesforce gave a bad response: a record without a time")
    return stamp(moment)
