"""What is done for a tenant now and then (`Work.WATCH`, `SWEEP`, `RETENTION`), and what Kirim was asked to repeat."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, select, update

from crmsync.store import tables
from crmsync.store.cursors import NEVER
from crmsync.store.lanes import Work
from crmsync.store.records import chunks, insert

_chore = tables.Chore.__table__  # type: ignore[attr-defined]
_replay = tables.Replay.__table__  # type: ignore[attr-defined]

NAMELESS = "?"
"""Stands for the event of a delivery where Kirim names neither that nor what the delivery repeats."""
State = Mapping[str, Any]
"""What a chore remembers of itself, as JSON."""


@dataclass(frozen=True, slots=True)
class Chore:
    """A chore as it stands; `done_at` is None before it was done for the first time."""

    tenant: str
    work: Work
    due_at: datetime
    done_at: datetime | None
    state: State


@dataclass(frozen=True, slots=True)
class Replayed:
    """A dead delivery that was asked for again: its own id, its event's if it has one, for the how-many-th time."""

    id: str
    event: str
    times: int


def ring(connection: Connection, tenant: str, work: Work, now: datetime, **noted: Any) -> None:
    """Makes a chore due now; `noted` goes into its state."""
    state = {**(read(connection, tenant, work).state if noted else {}), **noted}
    connection.execute(
        insert(connection, _chore).on_conflict_do_update(
            index_elements=["tenant", "work"], set_={"due_at": now, **({"state": state} if noted else {})}
        ),
        {"tenant": tenant, "work": work, "due_at": now, "done_at": None, "state": state},
    )


def read(connection: Connection, tenant: str, work: Work) -> Chore:
    """A chore; one that was never rung is not due."""
    row = connection.execute(select(_chore).where(_this(tenant, work))).first()
    return Chore(tenant, work, NEVER, None, {}) if row is None else _chore_of(row)


def every(connection: Connection) -> list[Chore]:
    """All chores of all tenants."""
    return [_chore_of(row) for row in connection.execute(select(_chore).order_by(_chore.c.tenant, _chore.c.work))]


def remember(connection: Connection, taken: Chore, state: State) -> None:
    """Notes what came of a chore that is not done yet."""
    connection.execute(update(_chore).where(_this(taken.tenant, taken.work)).values(state=dict(state)))


def finish(connection: Connection, taken: Chore, state: State, now: datetime) -> None:
    """A chore is done. If it was rung while it was being done, it stays due."""
    here = _this(taken.tenant, taken.work)
    connection.execute(update(_chore).where(here).values(state=dict(state), done_at=now))
    connection.execute(update(_chore).where(here, _chore.c.due_at == taken.due_at).values(due_at=NEVER))


# -- what Kirim was asked to send again


def asked(connection: Connection, tenant: str, ids: Collection[str]) -> dict[str, int]:
    """Which deliveries were asked for again, and for the how-many-th time."""
    found: dict[str, int] = {}
    for some in chunks(ids):
        rows = connection.execute(
            select(_replay.c.id, _replay.c.times).where(_replay.c.tenant == tenant, _replay.c.id.in_(some))
        )
        found.update((row.id, row.times) for row in rows)
    return found


def asked_for_events(connection: Connection, tenant: str, events: Collection[str]) -> dict[str, int]:
    """How often deliveries of these events were asked for again."""
    found: dict[str, int] = {}
    for some in chunks(events):
        rows = connection.execute(
            select(_replay.c.event, func.max(_replay.c.times).label("times"))
            .where(_replay.c.tenant == tenant, _replay.c.event.in_(some))
            .group_by(_replay.c.event)
        )
        found.update((row.event, row.times) for row in rows)
    return found


def last_nameless(connection: Connection, tenant: str) -> datetime | None:
    """When a delivery whose event Kirim does not name was last asked for again."""
    moment: datetime | None = connection.execute(
        select(func.max(_replay.c.at)).where(_replay.c.tenant == tenant, _replay.c.event == NAMELESS)
    ).scalar()
    return moment


def note(connection: Connection, tenant: str, replayed: Sequence[Replayed], now: datetime) -> None:
    """Deliveries were asked for again."""
    if replayed:
        new = insert(connection, _replay)
        connection.execute(
            new.on_conflict_do_update(
                index_elements=["tenant", "id"], set_={"times": new.excluded.times, "at": new.excluded.at}
            ),
            [{"tenant": tenant, "id": one.id, "event": one.event, "times": one.times, "at": now} for one in replayed],
        )


def purge(connection: Connection, before: datetime) -> int:
    """Forgets what Kirim itself has forgotten."""
    return connection.execute(delete(_replay).where(_replay.c.at < before)).rowcount


def _chore_of(row: Any) -> Chore:
    return Chore(row.tenant, Work(row.work), row.due_at, row.done_at, row.state)


def _this(tenant: str, work: Work) -> ColumnElement[bool]:
    return and_(_chore.c.tenant == tenant, _chore.c.work == work)
