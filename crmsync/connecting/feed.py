"""Places in a feed of changes, and how far one that shows rows late has to go back where it is asked by time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, replace
from typing import Self

import orjson

from crmsync.errors import Reject


@dataclass(frozen=True, slots=True)
class Place(ABC):
    """A place in a feed that can be kept as a cursor. Its fields are texts and numbers."""

    @abstractmethod
    def is_sound(self) -> bool:
        """Whether the fields can be those of such a place. May raise `TypeError` or `ValueError` where not."""

    @classmethod
    def read(cls, cursor: str) -> Self:
        """The place that `str` wrote down."""
        try:
            place = cls(**orjson.loads(cursor))
            sound = place.is_sound()
        except (TypeError, ValueError):
            sound = False
        if not sound:
            raise Reject("the cursor is not one of this feed of changes")
        return place

    def __str__(self) -> str:
        return orjson.dumps(asdict(self)).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon(Place):
    """What a walk through a feed that shows rows late has to remember until the next one.

    Times are the platform's, as numbers that grow (milliseconds, say). `top`: the latest change seen, and `top_seen`
    when the end of a walk first showed it. `settled`: everything older has been handed out, late rows included.
    """

    top: int = 0
    top_seen: int = 0
    settled: int = 0

    def is_sound(self) -> bool:
        """See `Place`."""
        return all(type(time) is int for time in (self.top, self.top_seen, self.settled))

    def with_top(self, top: int) -> Self:
        """After a page whose latest change this is."""
        return replace(self, top=top, top_seen=0) if top > self.top else self

    def at_end(self, now: int, overlap: int) -> Self:
        """At the end of a walk; `now` is the platform's clock, 0 where it is not known.

        Once the overlap has passed since the latest change was first seen, all that is as old has shown itself:
        without this a quiet account would be read again with every poll, for ever, as far as the overlap reaches
        back from its last change, be that a bulk import.
        """
        first = self.top_seen or now
        settled = self.top + 1 if first and now - first > overlap else self.settled
        return replace(self, top_seen=first, settled=max(settled, self.settled))

    def begin(self, overlap: int) -> int:
        """Where the next walk begins."""
        return max(self.settled, self.top - overlap)
