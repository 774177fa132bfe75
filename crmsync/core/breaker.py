"""When a field goes back and forth: two masters fight over it, and whoever writes next only keeps them at it.

A fight is told from honest work by what is written, not by how often: people may change their mind, but values that
come back again and again do so because somebody else puts them away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from crmsync.core.canonical import canonical
from crmsync.core.mapping import FieldRule
from crmsync.model import Value

WINDOW = timedelta(minutes=10)
MOST = 4
"""Writes of one field of one pair in that time, of values that came back, before it is left alone."""


class Stroke(NamedTuple):
    """One write of a field: when, to which side, what that side held and what it was given."""

    at: datetime
    side: str
    old: Value
    new: Value


@dataclass(frozen=True, slots=True)
class Frozen:
    """A field that is left alone, and the writes that say why."""

    sequence: tuple[Stroke, ...]
    kirim: Value
    crm: Value


def recent(strokes: Sequence[Stroke], now: datetime) -> tuple[Stroke, ...]:
    """The writes that still count."""
    return tuple(stroke for stroke in strokes if now - stroke.at < WINDOW)


def oscillates(rule: FieldRule, strokes: Sequence[Stroke], region: str | None = None) -> bool:
    """Whether these writes, all within the window, are a fight: too many, and most of them bring a value back.

    What is done to both sides at once is one write.
    """
    written = {stroke.at: canonical(rule.type, stroke.new, region) for stroke in strokes}
    back = len(written) - len(set(written.values()))
    return len(written) > MOST and back * 2 > len(written)


def pruned(strokes: Mapping[str, Sequence[Stroke]], now: datetime) -> dict[str, tuple[Stroke, ...]]:
    """The writes that still count, of every field that has any."""
    return {name: kept for name, of in strokes.items() if (kept := recent(of, now))}
