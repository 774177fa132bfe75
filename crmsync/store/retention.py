"""What is older than a tenant wants to keep: found in a reading, forgotten by key, a bounded number at a time.

Finding may take a while, and the one connection that writes is not to wait for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, and_, delete, or_, select, tuple_

from crmsync.store import tables
from crmsync.store.conflicts import State as ConflictState
from crmsync.store.cursors import NEVER
from crmsync.store.plans import State
from crmsync.store.records import CHUNK

_history = tables.History.__table__  # type: ignore[attr-defined]
_message = tables.MessageRow.__table__  # type: ignore[attr-defined]
_entry = tables.TimelineEntry.__table__  # type: ignore[attr-defined]
_conflict = tables.ConflictRow.__table__  # type: ignore[attr-defined]
_run = tables.Run.__table__  # type: ignore[attr-defined]
_planned = tables.Planned.__table__  # type: ignore[attr-defined]


class Kept(StrEnum):
    """What is kept for a while. What refers to something comes before it."""

    HISTORY = "history"
    CONFLICTS = "conflicts"
    TIMELINE = "timeline"
    MESSAGES = "messages"
    PLANS = "plans"
    RUNS = "runs"


Key = tuple[Any, ...]
"""What tells a row of a table from the others of its tenant."""


def old(connection: Connection, tenant: str, what: Kept, before: datetime, most: int) -> list[Key]:
    """The keys of some rows that are older than a moment."""
    table, key = _TABLES[what]
    rows = select(*key).where(table.c.tenant == tenant, _is_old(what, before)).limit(most)
    return [tuple(row) for row in connection.execute(rows)]


def forget(connection: Connection, tenant: str, what: Kept, keys: Sequence[Key], before: datetime) -> int:
    """Deletes those of these rows that are still old; says how many."""
    table, key = _TABLES[what]
    gone = 0
    for start in range(0, len(keys), CHUNK):
        these = tuple_(*key).in_(keys[start : start + CHUNK])
        here = and_(table.c.tenant == tenant, these, _is_old(what, before))
        gone += connection.execute(delete(table).where(here)).rowcount
    return gone


_TABLES: dict[Kept, tuple[Any, tuple[Any, ...]]] = {
    Kept.HISTORY: (_history, (_history.c.id,)),
    Kept.CONFLICTS: (_conflict, (_conflict.c.connection, _conflict.c.kind, _conflict.c.kirim_id, _conflict.c.field)),
    Kept.TIMELINE: (_entry, (_entry.c.connection, _entry.c.key)),
    Kept.MESSAGES: (_message, (_message.c.id,)),
    Kept.PLANS: (_planned, (_planned.c.connection, _planned.c.kind, _planned.c.kirim_id, _planned.c.run)),
    Kept.RUNS: (_run, (_run.c.id,)),
}


def _is_old(what: Kept, before: datetime) -> Any:
    """What is at a dead end stays until a person has seen to it, and so does what waits."""
    if what is Kept.HISTORY:
        return _history.c.at < before
    if what is Kept.CONFLICTS:
        return and_(_conflict.c.at < before, _conflict.c.state != ConflictState.FROZEN, _conflict.c.decree.is_(None))
    if what is Kept.MESSAGES:
        return _message.c.first_at < before
    if what is Kept.RUNS:
        return _run.c.ended_at < before
    if what is Kept.TIMELINE:
        return and_(_entry.c.first_at < before, _entry.c.not_before == NEVER, _entry.c.reason == "")
    lasting = select(_run.c.id).where(or_(_run.c.ended_at.is_(None), _run.c.ended_at >= before))
    return and_(_planned.c.run.not_in(lasting), _planned.c.state != State.WAITING)
