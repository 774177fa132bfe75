"""What is told of records and pairs: numbers, and rows as they are stored. Nothing here is worked with."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, and_, func, or_, select

from crmsync.core.trouble import Reason
from crmsync.model import Kind
from crmsync.store import tables
from crmsync.store.records import HELD, KIRIM

_view = tables.View.__table__  # type: ignore[attr-defined]
_pair = tables.Pair.__table__  # type: ignore[attr-defined]
_due = tables.Due.__table__  # type: ignore[attr-defined]


def records(connection: Connection, tenant: str, endpoint: str, kind: Kind) -> int:
    """How many records of an endpoint are known to exist."""
    known = and_(_view.c.tenant == tenant, _view.c.endpoint == endpoint, _view.c.kind == kind, _view.c.exists)
    return int(connection.execute(select(func.count()).where(known)).scalar_one())


def counts(connection: Connection) -> list[Any]:
    """Per tenant and connection: pairs, linked, unlinked, due, held, parked, and since when the oldest is due that may
    go.
    """
    due = (
        select(
            _due.c.tenant,
            _due.c.connection,
            func.count().label("due"),
            func.count().filter(_due.c.not_before == HELD).label("held"),
            func.min(_due.c.first_at).filter(_due.c.not_before < HELD).label("oldest"),
        )
        .group_by(_due.c.tenant, _due.c.connection)
        .subquery()
    )
    linked = (
        select(
            _pair.c.tenant,
            _pair.c.connection,
            func.count().label("pairs"),
            func.count(_pair.c.crm_id).filter(_pair.c.reason != Reason.DELETED).label("linked"),
            func.count().filter(_pair.c.reason == Reason.DELETED).label("unlinked"),
            func.count().filter(_pair.c.parked).label("parked"),
        )
        .group_by(_pair.c.tenant, _pair.c.connection)
        .subquery()
    )
    return list(
        connection.execute(
            select(
                linked,
                func.coalesce(due.c.due, 0).label("due"),
                func.coalesce(due.c.held, 0).label("held"),
                due.c.oldest,
            )
            .outerjoin(due, and_(due.c.tenant == linked.c.tenant, due.c.connection == linked.c.connection))
            .order_by(linked.c.tenant, linked.c.connection)
        )
    )


def parked(connection: Connection, limit: int) -> list[Any]:
    """Pairs that cannot go on, with the reason; the latest first."""
    return list(
        connection.execute(
            select(_pair.c.tenant, _pair.c.connection, _pair.c.kirim_id, _pair.c.error)
            .where(_pair.c.parked)
            .order_by(_pair.c.synced_at.desc(), _pair.c.kirim_id)
            .limit(limit)
        )
    )


def parked_count(connection: Connection) -> int:
    """How many pairs cannot go on."""
    return int(connection.execute(select(func.count()).where(_pair.c.parked)).scalar_one())


def of_pair(
    connection: Connection, tenant: str, endpoint: str, kind: Kind, kirim_id: str, crm_id: str | None
) -> list[Any]:
    """The raw views of both ends of one pair, for telling people about it."""
    ends = or_(
        and_(_view.c.endpoint == KIRIM, _view.c.id == kirim_id),
        and_(_view.c.endpoint == endpoint, _view.c.id == crm_id),
    )
    return list(connection.execute(select(_view).where(_view.c.tenant == tenant, _view.c.kind == kind, ends)))
