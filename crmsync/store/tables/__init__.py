"""The tables. Everything else in this package reads and writes them with SQLAlchemy Core.

Every key starts with the tenant. Times are aware; documents are JSON; what came over the wire is raw bytes.
"""

from __future__ import annotations

from crmsync.store.columns import Document, Instant, microseconds, moment
from crmsync.store.tables.intake import Delivery, Quarantined, SeenItem
from crmsync.store.tables.limits import Budget, Pause, Tally
from crmsync.store.tables.pairs import Alias, Candidate, ConflictRow, Due, History, Pair, Stale, View
from crmsync.store.tables.relations import MessageRow, PersonRow, SegmentMember, SegmentState, TimelineEntry
from crmsync.store.tables.work import (
    Chore,
    Cursor,
    Fire,
    LaneState,
    Planned,
    Replay,
    Run,
    Sighting,
    Suspension,
)

__all__ = [
    "Alias",
    "Budget",
    "Candidate",
    "Chore",
    "ConflictRow",
    "Cursor",
    "Delivery",
    "Document",
    "Due",
    "Fire",
    "History",
    "Instant",
    "LaneState",
    "MessageRow",
    "Pair",
    "Pause",
    "PersonRow",
    "Planned",
    "Quarantined",
    "Replay",
    "Run",
    "SeenItem",
    "SegmentMember",
    "SegmentState",
    "Sighting",
    "Stale",
    "Suspension",
    "Tally",
    "TimelineEntry",
    "View",
    "microseconds",
    "moment",
]
