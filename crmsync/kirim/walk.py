"""Where a walk over the contacts of several numbers stands, as a text that survives a restart."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from crmsync.kirim.reading import moment


@dataclass(frozen=True, slots=True)
class Position:
    """The number being read and Kirim's own cursor within it; neither before a walk begins.

    `restarted` says that the number was begun anew because its cursor was refused: that is done once.
    """

    number: str = ""
    page: str | None = None
    since: datetime | None = None
    begun: bool = False
    restarted: bool = False

    @classmethod
    def read(cls, cursor: str | None, since: datetime | None) -> Position:
        """What a cursor says; one that is not ours begins a new walk, which repeats and never skips."""
        if cursor is None:
            return cls(since=since)
        try:
            said = json.loads(urlsafe_b64decode(cursor.encode()))
            return cls(
                str(said["number"]),
                said["page"] if isinstance(said["page"], str) else None,
                moment(said["since"]),
                said["begun"] is True,
                said["restarted"] is True,
            )
        except (ValueError, TypeError, KeyError):
            return cls(since=since)

    def write(self) -> str:
        """The cursor."""
        said = {
            "number": self.number,
            "page": self.page,
            "since": None if self.since is None else self.since.isoformat(),
            "begun": self.begun,
            "restarted": self.restarted,
        }
        return urlsafe_b64encode(json.dumps(said, separators=(",", ":")).encode()).decode()

    def within(self, numbers: Sequence[str]) -> Position:
        """The same place, or the beginning if there is no such number (any more)."""
        if self.begun and self.number in numbers:
            return self
        return Position(numbers[0], since=self.since, begun=True)

    def again(self) -> Position:
        """The start of the same number."""
        return replace(self, page=None, restarted=True)

    def after(self, page: str | None, numbers: Sequence[str]) -> Position:
        """The next page, the next number, or the end, from where a new walk begins."""
        if page is not None:
            return replace(self, page=page)
        place = numbers.index(self.number) + 1
        if place < len(numbers):
            return Position(numbers[place], since=self.since, begun=True)
        return Position(since=self.since)

    def covers(self, version: datetime | None, overlap: timedelta) -> bool:
        """Whether a record of this version is asked for; one without a version always is."""
        return self.since is None or version is None or version >= self.since - overlap
