"""How the limits of credentials are used, and what that means for what is due: for people. No credential is named."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from crmsync.core.budget import Allowance, Priority, refilled, used
from crmsync.store import budgets
from crmsync.store.budgets import Limit


def overview(tx: Connection, now: datetime, due: Mapping[str, int]) -> list[dict[str, Any]]:
    """Every limit with its use. `due` is how many records wait, by endpoint (`tenant/name`)."""
    return [_told(limit, refilled(held, now.timestamp()), now, due) for limit, held in budgets.every(tx)]


def _told(limit: Limit, held: Allowance, now: datetime, due: Mapping[str, int]) -> dict[str, Any]:
    per_second = used(held)
    total = sum(per_second.values())
    return {
        "endpoints": sorted(limit.users),
        "bucket": limit.bucket,
        "requests": held.rate.requests,
        "seconds": held.rate.seconds,
        "per_second": round(held.per_second, 3),
        "left": round(max(0.0, held.tokens) / held.size, 3),
        "used": round(min(1.0, total / held.per_second), 3),
        "by_class": {who.word: round(per_second[who], 3) for who in Priority},
        "sent": {who.word: held.spent[who] for who in Priority},
        "held_until": _held(held, now),
        "done_in_seconds": _forecast(limit, held, now, due),
    }


def _held(held: Allowance, now: datetime) -> str | None:
    until = held.held_until
    return datetime.fromtimestamp(until, UTC).isoformat(timespec="seconds") if until > now.timestamp() else None


def _forecast(limit: Limit, held: Allowance, now: datetime, due: Mapping[str, int]) -> float:
    """Seconds until what is due now can be done at the earliest: its calls, at the pace that the limit allows."""
    calls = sum(-(-due.get(name, 0) // max(1, records)) for name, records in limit.users.items())
    if not calls:
        return 0.0
    return round(max(0.0, held.held_until - now.timestamp()) + max(0.0, calls - held.tokens) / held.per_second, 1)
