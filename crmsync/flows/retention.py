"""Forgets what is older than a tenant wants to keep, a little at a time: nobody waits for it, and it can be killed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from crmsync.store import chores, retention
from crmsync.store.database import Database
from crmsync.store.lanes import Fence, Work
from crmsync.store.retention import Kept, Key

PORTION = 2_000
"""Rows that are forgotten in one transaction."""


@dataclass(frozen=True, slots=True)
class Retention:
    """For how long things are kept. Conflicts that nobody has to look at are history, timeline entries go with their
    messages.
    """

    history: timedelta = timedelta(days=90)
    messages: timedelta = timedelta(days=90)
    runs: timedelta = timedelta(days=90)
    plans: timedelta = timedelta(days=30)

    def of(self, what: Kept) -> timedelta:
        """How long one kind of row is kept."""
        return {
            Kept.HISTORY: self.history,
            Kept.CONFLICTS: self.history,
            Kept.TIMELINE: self.messages,
            Kept.MESSAGES: self.messages,
            Kept.PLANS: self.plans,
            Kept.RUNS: self.runs,
        }[what]


def chore(
    database: Database,
    tenant: str,
    keep: Retention,
    fence: Fence,
    clock: Callable[[], datetime],
    going: Callable[[], bool],
) -> bool:
    """Forgets until nothing old is left, or it is time to stop: then it stays due. Says whether it came to its end."""
    for what in Kept:
        before = clock() - keep.of(what)
        while keys := database.read(lambda tx: retention.old(tx, tenant, what, before, PORTION)):  # noqa: B023
            if not database.write(lambda tx: _forget(tx, tenant, what, keys, before, fence)):  # noqa: B023
                break  # somebody else did, or it is not old any more
            if not going():
                return False

    def end(tx: Connection) -> None:
        fence(tx)
        taken = chores.read(tx, tenant, Work.RETENTION)
        chores.finish(tx, taken, {"forgotten": taken.state.get("forgotten") or {}, "ended": True}, clock())

    database.write(end)
    return True


def _forget(tx: Connection, tenant: str, what: Kept, keys: list[Key], before: datetime, fence: Fence) -> int:
    fence(tx)
    gone = retention.forget(tx, tenant, what, keys, before)
    taken = chores.read(tx, tenant, Work.RETENTION)
    counts = {} if taken.state.get("ended") else dict(taken.state.get("forgotten") or {})
    counts[what.value] = counts.get(what.value, 0) + gone
    chores.remember(tx, taken, {"forgotten": counts})
    return gone
