"""Segments: which labels are due, who has them from us, and how the last walk went."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, func, select, update

from crmsync.core.segments import Kept, Standing
from crmsync.store import tables
from crmsync.store.records import chunks, insert

_segment = tables.SegmentState.__table__  # type: ignore[attr-defined]
_member = tables.SegmentMember.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Managed:
    """A label that a segment manages: one tenant, one connection, one label."""

    tenant: str
    connection: str
    label: str

    def of(self, table: Any) -> Any:
        """Its rows."""
        return and_(table.c.tenant == self.tenant, table.c.connection == self.connection, table.c.label == self.label)


@dataclass(frozen=True, slots=True)
class Due:
    """A label whose segment is to be walked. `permitted`: however many may lose it this time."""

    label: str
    generation: int
    permitted: bool


def configure(connection: Connection, tenant: str, name: str, labels: Collection[str], now: datetime) -> None:
    """These labels are managed from now on; one that is new is due at once."""
    rows = [
        {
            "tenant": tenant,
            "connection": name,
            "label": label,
            "due_at": now,
            "generation": 1,
            "permitted": False,
            "told": {},
            "error": "",
        }
        for label in sorted(labels)
    ]
    if rows:
        connection.execute(insert(connection, _segment).on_conflict_do_nothing(), rows)


def ring(
    connection: Connection, tenant: str, now: datetime, *, name: str = "", label: str = "", permitted: bool = False
) -> int:
    """The labels of a tenant, of a connection, or one of them, are due now; says how many."""
    chosen = _segment.c.tenant == tenant
    for column, wanted in ((_segment.c.connection, name), (_segment.c.label, label)):
        if wanted:
            chosen = and_(chosen, column == wanted)
    values = {"due_at": now, **({"permitted": True} if permitted else {})}
    return connection.execute(update(_segment).where(chosen).values(values)).rowcount


def due(connection: Connection, tenant: str, name: str, now: datetime) -> list[Due]:
    """The labels of a connection that are due, the longest first."""
    here = and_(_segment.c.tenant == tenant, _segment.c.connection == name, _segment.c.due_at <= now)
    rows = connection.execute(select(_segment).where(here).order_by(_segment.c.due_at, _segment.c.label))
    return [Due(row.label, row.generation, row.permitted) for row in rows]


def generation(connection: Connection, managed: Managed) -> int:
    """Which request this is: it moves with every chunk that was accepted."""
    return int(connection.execute(select(_segment.c.generation).where(managed.of(_segment))).scalar_one())


def kept(connection: Connection, managed: Managed) -> dict[str, Kept]:
    """Everybody who is remembered with this label."""
    rows = connection.execute(
        select(_member.c.kirim_id, _member.c.standing, _member.c.since).where(managed.of(_member))
    )
    return {row.kirim_id: Kept(Standing(row.standing), row.since) for row in rows}


def remember(connection: Connection, managed: Managed, standing: Mapping[str, Kept | None]) -> None:
    """Stores where contacts stand by now; None forgets them."""
    rows = [
        {
            "tenant": managed.tenant,
            "connection": managed.connection,
            "label": managed.label,
            "kirim_id": contact,
            "standing": each.standing,
            "since": each.since,
        }
        for contact, each in sorted(standing.items())
        if each is not None
    ]
    if rows:
        new = insert(connection, _member)
        connection.execute(
            new.on_conflict_do_update(
                index_elements=["tenant", "connection", "label", "kirim_id"],
                set_={"standing": new.excluded.standing, "since": new.excluded.since},
            ),
            rows,
        )
    for some in chunks([contact for contact, each in standing.items() if each is None]):
        connection.execute(delete(_member).where(managed.of(_member), _member.c.kirim_id.in_(some)))


def accepted(
    connection: Connection, managed: Managed, contacts: Collection[str], now: datetime, *, attached: bool
) -> None:
    """Kirim took a chunk: it is remembered, and the next request is another one."""
    remember(connection, managed, dict.fromkeys(contacts, Kept(Standing.APPLIED, now) if attached else None))
    connection.execute(update(_segment).where(managed.of(_segment)).values(generation=_segment.c.generation + 1))


def end(
    connection: Connection,
    managed: Managed,
    now: datetime,
    due_at: datetime,
    told: Mapping[str, Any],
    error: str = "",
) -> None:
    """A walk came to its end: what there is to tell of it, and when the next one is due."""
    connection.execute(
        update(_segment)
        .where(managed.of(_segment))
        .values(done_at=now, due_at=due_at, told=dict(told), error=error, permitted=False)
    )


def overview(connection: Connection, tenant: str) -> list[Any]:
    """Every managed label of a tenant, with how many have it from us."""
    counted = (
        select(_member.c.connection, _member.c.label, func.count().label("applied"))
        .where(_member.c.tenant == tenant, _member.c.standing != Standing.COMING)
        .group_by(_member.c.connection, _member.c.label)
        .subquery()
    )
    joined = and_(counted.c.connection == _segment.c.connection, counted.c.label == _segment.c.label)
    rows = select(_segment, func.coalesce(counted.c.applied, 0).label("applied")).outerjoin(counted, joined)
    ordered = rows.where(_segment.c.tenant == bindparam("of_tenant")).order_by(_segment.c.connection, _segment.c.label)
    return list(connection.execute(ordered, {"of_tenant": tenant}))
