"""How far a feed of changes that shows rows late has to go back, for platforms that are asked by time of change."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """What a walk through such a feed has to remember until the next one. Base of a cursor.

    Times are the platform's, as numbers that grow (milliseconds, say). `top`: the latest change seen, and `top_seen`
    when the end of a walk first showed it. `settled`: everything older has been handed out, late rows included.
    """

    top: int = 0
    top_seen: int = 0
    settled: int = 0

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
