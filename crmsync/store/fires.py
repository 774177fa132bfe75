"""Planned moments of schedules: one insert claims one, so that of several nodes one acts on it, and only once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, and_, delete, func, select, update

from crmsync.store import tables
from crmsync.store.records import insert

_fire = tables.Fire.__table__  # type: ignore[attr-defined]

BEGUN = "begun"
"""The note of a moment at which nothing was done: from here on moments count as missed."""


@dataclass(frozen=True, slots=True)
class Fire:
    """A moment that was claimed: which one it was, when that happened and where, and what came of it."""

    tenant: str
    name: str
    slot: datetime
    node: str
    at: datetime
    note: str


def claim(connection: Connection, fire: Fire) -> bool:
    """Whether this node is the one that acts on a moment."""
    new = insert(connection, _fire).on_conflict_do_nothing().returning(_fire.c.name)
    row = {name: getattr(fire, name) for name in fire.__slots__}
    return connection.execute(new, row).first() is not None


def note(connection: Connection, fire: Fire, text: str) -> None:
    """What came of acting on a moment."""
    here = and_(_fire.c.tenant == fire.tenant, _fire.c.name == fire.name, _fire.c.slot == fire.slot)
    connection.execute(update(_fire).where(here).values(note=text))


def last(connection: Connection, tenant: str, name: str) -> Fire | None:
    """The latest moment of a schedule that anybody claimed."""
    here = and_(_fire.c.tenant == tenant, _fire.c.name == name)
    row = connection.execute(select(_fire).where(here).order_by(_fire.c.slot.desc()).limit(1)).first()
    return None if row is None else Fire(row.tenant, row.name, row.slot, row.node, row.at, row.note)


def purge(connection: Connection, before: datetime) -> int:
    """Forgets moments long past; the latest of each schedule stays, since what comes after it may have been missed."""
    other = _fire.alias()
    same = and_(other.c.tenant == _fire.c.tenant, other.c.name == _fire.c.name)
    latest = select(func.max(other.c.slot)).where(same).scalar_subquery()
    return connection.execute(delete(_fire).where(_fire.c.at < before, _fire.c.slot < latest)).rowcount
