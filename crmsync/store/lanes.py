"""Lanes: which of them have work that is due, and what each remembers between two turns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, func, literal, or_, select, union_all

from crmsync.store import tables
from crmsync.store.records import KIRIM, Rank, insert

_lane = tables.LaneState.__table__  # type: ignore[attr-defined]
_delivery = tables.Delivery.__table__  # type: ignore[attr-defined]
_stale = tables.Stale.__table__  # type: ignore[attr-defined]
_due = tables.Due.__table__  # type: ignore[attr-defined]
_cursor = tables.Cursor.__table__  # type: ignore[attr-defined]
_chore = tables.Chore.__table__  # type: ignore[attr-defined]
_entry = tables.TimelineEntry.__table__  # type: ignore[attr-defined]
_planned = tables.Planned.__table__  # type: ignore[attr-defined]
_segment = tables.SegmentState.__table__  # type: ignore[attr-defined]
_suspension = tables.Suspension.__table__  # type: ignore[attr-defined]
_pause = tables.Pause.__table__  # type: ignore[attr-defined]
_run = tables.Run.__table__  # type: ignore[attr-defined]

RUNNING = "running"
"""The state of a run that is to be worked on."""

Fence = Callable[[Connection], None]
"""Raises `Fenced` inside a transaction whose lane belongs to another node by now."""


class Work(StrEnum):
    """What a lane does. The kinds of work on one endpoint do not wait for each other."""

    OBSERVE = "observe"  # deliveries that came in from it
    REREAD = "reread"  # its records that have to be read again
    POLL = "poll"  # its feed of changes
    SYNC = "sync"  # pairs to be decided and written
    BULK = "bulk"  # the same for those that a run found: what is live does not wait for them
    LOG = "log"  # messages for its timelines
    APPLY = "apply"  # what a person approved of, where nothing is written otherwise
    SEGMENTS = "segments"  # its segments, for Kirim's labels
    WATCH = "watch"  # its subscription, to be looked at
    SWEEP = "sweep"  # deliveries that it gave up, to be asked for again
    RETENTION = "retention"  # what a tenant wants kept no longer
    RUN = "run"  # a walk over many of its records
    PROBE = "probe"  # whether it can be used again: its other lanes wait for that


WRITES = frozenset({Work.SYNC, Work.BULK, Work.LOG, Work.APPLY, Work.SEGMENTS})
"""What rests while all of a connection is paused; it is observed all the same."""

NEEDS_ENDPOINT = WRITES | {Work.REREAD, Work.POLL, Work.RUN}
"""What rests while the endpoint is suspended. The watch and the sweep need less of it, and rest by themselves."""


@dataclass(frozen=True, slots=True, order=True)
class Lane:
    """A tenant, one of its endpoints, and a kind of work: at most one worker is in it at a time."""

    tenant: str
    endpoint: str
    work: Work

    def __str__(self) -> str:
        return f"{self.tenant}/{self.endpoint}/{self.work}"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A lane with work. For pairs to be written and records to be read: how many, and since when the oldest waits;
    else one, since now."""

    lane: Lane
    count: int
    oldest: datetime


def _waiting() -> Any:
    """Asked a few times a second, so it is put together once."""
    now = bindparam("now", type_=tables.Instant())
    sources = union_all(
        select(
            _delivery.c.tenant,
            _delivery.c.source.label("endpoint"),
            literal(Work.OBSERVE.value).label("work"),
            literal(1).label("amount"),
            now.label("oldest"),
        )
        .where(_delivery.c.state == 0, or_(_delivery.c.not_before.is_(None), _delivery.c.not_before <= now))
        .distinct(),
        select(
            _stale.c.tenant, _stale.c.endpoint, literal(Work.REREAD.value), func.count(), func.min(_stale.c.first_at)
        )
        .where(_stale.c.not_before <= now)
        .group_by(_stale.c.tenant, _stale.c.endpoint),
        select(_cursor.c.tenant, _cursor.c.endpoint, literal(Work.POLL.value), literal(1), now)
        .where(_cursor.c.due_at <= now)
        .distinct(),
        select(_due.c.tenant, _due.c.connection, literal(Work.SYNC.value), func.count(), func.min(_due.c.first_at))
        .where(_due.c.not_before <= now, _due.c.rank == Rank.LIVE)
        .group_by(_due.c.tenant, _due.c.connection),
        select(_due.c.tenant, _due.c.connection, literal(Work.BULK.value), func.count(), func.min(_due.c.first_at))
        .where(_due.c.not_before <= now, _due.c.rank != Rank.LIVE)
        .group_by(_due.c.tenant, _due.c.connection),
        select(_entry.c.tenant, _entry.c.connection, literal(Work.LOG.value), literal(1), now)
        .where(_entry.c.not_before <= now)
        .distinct(),
        select(_planned.c.tenant, _planned.c.connection, literal(Work.APPLY.value), literal(1), now)
        .where(_planned.c.not_before <= now)
        .distinct(),
        select(_segment.c.tenant, _segment.c.connection, literal(Work.SEGMENTS.value), literal(1), now)
        .where(_segment.c.due_at <= now)
        .distinct(),
        select(_chore.c.tenant, literal(KIRIM), _chore.c.work, literal(1), now).where(_chore.c.due_at <= now),
        select(_run.c.tenant, _run.c.endpoint, literal(Work.RUN.value), literal(1), now)
        .where(_run.c.state == RUNNING, _run.c.due_at <= now)
        .distinct(),
        select(_suspension.c.tenant, _suspension.c.endpoint, literal(Work.PROBE.value), literal(1), now).where(
            _suspension.c.look_at <= now
        ),
    ).subquery()
    same_lane = and_(
        _lane.c.tenant == sources.c.tenant, _lane.c.endpoint == sources.c.endpoint, _lane.c.work == sources.c.work
    )
    rested = or_(_lane.c.not_before.is_(None), _lane.c.not_before <= now)
    kept_back = and_(
        _suspension.c.tenant == sources.c.tenant,
        _suspension.c.endpoint == sources.c.endpoint,
        _suspension.c.trial.is_(False),
        sources.c.work.in_(sorted(NEEDS_ENDPOINT)),
    )
    paused = and_(
        _pause.c.tenant == sources.c.tenant,
        _pause.c.connection == sources.c.endpoint,
        _pause.c.what == literal("all"),
        sources.c.work.in_(sorted(WRITES)),
    )
    joined = select(sources).outerjoin(_lane, same_lane).outerjoin(_suspension, kept_back).outerjoin(_pause, paused)
    return joined.where(rested, _suspension.c.tenant.is_(None), _pause.c.tenant.is_(None))


_WAITING = _waiting()


def waiting(connection: Connection, now: datetime) -> list[Waiting]:
    """Every lane that has work which may begin now."""
    rows = connection.execute(_WAITING, {"now": now})
    return [Waiting(Lane(row.tenant, row.endpoint, Work(row.work)), row.amount, row.oldest) for row in rows]


def rest(connection: Connection, lane: Lane, until: datetime, suspended: str = "") -> None:
    """The lane does nothing before `until`; `suspended` says why if an operator should know."""
    new = insert(connection, _lane)
    connection.execute(
        new.on_conflict_do_update(
            index_elements=["tenant", "endpoint", "work"],
            set_={"not_before": until, "suspended": suspended, "attempts": _lane.c.attempts + 1},
        ),
        {
            "tenant": lane.tenant,
            "endpoint": lane.endpoint,
            "work": lane.work,
            "not_before": until,
            "suspended": suspended,
            "attempts": 1,
        },
    )


def resting(connection: Connection, lane: Lane, now: datetime) -> bool:
    """Whether the lane is to do nothing yet."""
    here = and_(_lane.c.tenant == lane.tenant, _lane.c.endpoint == lane.endpoint, _lane.c.work == lane.work)
    return connection.execute(select(_lane.c.tenant).where(here, _lane.c.not_before > now)).first() is not None


def failures(connection: Connection, lane: Lane) -> int:
    """How often in a row the lane had to rest because its endpoint failed."""
    return (
        connection.execute(
            select(_lane.c.attempts).where(
                _lane.c.tenant == lane.tenant, _lane.c.endpoint == lane.endpoint, _lane.c.work == lane.work
            )
        ).scalar()
        or 0
    )


def well(connection: Connection, lane: Lane) -> None:
    """The endpoint answered: whatever kept the lane back is over."""
    connection.execute(
        delete(_lane).where(_lane.c.tenant == lane.tenant, _lane.c.endpoint == lane.endpoint, _lane.c.work == lane.work)
    )


def states(connection: Connection) -> list[Any]:
    """The lanes that rest because their endpoint failed, for people."""
    return list(connection.execute(select(_lane).order_by(_lane.c.tenant, _lane.c.endpoint, _lane.c.work)))
