"""Who may send the next request of a credential: one limit, shared by classes of work. Values only, no clock.

Tokens come back evenly, as the platform allows. Each class is credited its share of them; what nobody asks for anybody
may take. Two promises: no class can use up what is live's, and what is live waits for the platform's limit alone, or
for the small shares of retries and reconciliations, never for a backfill.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

from crmsync.model import Rate

BURST = 0.03
"""The share of a rolling limit that may be used at once. The rest comes back evenly over the limit's time, so that both
together never exceed it."""
KEPT_FOR = 1.0
"""Seconds of its share that a class can save up: more would only lie idle, and make the others wait for long."""
ACTIVE = 2.0
"""Seconds after it asked for the last time in which a class's share is kept for it. Live's always is."""
ROOM = 0.5
"""The share of what may go at once that a backfill, beyond its own share, leaves free while live work is done: then a
change finds a request waiting for it, not the other way round."""
STEPS = 8
"""How often a forecast of a wait is looked at again: what is kept for others grows while one waits."""
HALF_LIFE = 60.0
"""Seconds after which a request counts half in what is told of the present use."""


class Priority(IntEnum):
    """The classes of work, by how much they matter."""

    LIVE = 0
    RETRY = 1
    RECONCILE = 2
    BACKFILL = 3

    @property
    def word(self) -> str:
        """As it is stored and shown."""
        return self.name.lower()


SHARES: Mapping[Priority, float] = {
    Priority.LIVE: 0.6,
    Priority.RETRY: 0.1,
    Priority.RECONCILE: 0.15,
    Priority.BACKFILL: 0.15,
}
"""The share of a limit that each class has whatever the others do, short of a backfill beside live work."""
NOTHING = (0.0, 0.0, 0.0, 0.0)
NEVER = float("-inf")
ENOUGH = 1e-9
"""Seconds that are none: sums of fractions are not exact."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """One limit as it stands at a moment, in seconds of whatever clock is used.

    `credits` are what is left of the shares, `asked` when each class asked last, `recent` how much each sent lately.
    """

    rate: Rate
    tokens: float
    at: float
    credits: Sequence[float]
    asked: Sequence[float] = (NEVER,) * 4
    recent: Sequence[float] = NOTHING
    spent: Sequence[int] = (0, 0, 0, 0)
    held_until: float = 0.0
    fixed: bool = field(default=False, compare=False)

    @property
    def size(self) -> float:
        """How many requests may go at once."""
        return max(1.0, self.rate.requests * BURST) if self.rate.rolling else float(self.rate.requests)

    @property
    def per_second(self) -> float:
        """How many requests go in the long run."""
        limit = self.rate.requests - self.size if self.rate.rolling else self.rate.requests
        return max(1.0, limit) / self.rate.seconds

    def most(self, who: Priority) -> float:
        """How much a class can save up."""
        return SHARES[who] * min(self.size, KEPT_FOR * self.per_second)

    def document(self) -> dict[str, Any]:
        """As it is stored."""
        asked = [None if moment == NEVER else moment for moment in self.asked]
        return {
            "rate": [self.rate.requests, self.rate.seconds, self.rate.rolling],
            "tokens": self.tokens,
            "at": self.at,
            "credits": list(self.credits),
            "asked": asked,
            "recent": list(self.recent),
            "spent": list(self.spent),
            "held_until": self.held_until,
        }

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Allowance:
        """What was stored."""
        requests, seconds, rolling = document["rate"]
        return cls(
            Rate(requests, seconds, rolling),
            document["tokens"],
            document["at"],
            tuple(document["credits"]),
            tuple(NEVER if moment is None else moment for moment in document["asked"]),
            tuple(document["recent"]),
            tuple(document["spent"]),
            document["held_until"],
        )


def full(rate: Rate, now: float) -> Allowance:
    """A limit of which nothing is used."""
    empty = Allowance(rate, 0.0, now, NOTHING)
    return replace(empty, tokens=empty.size, credits=tuple(empty.most(who) for who in Priority))


def refilled(held: Allowance, now: float) -> Allowance:
    """With what time has earned. A clock that was put back earns nothing."""
    passed = max(0.0, now - held.at)
    earned, faded = passed * held.per_second, 0.5 ** (passed / HALF_LIFE)
    return replace(
        held,
        at=now,
        tokens=min(held.size, held.tokens + earned),
        credits=tuple(
            min(held.most(who), credit + SHARES[who] * earned)
            for who, credit in zip(Priority, held.credits, strict=True)
        ),
        recent=tuple(number * faded for number in held.recent),
    )


def wait(held: Allowance, who: Priority) -> float:
    """Seconds until a class may send its next request, if nobody else does; not positive if it may now.

    Never too long; too short by little, where what is kept for others grows meanwhile.
    """
    pause = _missing(held, who)
    return pause if pause <= 0 else min(_waited(held, who, start) for start in _turns(held, who))


def _turns(held: Allowance, who: Priority) -> Iterator[float]:
    """Seconds until each moment at which less may be kept from a class than before: now, once it has saved up for a
    request of its own, and when others stopped asking long enough ago."""
    yield 0.0
    yield max(0.0, min(1.0, held.most(who)) - held.credits[who]) / (SHARES[who] * held.per_second)
    yield from (asked + ACTIVE - held.at for asked in held.asked if asked + ACTIVE > held.at)


def _waited(held: Allowance, who: Priority, start: float) -> float:
    """Seconds until the next request, but not before a moment."""
    pause = start
    for _ in range(STEPS):
        more = _missing(refilled(held, held.at + pause), who)
        if more <= ENOUGH:
            break
        pause += more
    return pause


def _missing(held: Allowance, who: Priority) -> float:
    """Seconds until there are as many tokens as are missing now."""
    return max(held.held_until - held.at, (1.0 + _reserved(held, who) - held.tokens) / held.per_second)


def _reserved(held: Allowance, who: Priority) -> float:
    """What a class has to leave for others, however long it waits."""
    entitled = _entitled(held, who)
    if entitled and who is not Priority.BACKFILL:
        return 0.0
    kept = 0.0
    for other in Priority:
        if other is who or (who is Priority.LIVE and other is Priority.BACKFILL):
            continue
        if other is Priority.LIVE or (not entitled and held.at - held.asked[other] < ACTIVE):
            kept += max(0.0, held.credits[other])
    if who is Priority.BACKFILL and not entitled and held.at - held.asked[Priority.LIVE] < ACTIVE:
        kept = max(kept, ROOM * held.size)
    return min(kept, held.size - 1.0)


def _entitled(held: Allowance, who: Priority) -> bool:
    """Whether a class has saved up for a request of its own; where its share is less than one, all of that."""
    return held.credits[who] >= min(1.0, held.most(who)) * (1 - 1e-9)


def taken(held: Allowance, who: Priority, most: int = 1) -> tuple[Allowance, int]:
    """As many requests as a class may send now, up to `most`; how many, and what is left after them."""
    held = replace(held, asked=_with(held.asked, who, held.at))
    count = 0
    while count < most and _missing(held, who) <= ENOUGH:
        less = _with(held.credits, who, held.credits[who] - 1.0) if _entitled(held, who) else held.credits
        held = replace(held, tokens=held.tokens - 1.0, credits=less)
        count += 1
    recent = _with(held.recent, who, held.recent[who] + count)
    return replace(held, recent=recent, spent=tuple(_with(held.spent, who, held.spent[who] + count))), count


def _with(values: Sequence[Any], who: Priority, value: Any) -> tuple[Any, ...]:
    return (*values[:who], value, *values[who + 1 :])


def seen(held: Allowance, remaining: int, limit: int, *, fixed: bool = False) -> Allowance:
    """What the platform said: believed where it leaves less than we thought, or allows another number.

    `fixed` is a limit that an operator set: the platform may not widen it.
    """
    if 0 < limit < held.rate.requests or (limit > held.rate.requests and not fixed):
        wider = replace(held, rate=replace(held.rate, requests=limit))
        held = replace(wider, tokens=max(0.0, held.tokens + wider.size - held.size))
    return replace(held, tokens=min(held.tokens, float(remaining)))


def paused(held: Allowance, until: float) -> Allowance:
    """Nothing is sent before then: the platform named a time."""
    return replace(held, held_until=max(held.held_until, until))


def used(held: Allowance) -> dict[Priority, float]:
    """Requests a second that each class sent lately."""
    return {who: held.recent[who] * 0.6931 / HALF_LIFE for who in Priority}
