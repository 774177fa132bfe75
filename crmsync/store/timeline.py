"""Entries on timelines: which are to be made or changed for what messages are known by now, and how that went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, and_, bindparam, case, literal, select, update

from crmsync.core import messages as core
from crmsync.core.messages import Log, Logging
from crmsync.core.retry import ALONE_FROM, MIDDLE, alone
from crmsync.model import Message
from crmsync.store import messages, tables
from crmsync.store.cursors import NEVER
from crmsync.store.messages import Kept
from crmsync.store.records import insert

_entry = tables.TimelineEntry.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry that is due, at the revision it was taken.

    `thread` and `day` are a digest's, `message` is the row of a single message. `attempts` counts the starts without
    an end, this one included; more than one means that an earlier one may have been applied.
    """

    key: str
    message: int | None
    thread: str
    day: date | None
    revision: int
    crm_id: str | None
    sent: str
    attempts: int
    failures: int
    first_at: datetime


@dataclass(frozen=True, slots=True)
class EndedEntry:
    """How the work on an entry ended. `again_at` keeps it due; an error without it is a dead end, for a `reason`.

    `doubtful` says that what was sent may have been applied although no answer came.
    """

    entry: Entry
    crm_id: str | None
    sent: str
    error: str = ""
    reason: str = ""
    again_at: datetime | None = None
    failures: int = 0
    doubtful: bool = False


def take_in(
    connection: Connection,
    tenant: str,
    told: Sequence[tuple[str, Message]],
    logging: Mapping[str, Logging],
    now: datetime,
) -> None:
    """Takes in what events said, each with its cause, and makes due what is to be logged, by connection.

    A message that two events named by different ids becomes one as soon as a third names both.
    """
    if not any(each.log is not Log.OFF for each in logging.values()):
        return
    bodies = any(each.bodies for each in logging.values() if each.log is not Log.OFF)
    for cause, message in told:
        kept, before = messages.learn(connection, tenant, message if bodies else core.without_body(message), now)
        if before is None or kept.message != before.message:
            for name, rules in logging.items():
                _mark(connection, tenant, name, rules, kept, before, cause, now)


def _mark(
    connection: Connection,
    tenant: str,
    name: str,
    rules: Logging,
    kept: Kept,
    before: Kept | None,
    cause: str,
    now: datetime,
) -> None:
    """Makes the entries due that a message belongs to. A digest that it left is due as well."""
    if rules.log is Log.EACH:
        key = kept.message.id or kept.message.kirim_id or ""
        standing = connection.execute(
            select(_entry.c.key, _entry.c.crm_id).where(
                _entry.c.tenant == tenant, _entry.c.connection == name, _entry.c.message_id == kept.row
            )
        ).first()
        stands = standing is not None and standing.crm_id is not None
        due = core.due_at(kept.message, kept.first_at, stands=stands, now=now)
        if due is not None:
            _make_due(connection, tenant, name, standing.key if standing else key, due, cause, now, message=kept.row)
    elif rules.log is Log.DIGEST:
        threads = {(core.thread(each.message), core.day_of(each.at, rules.zone)) for each in (before, kept) if each}
        for thread, day in sorted(threads):
            if core.told_of(kept.message):
                due = now + core.CHURN
                _make_due(connection, tenant, name, f"{thread}/{day}", due, cause, now, thread=thread, day=day)


def _make_due(
    connection: Connection,
    tenant: str,
    name: str,
    key: str,
    due: datetime,
    cause: str,
    now: datetime,
    *,
    message: int | None = None,
    thread: str = "",
    day: date | None = None,
) -> None:
    """An entry is to be made or changed. One that is due already stays due when it was, and one that waits for its
    next try waits on; one at a dead end is tried anew."""
    new = insert(connection, _entry)
    idle = _entry.c.not_before == NEVER
    connection.execute(
        new.on_conflict_do_update(
            index_elements=["tenant", "connection", "key"],
            set_={
                "revision": _entry.c.revision + 1,
                "cause": new.excluded.cause,
                "not_before": case((idle, new.excluded.not_before), else_=_entry.c.not_before),
                "reason": "",
                "error": case((idle, new.excluded.error), else_=_entry.c.error),
                "failures": case((idle, new.excluded.failures), else_=_entry.c.failures),
            },
        ),
        {
            "tenant": tenant,
            "connection": name,
            "key": key,
            "message_id": message,
            "thread": thread,
            "day": day.isoformat() if day else "",
            "revision": 1,
            "crm_id": None,
            "sent": "",
            "attempts": 0,
            "failures": 0,
            "first_at": now,
            "not_before": due,
            "reason": "",
            "error": "",
            "cause": cause,
        },
    )


def take(
    connection: Connection, tenant: str, name: str, limit: int, now: datetime, *, suspected: bool = False
) -> list[Entry]:
    """The entries that are due, oldest first. The attempt is counted here, before anything is sent.

    Those that were started `ALONE_FROM` times without an end are suspected, and come only when they are asked for. If
    the process ends once more, they rest while the others go on.
    """
    rows = connection.execute(
        select(_entry)
        .where(
            _entry.c.tenant == tenant,
            _entry.c.connection == name,
            _entry.c.not_before <= now,
            _entry.c.attempts >= ALONE_FROM if suspected else _entry.c.attempts < ALONE_FROM,
        )
        .order_by(_entry.c.not_before, _entry.c.key)
        .limit(limit)
    ).all()
    started: list[tuple[str, dict[str, Any]]] = [(row.key, {"attempts": row.attempts + 1}) for row in rows]
    if suspected:
        for _, change in started:
            change["not_before"] = now + alone(change["attempts"], MIDDLE)
    _change(connection, tenant, name, started)
    return [
        Entry(
            row.key,
            row.message_id,
            row.thread,
            date.fromisoformat(row.day) if row.day else None,
            row.revision,
            row.crm_id,
            row.sent,
            row.attempts + 1,
            row.failures,
            row.first_at,
        )
        for row in rows
    ]


def end(connection: Connection, tenant: str, name: str, ended: Sequence[EndedEntry], now: datetime) -> None:
    """Stores how entries ended. One that was made due again meanwhile stays due."""
    for each in ended:
        here = and_(_entry.c.tenant == tenant, _entry.c.connection == name, _entry.c.key == each.entry.key)
        again, later = (
            literal(moment, tables.Instant()) for moment in (each.again_at or NEVER, each.again_at or now + core.CHURN)
        )
        connection.execute(
            update(_entry)
            .where(here)
            .values(
                crm_id=each.crm_id,
                sent=each.sent,
                error=each.error,
                reason=each.reason,
                attempts=int(each.doubtful),
                failures=each.failures,
                not_before=case((_entry.c.revision == each.entry.revision, again), else_=later),
            )
        )


def give_back(connection: Connection, tenant: str, name: str, entries: Sequence[Entry]) -> None:
    """Nothing was sent for these after all: the attempt does not count."""
    _change(connection, tenant, name, [(entry.key, {"attempts": entry.attempts - 1}) for entry in entries])


def _change(connection: Connection, tenant: str, name: str, changes: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    if changes:
        columns: dict[str, Any] = {column: bindparam(f"to_{column}") for column in changes[0][1]}
        connection.execute(
            update(_entry)
            .where(_entry.c.tenant == tenant, _entry.c.connection == name, _entry.c.key == bindparam("of_key"))
            .values(columns),
            [{"of_key": key, **{f"to_{column}": value for column, value in change.items()}} for key, change in changes],
        )
