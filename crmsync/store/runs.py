"""Runs: pieces of work that go through many records, page by page, and survive whoever does them.

A run belongs to one lane at a time, and to the engine's fence with it. Every step names the step it follows, so that
of two workers that think the run is theirs only one stores anything.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, and_, bindparam, func, not_, select, true, update

from crmsync.errors import Fenced
from crmsync.model import Kind
from crmsync.store import tables
from crmsync.store.bulk import Bulk, Lookup, given, keyed
from crmsync.store.lanes import RUNNING
from crmsync.store.records import Rank, insert

_run = tables.Run.__table__  # type: ignore[attr-defined]
_due = tables.Due.__table__  # type: ignore[attr-defined]
_pair = tables.Pair.__table__  # type: ignore[attr-defined]
_pause = tables.Pause.__table__  # type: ignore[attr-defined]
_stale = tables.Stale.__table__  # type: ignore[attr-defined]

Doc = Mapping[str, Any]
"""What a run keeps as JSON."""


class State(StrEnum):
    """How it goes with a run."""

    RUNNING = RUNNING
    STOPPED = "stopped"  # by a person, and can go on
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Run:
    """A run as it stands. `place` is where it goes on, `counts` what it has come across so far."""

    id: int
    tenant: str
    kind: str
    endpoint: str
    state: State
    options: Doc
    place: Doc
    counts: Doc
    steps: int
    began_at: datetime
    moved_at: datetime
    ended_at: datetime | None
    error: str

    @property
    def cause(self) -> str:
        """What it is called in the history of what it finds."""
        return f"run:{self.id}"


@dataclass(frozen=True, slots=True)
class Step:
    """Where a run stands after some of its work. `due_at` is when it goes on."""

    endpoint: str
    place: Doc
    counts: Doc
    due_at: datetime
    state: State = State.RUNNING
    error: str = ""


def begin(
    connection: Connection, tenant: str, kind: str, endpoint: str, options: Doc, place: Doc, now: datetime
) -> Run:
    """A new run, which is due at once."""
    row = connection.execute(
        insert(connection, _run).returning(_run),
        {
            "tenant": tenant,
            "kind": kind,
            "endpoint": endpoint,
            "state": State.RUNNING,
            "options": dict(options),
            "place": dict(place),
            "counts": {},
            "steps": 0,
            "began_at": now,
            "due_at": now,
            "moved_at": now,
            "ended_at": None,
            "error": "",
        },
    ).one()
    return _read(row)


def find(connection: Connection, id: int) -> Run | None:
    """A run by its number."""
    row = connection.execute(select(_run).where(_run.c.id == id)).first()
    return None if row is None else _read(row)


def unfinished(connection: Connection, tenant: str, kind: str) -> Run | None:
    """The latest run of a kind that has not come to an end, if there is one."""
    states = (State.RUNNING, State.STOPPED)
    row = connection.execute(
        select(_run)
        .where(_run.c.tenant == tenant, _run.c.kind == kind, _run.c.state.in_(states))
        .order_by(_run.c.id.desc())
        .limit(1)
    ).first()
    return None if row is None else _read(row)


def due(connection: Connection, tenant: str, endpoint: str, now: datetime) -> list[Run]:
    """The runs that are to go on in a lane; who waited longest comes first."""
    rows = connection.execute(
        select(_run)
        .where(
            _run.c.tenant == tenant, _run.c.endpoint == endpoint, _run.c.state == State.RUNNING, _run.c.due_at <= now
        )
        .order_by(_run.c.due_at, _run.c.id)
    )
    return [_read(row) for row in rows]


def latest(connection: Connection, limit: int) -> list[Run]:
    """The latest runs of every tenant, for people."""
    return [_read(row) for row in connection.execute(select(_run).order_by(_run.c.id.desc()).limit(limit))]


def save(connection: Connection, run: Run, step: Step, now: datetime) -> Run:
    """A step is done; call it where what it found is stored. Raises `Fenced` if the run went on without us."""
    after: dict[str, Any] = {
        "endpoint": step.endpoint,
        "place": dict(step.place),
        "counts": dict(step.counts),
        "state": step.state,
        "error": step.error,
        "moved_at": now,
        "ended_at": now if step.state in (State.DONE, State.FAILED) else None,
        "steps": run.steps + 1,
    }
    to = {f"to_{name}": value for name, value in after.items()} | {"to_due_at": step.due_at}
    where = {"of_id": run.id, "of_steps": run.steps, "of_state": State.RUNNING}
    if not _SAVE.run(connection, [where | to]):
        raise Fenced(f"run {run.id} was stopped, or goes on elsewhere")
    return replace(run, **after)


_SAVE = Bulk(
    lambda insert: (
        update(_run)
        .where(keyed(_run, "id", "steps", "state"))
        .values(given("endpoint", "place", "counts", "state", "error", "due_at", "moved_at", "ended_at", "steps"))
    )
)


def stop(connection: Connection, id: int, now: datetime) -> bool:
    """A person wants a run to stop where it is; says whether it was running."""
    return _turn(connection, id, State.RUNNING, State.STOPPED, now)


def resume(connection: Connection, id: int, now: datetime) -> bool:
    """A run that was stopped goes on; says whether it was stopped."""
    return _turn(connection, id, State.STOPPED, State.RUNNING, now)


def give_up(connection: Connection, id: int, reason: str, now: datetime) -> None:
    """A run that is not to go on; what it saw is forgotten."""
    connection.execute(
        update(_run)
        .where(_run.c.id == id, _run.c.ended_at.is_(None))
        .values(state=State.FAILED, error=reason, ended_at=now, steps=_run.c.steps + 1)
    )


def _turn(connection: Connection, id: int, before: State, after: State, now: datetime) -> bool:
    done = connection.execute(
        update(_run)
        .where(_run.c.id == id, _run.c.state == before)
        .values(state=after, due_at=now, steps=_run.c.steps + 1)
    )
    return done.rowcount > 0


# -- what a run made due


def waiting(connection: Connection, tenant: str, endpoint: str, most: int) -> int:
    """How many pairs that runs found are due on a connection; counts no further than `most`."""
    some = (
        select(_due.c.kirim_id)
        .where(_due.c.tenant == tenant, _due.c.connection == endpoint, _due.c.rank == Rank.RUN)
        .limit(most)
    )
    return int(connection.execute(select(func.count()).select_from(some.subquery())).scalar_one())


def left(connection: Connection, run: Run, endpoints: Collection[str], soon: datetime) -> tuple[int, int]:
    """What a run made due and is not done yet: how much of it comes soon, and how much is paused or put off."""
    pairs = and_(_due.c.tenant == run.tenant, _due.c.connection.in_(list(endpoints)), _due.c.cause == run.cause)
    stale = and_(_stale.c.tenant == run.tenant, _stale.c.cause == run.cause, _stale.c.reason == "")
    paused = select(_pause.c.connection).where(_pause.c.tenant == run.tenant, _pause.c.what == "all")
    near, far = 0, 0
    for table, mine, going in ((_due, pairs, _due.c.connection.not_in(paused)), (_stale, stale, true())):
        comes = and_(table.c.not_before <= soon, going)
        row = connection.execute(
            select(func.count().filter(comes).label("near"), func.count().filter(not_(comes)).label("far")).where(mine)
        ).one()
        near, far = near + row.near, far + row.far
    return near, far


def parked(connection: Connection, tenant: str, endpoints: Collection[str], since: datetime) -> int:
    """How many pairs came to a dead end since then."""
    return int(
        connection.execute(
            select(func.count()).where(
                _pair.c.parked,
                _pair.c.tenant == tenant,
                _pair.c.connection.in_(list(endpoints)),
                _pair.c.synced_at >= since,
            )
        ).scalar_one()
    )


def without_pair(
    connection: Connection, tenant: str, endpoint: str, kind: Kind, kirim_ids: Collection[str]
) -> set[str]:
    """The Kirim records that have no pair on a connection yet."""
    where = {"tenant": tenant, "connection": endpoint, "kind": kind.value}
    return set(kirim_ids) - {kirim_id for (kirim_id,) in _PAIRED.of(connection, kirim_ids, **where)}


_PAIRED = Lookup(
    select(_pair.c.kirim_id).where(
        _pair.c.tenant == bindparam("tenant"),
        _pair.c.connection == bindparam("connection"),
        _pair.c.kind == bindparam("kind"),
    ),
    _pair.c.kirim_id,
)


def _read(row: Any) -> Run:
    return Run(
        row.id,
        row.tenant,
        row.kind,
        row.endpoint,
        State(row.state),
        row.options,
        row.place,
        row.counts,
        row.steps,
        row.began_at,
        row.moved_at,
        row.ended_at,
        row.error,
    )
