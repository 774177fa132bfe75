"""What is paused on a connection, and how many records each kind of write touched lately.

What a pause keeps back stays due, at `HELD`, until somebody resumes it or one of its records changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, func, or_, select, update

from crmsync.store import tables
from crmsync.store.bulk import Bulk, Query, keyed
from crmsync.store.columns import microseconds
from crmsync.store.records import HELD, insert

_pause = tables.Pause.__table__  # type: ignore[attr-defined]
_tally = tables.Tally.__table__  # type: ignore[attr-defined]
_due = tables.Due.__table__  # type: ignore[attr-defined]
_pair = tables.Pair.__table__  # type: ignore[attr-defined]

SLOT = timedelta(minutes=5)
"""What was written is counted by such stretches of time."""


@dataclass(frozen=True, slots=True)
class Pause:
    """A kind of write (`core.brakes.Brake`, or `all`) that is paused, since when, by whom and why."""

    tenant: str
    connection: str
    what: str
    since: datetime
    by: str
    reason: str


def begin(connection: Connection, pause: Pause) -> bool:
    """Pauses; says whether it was not paused before."""
    new = insert(connection, _pause).on_conflict_do_nothing().returning(_pause.c.what)
    row = {name: getattr(pause, name) for name in pause.__slots__}
    return connection.execute(new, row).first() is not None


def end(connection: Connection, tenant: str, name: str, kinds: Collection[str], now: datetime) -> list[str]:
    """Resumes these kinds; what was kept back is due, and what was written is not counted any more. Says which were
    paused.
    """
    here = and_(_pause.c.tenant == tenant, _pause.c.connection == name, _pause.c.what.in_(sorted(kinds)))
    ended = list(connection.execute(delete(_pause).where(here).returning(_pause.c.what)).scalars())
    counted = and_(_tally.c.tenant == tenant, _tally.c.connection == name, _tally.c.what.in_(ended))
    connection.execute(delete(_tally).where(counted))
    held = and_(_due.c.tenant == tenant, _due.c.connection == name, _due.c.not_before == HELD)
    connection.execute(update(_due).where(held).values(not_before=now))
    return sorted(ended)


def paused(connection: Connection, tenant: str, name: str) -> frozenset[str]:
    """What is paused on a connection."""
    return frozenset(what for (what,) in _PAUSED.rows(connection, of_tenant=tenant, of_connection=name))


_PAUSED = Query(lambda dialect: select(_pause.c.what).where(keyed(_pause, "tenant", "connection")))


def every(connection: Connection) -> list[tuple[Pause, int]]:
    """Everything that is paused, with how many pairs of the connection are kept back."""
    held = (
        select(_due.c.tenant, _due.c.connection, func.count().label("held"))
        .where(_due.c.not_before == HELD)
        .group_by(_due.c.tenant, _due.c.connection)
        .subquery()
    )
    same = and_(held.c.tenant == _pause.c.tenant, held.c.connection == _pause.c.connection)
    rows = connection.execute(
        select(_pause, func.coalesce(held.c.held, 0).label("held"))
        .outerjoin(held, same)
        .order_by(_pause.c.tenant, _pause.c.connection, _pause.c.what)
    )
    return [(Pause(r.tenant, r.connection, r.what, r.since, r.by, r.reason), int(r.held)) for r in rows]


def linked(connection: Connection, tenant: str, name: str) -> int:
    """How many records a connection has linked."""
    here = and_(_pair.c.tenant == tenant, _pair.c.connection == name, _pair.c.crm_id.is_not(None))
    return int(connection.execute(select(func.count()).where(here)).scalar_one())


def used(
    connection: Connection, tenant: str, name: str, scopes: Iterable[str], since: datetime
) -> dict[tuple[str, str], int]:
    """How many records were touched, by scope and kind: in a run since ever, otherwise since a moment."""
    found: dict[tuple[str, str], int] = {}
    for scope in set(scopes):
        where = {"of_tenant": tenant, "of_connection": name, "of_scope": scope}
        rows = _USED.rows(connection, **where, since=microseconds(since))
        found.update({(scope, what): int(touched) for what, touched in rows})
    return found


_USED = Query(
    lambda dialect: (
        select(_tally.c.what, func.sum(_tally.c.count).label("touched"))
        .where(
            keyed(_tally, "tenant", "connection", "scope"),
            or_(_tally.c.scope != "", _tally.c.slot > bindparam("since")),
        )
        .group_by(_tally.c.what)
    )
)


def note(connection: Connection, tenant: str, name: str, touched: Counter[tuple[str, Any]], now: datetime) -> None:
    """Records were touched, by scope and kind."""
    if not touched:
        return
    seconds = SLOT.total_seconds()
    slot = datetime.fromtimestamp(now.timestamp() // seconds * seconds, UTC)
    where = {"tenant": tenant, "connection": name, "slot": slot}
    rows = [{**where, "scope": scope, "what": str(what), "count": count} for (scope, what), count in touched.items()]
    _NOTE.run(connection, sorted(rows, key=lambda row: (row["scope"], row["what"])))


def _noted(insert: Callable[[Any], Any]) -> Any:
    new = insert(_tally)
    return new.on_conflict_do_update(
        index_elements=["tenant", "connection", "scope", "what", "slot"],
        set_={"count": _tally.c.count + new.excluded["count"]},
    )


_NOTE = Bulk(_noted, [column.name for column in _tally.c])


def purge(connection: Connection, before: datetime) -> int:
    """Forgets what was counted long ago."""
    return connection.execute(delete(_tally).where(_tally.c.slot < before)).rowcount
