"""Deliveries on their way from the inbox to an end, and the items they were made of."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Any

from sqlalchemy import Connection, and_, bindparam, case, delete, func, select, update

from crmsync.store import tables
from crmsync.store.records import chunks, insert

_delivery = tables.Delivery.__table__  # type: ignore[attr-defined]
_item = tables.SeenItem.__table__  # type: ignore[attr-defined]


class DeliveryState(IntEnum):
    """Where a delivery stands."""

    PENDING = 0
    DONE = 1
    DEAD = 2


class Ending(StrEnum):
    """How an item ended."""

    APPLIED = "applied"  # it said something new
    SUPERSEDED = "superseded"  # something newer, or the same, was known
    REREAD = "reread"  # it made us read the record again
    IGNORED = "ignored"  # understood, and no concern of the mapping
    DEAD = "dead"  # broken


@dataclass(frozen=True, slots=True)
class Pending:
    """A delivery that waits to be understood. `attempts` counts the starts, this one included."""

    id: int
    body: bytes
    received_at: datetime
    attempts: int


@dataclass(frozen=True, slots=True)
class EndedItem:
    """One item and its end."""

    key: str
    type: str
    delivery_id: int
    outcome: Ending
    reason: str = ""


def take(connection: Connection, tenant: str, source: str, limit: int, together: int) -> list[Pending]:
    """The oldest pending deliveries of a source. The attempt is counted before any work on them begins.

    Those past `together` attempts are not worked on in company: their attempt is counted by `start`, one by one,
    so that none is charged with the harm that another does.
    """
    rows = connection.execute(
        select(_delivery.c.id, _delivery.c.body, _delivery.c.received_at, _delivery.c.attempts)
        .where(_delivery.c.tenant == tenant, _delivery.c.source == source, _delivery.c.state == DeliveryState.PENDING)
        .order_by(_delivery.c.id)
        .limit(limit)
    ).all()
    counted = [{"of_id": row.id} for row in rows if row.attempts < together]
    if counted:
        connection.execute(
            update(_delivery).where(_delivery.c.id == bindparam("of_id")).values(attempts=_delivery.c.attempts + 1),
            counted,
        )
    return [Pending(row.id, row.body, row.received_at, row.attempts + 1) for row in rows]


def start(connection: Connection, delivery: Pending) -> None:
    """Work on a delivery that is worked on alone begins."""
    connection.execute(update(_delivery).where(_delivery.c.id == delivery.id).values(attempts=delivery.attempts))


def known_items(connection: Connection, tenant: str, source: str, keys: Collection[str]) -> set[str]:
    """Which of these items were seen before."""
    known: set[str] = set()
    for some in chunks(keys):
        known.update(
            connection.execute(
                select(_item.c.key).where(_item.c.tenant == tenant, _item.c.source == source, _item.c.key.in_(some))
            ).scalars()
        )
    return known


def end(
    connection: Connection,
    tenant: str,
    source: str,
    ended: Mapping[int, str],
    items: Sequence[EndedItem],
    now: datetime,
) -> None:
    """Ends deliveries: `ended` maps each id to its reason, empty for one that was understood; others are dead."""
    if items:
        connection.execute(
            insert(connection, _item).on_conflict_do_nothing(),
            [{"tenant": tenant, "source": source, "at": now, **asdict(item)} for item in items],
        )
    if ended:
        connection.execute(
            update(_delivery)
            .where(_delivery.c.id == bindparam("of_id"))
            .values(state=bindparam("to_state"), reason=bindparam("to_reason")),
            [
                {
                    "of_id": id,
                    "to_state": DeliveryState.DEAD if reason else DeliveryState.DONE,
                    "to_reason": reason,
                }
                for id, reason in ended.items()
            ],
        )


def counts(connection: Connection, since: datetime) -> list[Any]:
    """Per tenant and source: pending, dead, received since a time, and since when the oldest waits."""
    recent = and_(_delivery.c.received_at >= since)
    return list(
        connection.execute(
            select(
                _delivery.c.tenant,
                _delivery.c.source,
                func.count().filter(_delivery.c.state == DeliveryState.PENDING).label("pending"),
                func.count().filter(_delivery.c.state == DeliveryState.DEAD).label("dead"),
                func.count().filter(recent).label("received"),
                func.min(case((_delivery.c.state == DeliveryState.PENDING, _delivery.c.received_at))).label("oldest"),
            ).group_by(_delivery.c.tenant, _delivery.c.source)
        )
    )


def item_counts(connection: Connection, since: datetime) -> list[Any]:
    """Items since a time, per tenant, source, type, outcome and reason."""
    return list(
        connection.execute(
            select(
                _item.c.tenant,
                _item.c.source,
                _item.c.type,
                _item.c.outcome,
                _item.c.reason,
                func.count().label("count_"),
            )
            .where(_item.c.at >= since)
            .group_by(_item.c.tenant, _item.c.source, _item.c.type, _item.c.outcome, _item.c.reason)
        )
    )


def item(connection: Connection, tenant: str, source: str, key: str) -> Any | None:
    """One item that was seen: its type, and when the delivery that brought it was received."""
    return connection.execute(
        select(_item.c.type, func.coalesce(_delivery.c.received_at, _item.c.at).label("received_at"))
        .outerjoin(_delivery, _delivery.c.id == _item.c.delivery_id)
        .where(_item.c.tenant == tenant, _item.c.source == source, _item.c.key == key)
    ).first()


def purge(connection: Connection, before: datetime) -> int:
    """Forgets understood deliveries and items that no sender can repeat any more; the dead stay."""
    gone = connection.execute(
        delete(_delivery).where(_delivery.c.received_at < before, _delivery.c.state == DeliveryState.DONE)
    ).rowcount
    connection.execute(delete(_item).where(_item.c.at < before))
    return gone
