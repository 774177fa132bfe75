"""A place in the feed of changes that can be kept, and from which nothing is skipped.

HubSpot's search pages by offset, up to 10,000 rows, over an order that moves while it is read, and shows new rows
late. So each page asks anew from the last time seen; rows of one instant, should they fill a page, go by record id;
and after the last page the walk goes back by an overlap, until that overlap has passed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from connectors.hubspot.values import Row
from crmsync.connecting.feed import Horizon
from crmsync.connecting.values import EPOCH, milliseconds, moment_of
from crmsync.errors import Retry

RECORD_ID = "hs_object_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place(Horizon):
    """Times are HubSpot's, in milliseconds since 1970.

    `floor`: the next page begins here. `tied`: within the instant `floor`, the last record id handed out.
    """

    floor: int = 0
    tied: str = ""

    @classmethod
    def since(cls, at: datetime | None) -> Place:
        """The oldest record, or the first change at or after an instant."""
        floor = 0 if at is None else max(milliseconds(at), 0)
        return cls(floor=floor, settled=floor)

    def is_sound(self) -> bool:
        """See the base."""
        own = type(self.floor) is int and re.fullmatch(r"[0-9]*", self.tied) is not None
        return own and Horizon.is_sound(self)

    def order(self, modified: str) -> str:
        """The property by which the next page is sorted. `modified` is the one with the time of the last change."""
        return RECORD_ID if self.tied else modified

    def filters(self, modified: str) -> Sequence[dict[str, Any]]:
        """What the next page asks for."""
        begin = {"propertyName": modified, "operator": "GTE", "value": str(self.floor)}
        if not self.tied:
            return [begin]
        return [
            begin,
            {"propertyName": modified, "operator": "LT", "value": str(self.floor + 1)},
            {"propertyName": RECORD_ID, "operator": "GT", "value": self.tied},
        ]

    def after(
        self, page: Sequence[Row], modified: str, more: bool, now: datetime | None, overlap: timedelta
    ) -> tuple[Place, bool]:
        """Where to go from a page, and whether there is more at once. `now` is HubSpot's clock, if known."""
        if more and not page:
            raise Retry("HubSpot gave a bad response: an empty page that is not the last")
        times = [_time(row, modified) for row in page]
        seen = self.with_top(max(times, default=0))
        if self.tied:
            return seen._in_instant(page, more), True
        if times != sorted(times):
            raise Retry("HubSpot gave a bad response: a search that is not in order")
        if more:
            return (replace(seen, floor=times[-1]) if times[-1] > self.floor else replace(seen, tied="0")), True
        reach = overlap // timedelta(milliseconds=1)
        ended = seen.at_end(milliseconds(now or EPOCH), reach)
        return replace(ended, floor=ended.begin(reach)), False

    def _in_instant(self, page: Sequence[Row], more: bool) -> Place:
        if not more:
            return replace(self, floor=self.floor + 1, tied="")
        last = int(page[-1]["id"])
        if last <= int(self.tied):
            raise Retry("HubSpot gave a bad response: a search that is not in order")
        return replace(self, tied=str(last))


def _time(row: Row, modified: str) -> int:
    """When a row of a search was last changed, as the search sees it."""
    moment = moment_of(row["properties"].get(modified)) or moment_of(row.get("updatedAt")) or EPOCH
    return milliseconds(moment)
