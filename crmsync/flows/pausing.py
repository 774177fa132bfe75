"""Pausing and resuming by command: the same for whoever carries it out, the daemon or the command itself."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from crmsync.core.brakes import ALL, Brake
from crmsync.store import brakes
from crmsync.store.brakes import Pause
from crmsync.store.database import Database

CLASSES = (*(brake.value for brake in Brake), ALL)
"""What can be paused."""
OPERATOR = "operator"

Alert = Callable[[str, str, str, str], None]


def pause(
    database: Database, tenant: str, names: Collection[str], what: str, reason: str, clock: Callable[[], datetime]
) -> list[dict[str, Any]]:
    """Pauses a kind of write on connections; says what is paused there now."""

    def work(tx: Connection) -> list[dict[str, Any]]:
        for name in names:
            brakes.begin(tx, Pause(tenant, name, what, clock(), OPERATOR, reason))
        return [each for each in overview(tx) if each["tenant"] == tenant and each["connection"] in names]

    return database.write(work)


def resume(
    database: Database,
    tenant: str,
    names: Collection[str],
    what: str,
    clock: Callable[[], datetime],
    alert: Alert | None = None,
) -> list[dict[str, Any]]:
    """Resumes a kind of write, or with `all` whatever is paused; says what was."""
    kinds = CLASSES if what == ALL else (what,)

    def work(tx: Connection) -> list[dict[str, Any]]:
        return [
            {"tenant": tenant, "connection": name, "class": ended}
            for name in names
            for ended in brakes.end(tx, tenant, name, kinds, clock())
        ]

    ended = database.write(work)
    for each in ended if alert else ():
        about = f"{each['connection']}/{each['class']}"
        if alert is not None:
            alert("brake_released", tenant, f"{about} goes on", about)
    return ended


def overview(tx: Connection) -> list[dict[str, Any]]:
    """Everything that is paused, for people. Times are ISO 8601."""
    return [
        {
            "tenant": one.tenant,
            "connection": one.connection,
            "class": one.what,
            "since": one.since.isoformat(timespec="milliseconds"),
            "by": one.by,
            "reason": one.reason,
            "held": held,
        }
        for one, held in brakes.every(tx)
    ]


def words(tx: Connection, tenant: str) -> list[str]:
    """Why a tenant's work does not go on, one sentence each."""
    return [
        f"{one.connection}: {one.what.replace('_', ' ')} is paused" + (f" ({one.reason})" if one.reason else "")
        for one, _ in brakes.every(tx)
        if one.tenant == tenant
    ]
