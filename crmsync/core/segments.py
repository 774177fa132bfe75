"""Who gets a segment's label and who loses it: a difference to what was applied before, never a replacement.

Values only. What was applied is remembered per contact; a contact that comes and goes again within the dwell time
is left alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from crmsync.core.brakes import too_much

CHUNK = 1_000
"""Contacts in one call: Kirim takes no more."""


class Standing(StrEnum):
    """Where a contact stands with a segment's label."""

    COMING = "coming"  # a member who has not been one for long enough
    APPLIED = "applied"  # has the label from us
    GOING = "going"  # has the label, and has not been gone for long enough


@dataclass(frozen=True, slots=True)
class Kept:
    """What is remembered of one contact."""

    standing: Standing
    since: datetime


@dataclass(frozen=True, slots=True)
class Rule:
    """A segment of the CRM, by name or id, and the Kirim label that its members get.

    `dwell` is how long somebody has to be in, or out, before that counts. Without `removes` nobody ever loses the
    label. `most_removals` and `most_share` (of those that have it) are what one run may take away at most.
    """

    segment: str
    label: str
    creates_label: bool = False
    removes: bool = True
    dwell: timedelta = timedelta(0)
    most_removals: int = 1_000
    most_share: float = 0.2


@dataclass(frozen=True, slots=True)
class Difference:
    """What a walk over the members asks for. `standing` is what else is to be remembered; None forgets."""

    attach: tuple[str, ...]
    detach: tuple[str, ...]
    standing: Mapping[str, Kept | None]


_IN: Mapping[Standing | None, Standing] = {
    None: Standing.COMING,
    Standing.COMING: Standing.COMING,
    Standing.APPLIED: Standing.APPLIED,
    Standing.GOING: Standing.APPLIED,
}
_OUT: Mapping[Standing | None, Standing | None] = {
    None: None,
    Standing.COMING: None,
    Standing.APPLIED: Standing.GOING,
    Standing.GOING: Standing.GOING,
}


def difference(kept: Mapping[str, Kept], members: Collection[str], now: datetime, rule: Rule) -> Difference:
    """Compares a whole walk with what is remembered. A walk that was not finished must not come here."""
    attach: list[str] = []
    detach: list[str] = []
    standing: dict[str, Kept | None] = {}
    for contact in kept.keys() | members:
        known = kept.get(contact)
        then = _next(known, contact in members, now, rule)
        if then is not None and then.standing is not Standing.APPLIED and now - then.since >= rule.dwell:
            (attach if then.standing is Standing.COMING else detach).append(contact)
        elif then != known:
            standing[contact] = then
    return Difference(tuple(sorted(attach)), tuple(sorted(detach)), standing)


def _next(known: Kept | None, present: bool, now: datetime, rule: Rule) -> Kept | None:
    """Where a contact stands after it was seen among the members, or not."""
    before = known.standing if known else None
    after = _IN[before] if present else _OUT[before]
    if after is Standing.GOING and not rule.removes:
        after = Standing.APPLIED
    if after is None or after is before:
        return known if after else None
    return Kept(after, now)


def too_many(removals: int, applied: int, rule: Rule) -> str:
    """Why so many may not lose the label in one run; empty if they may."""
    if removals > rule.most_removals:
        return f"{removals} contacts would lose the label {rule.label}; one run may take it from {rule.most_removals}"
    if too_much(removals, applied, rule.most_removals, rule.most_share):
        share = round(100 * removals / applied)
        return f"{removals} of {applied} contacts ({share} %) would lose the label {rule.label}"
    return ""


def chunks(contacts: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """In order, as many as one call takes."""
    return (tuple(contacts[start : start + CHUNK]) for start in range(0, len(contacts), CHUNK))


def key(*parts: object) -> str:
    """A key under which Kirim does the same thing once only. The same parts give the same key."""
    return "crmsync-" + hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:40]
