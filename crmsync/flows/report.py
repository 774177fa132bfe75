"""How things stand: lag, what is due or parked, rates, suspended lanes. Counts and times only, nothing of contacts.

Of Kirim's users those are named whom a CRM does not know, where `assigning` asks for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection

from crmsync.core.schedules import Schedules
from crmsync.flows import quotas
from crmsync.flows.pausing import overview as overview_of_pauses
from crmsync.flows.progress import latest
from crmsync.flows.schedules import overview
from crmsync.flows.unmapped import Assigning
from crmsync.flows.unmapped import overview as overview_of_unmapped
from crmsync.store import census, chores, conflicts, deliveries, history, lanes, quarantine, suspensions

RECENT = timedelta(minutes=5)
"""The stretch over which rates are told."""
NO_SCHEDULES: Mapping[str, Schedules] = MappingProxyType({})
SHOWN = 20
"""Parked pairs that are named; the others are only counted."""


def status(
    tx: Connection,
    now: datetime,
    schedules: Mapping[str, Schedules] = NO_SCHEDULES,
    assigning: Sequence[Assigning] = (),
) -> dict[str, Any]:
    """Everything `crmsync status` shows that the store knows. Times are ISO 8601, lags are seconds."""
    since = now - RECENT
    return {
        "at": _moment(now),
        "recent_seconds": int(RECENT.total_seconds()),
        "sources": [
            {
                "tenant": row.tenant,
                "source": row.source,
                "pending": row.pending,
                "dead": row.dead,
                "received_recently": row.received,
                "lag_seconds": _lag(row.oldest, now),
            }
            for row in deliveries.counts(tx, since)
        ],
        "items": [
            {
                "tenant": row.tenant,
                "source": row.source,
                "type": row.type,
                "outcome": row.outcome,
                "reason": row.reason,
                "count": row.count_,
            }
            for row in deliveries.item_counts(tx, since)
        ],
        "quarantine": _quarantine(tx, now),
        "connections": _connections(tx, now),
        "parked": [
            {"tenant": row.tenant, "connection": row.connection, "id": row.kirim_id, "error": row.error}
            for row in census.parked(tx, SHOWN)
        ],
        "conflicts": _conflicts(tx),
        "unmapped": overview_of_unmapped(tx, assigning),
        "written_recently": [
            {
                "tenant": row.tenant,
                "connection": row.connection,
                "side": row.side,
                "records": row.records,
                "fields": row.fields,
            }
            for row in history.written_since(tx, since)
        ],
        **_looked_after(tx),
        "runs": latest(tx),
        "schedules": overview(tx, schedules, now),
        "quotas": _quotas(tx, now),
        "suspended": _suspended(tx),
        "paused": overview_of_pauses(tx),
        "resting": _resting(tx),
    }


def _connections(tx: Connection, now: datetime) -> list[dict[str, Any]]:
    """How many records each connection keeps in step, and how many of them wait."""
    return [
        {
            "tenant": row.tenant,
            "connection": row.connection,
            "pairs": row.pairs,
            "linked": row.linked,
            "unlinked": row.unlinked,
            "due": row.due,
            "held": row.held,
            "parked": row.parked,
            "lag_seconds": _lag(row.oldest, now),
        }
        for row in census.counts(tx)
    ]


def _conflicts(tx: Connection) -> list[dict[str, Any]]:
    """Where people should look at fields that both sides changed, or that are frozen."""
    return [
        {"tenant": row.tenant, "connection": row.connection, "open": row.open, "frozen": row.frozen}
        for row in conflicts.counts(tx)
    ]


def _quarantine(tx: Connection, now: datetime) -> list[dict[str, Any]]:
    """What waits to be proved, per endpoint and reason."""
    return [
        {
            "tenant": row.tenant,
            "source": row.source,
            "reason": row.reason,
            "rows": row.rows_,
            "bytes": int(row.size),
            "oldest": _moment(row.oldest),
            "age_seconds": _lag(row.oldest, now),
        }
        for row in quarantine.counts(tx)
    ]


def dead_letters(tx: Connection) -> int:
    """Everything of ours that was given up, in all tenants."""
    return deliveries.dead(tx) + census.parked_count(tx)


def _suspended(tx: Connection) -> list[dict[str, Any]]:
    """The endpoints that cannot be used, or are being tried again."""
    return [
        {
            "tenant": one.tenant,
            "endpoint": one.endpoint,
            "since": _moment(one.since),
            "reason": one.reason,
            "on_trial": one.trial,
            "next_probe": _moment(one.look_at),
            "probes": one.probes,
        }
        for one in suspensions.every(tx)
    ]


def _quotas(tx: Connection, now: datetime) -> list[dict[str, Any]]:
    """The limits of every credential, their use, and how long what is due will take within them."""
    due: Counter[str] = Counter()
    for row in census.counts(tx):
        due[f"{row.tenant}/{row.connection}"] += row.due - row.held
    return quotas.overview(tx, now, due)


def _resting(tx: Connection) -> list[dict[str, Any]]:
    """The lanes that wait because their endpoint failed."""
    return [
        {
            "tenant": row.tenant,
            "endpoint": row.endpoint,
            "work": row.work,
            "until": _moment(row.not_before) if row.not_before else None,
            "suspended": row.suspended or None,
            "failures": row.attempts,
        }
        for row in lanes.states(tx)
    ]


def _looked_after(tx: Connection) -> dict[str, list[dict[str, Any]]]:
    """How the subscriptions at Kirim were seen last, and what the last sweep of each did."""
    told: dict[str, list[dict[str, Any]]] = {"subscriptions": [], "sweeps": []}
    for chore in chores.every(tx):
        if chore.work is lanes.Work.SWEEP:
            done_at = _moment(chore.done_at) if chore.done_at else None
            told["sweeps"].append({"tenant": chore.tenant, "done_at": done_at, **(chore.state.get("swept") or {})})
        elif chore.work is lanes.Work.WATCH and chore.state:
            told["subscriptions"].append({"tenant": chore.tenant, **chore.state})
    return told


def _lag(oldest: datetime | None, now: datetime) -> float:
    return round(max(0.0, (now - oldest).total_seconds()), 3) if oldest else 0.0


def _moment(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
