"""Endpoints whose credential or account is the trouble: since when, why, and when they are probed. Their lanes rest.

A suspension ends in two steps. A probe that goes well puts the endpoint on trial: work goes on, carefully. Trouble
during the trial is the same suspension still; a trial that ends without any is the recovery.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, delete, select, update

from crmsync.store import tables
from crmsync.store.records import insert

_suspension = tables.Suspension.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Suspension:
    """A suspended endpoint. `look_at` is the next probe, or the end of the trial."""

    tenant: str
    endpoint: str
    since: datetime
    reason: str
    look_at: datetime
    probes: int
    trial: bool


def read(connection: Connection, tenant: str, endpoint: str) -> Suspension | None:
    """The suspension of an endpoint, if it is suspended or on trial."""
    row = connection.execute(select(_suspension).where(_this(tenant, endpoint))).first()
    return None if row is None else Suspension(*row)


def every(connection: Connection) -> list[Suspension]:
    """All of them."""
    rows = connection.execute(select(_suspension).order_by(_suspension.c.tenant, _suspension.c.endpoint))
    return [Suspension(*row) for row in rows]


def suspend(connection: Connection, tenant: str, endpoint: str, reason: str, look_at: datetime, now: datetime) -> None:
    """The endpoint cannot be used. One that is suspended already has been so since it was first."""
    new = insert(connection, _suspension)
    connection.execute(
        new.on_conflict_do_update(
            index_elements=["tenant", "endpoint"], set_={"reason": reason, "look_at": look_at, "trial": False}
        ),
        {
            "tenant": tenant,
            "endpoint": endpoint,
            "since": now,
            "reason": reason,
            "look_at": look_at,
            "probes": 0,
            "trial": False,
        },
    )


def probed(connection: Connection, taken: Suspension, look_at: datetime, *, trial: bool) -> None:
    """A probe ended: well, which begins the trial, or not."""
    connection.execute(
        update(_suspension)
        .where(_this(taken.tenant, taken.endpoint))
        .values(look_at=look_at, trial=trial, probes=taken.probes + 1)
    )


def end(connection: Connection, taken: Suspension) -> bool:
    """The trial went well; says whether it still was on trial."""
    on_trial = and_(_this(taken.tenant, taken.endpoint), _suspension.c.trial)
    return connection.execute(delete(_suspension).where(on_trial)).rowcount > 0


def _this(tenant: str, endpoint: str) -> ColumnElement[bool]:
    return and_(_suspension.c.tenant == tenant, _suspension.c.endpoint == endpoint)
