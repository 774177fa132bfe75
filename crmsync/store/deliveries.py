"""Deliveries on their way from the inbox to an end, and the items they were made of."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Any

from sqlalchemy import Connection, and_, bindparam, case, delete, func, literal_column, not_, or_, select, update

from crmsync.store import tables
from crmsync.store.bulk import Bulk, Lookup

_delivery = tables.Delivery.__table__  # type: ignore[attr-defined]
_item = tables.SeenItem.__table__  # type: ignore[attr-defined]
_COLUMNS = ("tenant", "source", "key", "type", "delivery_id", "outcome", "reason", "at")


def _replacing(insert: Callable[[Any], Any]) -> Any:
    new = insert(_item)
    changed = {name: new.excluded[name] for name in ("outcome", "reason", "delivery_id", "at")}
    return new.on_conflict_do_update(index_elements=["tenant", "source", "key"], set_=changed)


_ADD = Bulk(lambda insert: insert(_item).on_conflict_do_nothing(), _COLUMNS)
_REPLACE = Bulk(_replacing, _COLUMNS)
_KNOWN = Lookup(
    select(_item.c.key).where(_item.c.tenant == bindparam("of_tenant"), _item.c.source == bindparam("of_source")),
    _item.c.key,
)


class DeliveryState(IntEnum):
    """Where a delivery stands."""

    PENDING = 0
    DONE = 1
    DEAD = 2
    DROPPED = 3  # dead, and an operator said that this is right


class Ending(StrEnum):
    """How an item ended."""

    APPLIED = "applied"  # it said something new
    SUPERSEDED = "superseded"  # something newer, or the same, was known
    REREAD = "reread"  # it made us read the record again
    IGNORED = "ignored"  # understood, and no concern of the mapping
    DEAD = "dead"  # broken
    AGAIN = "again"  # it was dead, and an operator wants it tried again: no end, until its delivery has one
    DROPPED = "dropped"  # it was dead, and an operator said that this is right


@dataclass(frozen=True, slots=True)
class Pending:
    """A delivery that waits to be understood. `attempts` counts the starts, this one included.

    `forced`: its items count as new even where they are known.
    """

    id: int
    body: bytes
    received_at: datetime
    attempts: int
    forced: bool = False


@dataclass(frozen=True, slots=True)
class EndedItem:
    """One item and its end."""

    key: str
    type: str
    delivery_id: int
    outcome: Ending
    reason: str = ""


def take(
    connection: Connection,
    tenant: str,
    source: str,
    limit: int,
    now: datetime,
    *,
    together: int,
    alone: int,
    most_bytes: int,
) -> list[Pending]:
    """The oldest pending deliveries of a source: at most `limit`, of about `most_bytes`, and `alone` suspected ones.

    The attempt is counted before any work on them begins. Those past `together` attempts are suspected of ending the
    process and are not worked on in company: their attempt is counted by `start`, one by one, so that none is
    charged with the harm that another does.
    """
    waiting = (
        select(_delivery.c.id, _delivery.c.attempts, func.length(_delivery.c.body).label("size"))
        .where(
            _delivery.c.tenant == tenant,
            _delivery.c.source == source,
            _delivery.c.state == DeliveryState.PENDING,
            or_(_delivery.c.not_before.is_(None), _delivery.c.not_before <= now),
        )
        .order_by(_delivery.c.id)
    )
    calm = list(_within(connection.execute(waiting.where(_delivery.c.attempts < together).limit(limit)), most_bytes))
    suspected = connection.execute(waiting.where(_delivery.c.attempts >= together).limit(alone))
    chosen = calm + [row.id for row in suspected]
    if calm:
        connection.execute(
            update(_delivery).where(_delivery.c.id == bindparam("of_id")).values(attempts=_delivery.c.attempts + 1),
            [{"of_id": id} for id in calm],
        )
    counted = frozenset(calm)
    rows = connection.execute(
        select(_delivery.c.id, _delivery.c.body, _delivery.c.received_at, _delivery.c.attempts, _delivery.c.forced)
        .where(_delivery.c.id.in_(chosen))
        .order_by(_delivery.c.id)
    )
    return [
        Pending(row.id, row.body, row.received_at, row.attempts + (row.id not in counted), bool(row.forced))
        for row in rows
    ]


def _within(rows: Iterable[Any], most_bytes: int) -> Iterator[int]:
    """The ids of the first rows whose bodies fit together; at least one."""
    total = 0
    for row in rows:
        total += row.size
        if total > most_bytes and total > row.size:
            return
        yield row.id


def start(connection: Connection, delivery: Pending, until: datetime) -> None:
    """Work on a delivery that is worked on alone begins. If the process ends by it, it rests until then."""
    connection.execute(
        update(_delivery).where(_delivery.c.id == delivery.id).values(attempts=delivery.attempts, not_before=until)
    )


def known_items(connection: Connection, tenant: str, source: str, keys: Collection[str]) -> set[str]:
    """Which of these items were seen before."""
    return {key for (key,) in _KNOWN.of(connection, keys, of_tenant=tenant, of_source=source)}


def end(
    connection: Connection,
    tenant: str,
    source: str,
    ended: Mapping[int, str],
    items: Sequence[EndedItem],
    now: datetime,
    forced: Collection[int] = (),
) -> None:
    """Ends deliveries: `ended` maps each id to its reason, empty for one that was understood; others are dead.

    The items of `forced` deliveries may be known: then they end anew.
    """
    new, anew = list[tuple[Any, ...]](), list[tuple[Any, ...]]()
    for item in items:
        row = (tenant, source, item.key, item.type, item.delivery_id, item.outcome.value, item.reason, now)
        (anew if item.delivery_id in forced else new).append(row)
    _ADD.run_ordered(connection, new)
    _REPLACE.run_ordered(connection, anew)
    if forced:
        gone = and_(_item.c.delivery_id.in_(list(forced)), _item.c.outcome == Ending.AGAIN)
        connection.execute(update(_item).where(gone).values(outcome=Ending.SUPERSEDED.value))
    if ended:
        connection.execute(
            update(_delivery)
            .where(_delivery.c.id == bindparam("of_id"))
            .values(state=bindparam("to_state"), reason=bindparam("to_reason"), forced=0),
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


def dead(connection: Connection) -> int:
    """How many deliveries and items are dead letters."""
    bodies = select(func.count()).where(_delivery.c.state > DeliveryState.DONE, _delivery.c.state == DeliveryState.DEAD)
    items = select(func.count()).where(_item.c.outcome == literal_column("'dead'"))  # as its index has it
    return int(connection.execute(bodies).scalar_one()) + int(connection.execute(items).scalar_one())


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


def newest(connection: Connection, tenant: str, source: str) -> Any | None:
    """The id of the delivery that came in last, and when."""
    return connection.execute(
        select(_delivery.c.id, _delivery.c.received_at)
        .where(_delivery.c.tenant == tenant, _delivery.c.source == source)
        .order_by(_delivery.c.id.desc())
        .limit(1)
    ).first()


def last_heard(connection: Connection, tenant: str, source: str, but: str) -> datetime | None:
    """When the youngest delivery came in that was understood, and said something else than `but`."""
    said = select(_item.c.delivery_id).where(_item.c.delivery_id == _delivery.c.id, _item.c.type != but)
    found: datetime | None = connection.execute(
        select(_delivery.c.received_at)
        .where(_delivery.c.tenant == tenant, _delivery.c.source == source, said.exists())
        .order_by(_delivery.c.id.desc())
        .limit(1)
    ).scalar()
    return found


def verified_by(
    connection: Connection, tenant: str, source: str, secret: str, after: int, but: str, most: int
) -> list[datetime]:
    """When deliveries younger than `after` came in that a secret verified, at most so many, the newest first.

    Only those count that were understood, and said something else than `but`.
    """
    said = select(_item.c.delivery_id).where(_item.c.delivery_id == _delivery.c.id, _item.c.type != but)
    return list(
        connection.execute(
            select(_delivery.c.received_at)
            .where(
                _delivery.c.tenant == tenant,
                _delivery.c.source == source,
                _delivery.c.secret == secret,
                _delivery.c.id > after,
                said.exists(),
            )
            .order_by(_delivery.c.id.desc())
            .limit(most)
        ).scalars()
    )


def purge(connection: Connection, before: datetime) -> int:
    """Forgets understood deliveries and items that no sender can repeat any more, and those that were dropped.

    The dead stay, and so does what they came in.
    """
    old = _delivery.c.received_at < before
    kept = select(_item.c.key).where(_item.c.delivery_id == _delivery.c.id, _item.c.outcome == literal_column("'dead'"))
    gone = connection.execute(
        delete(_delivery).where(old, _delivery.c.state == DeliveryState.DONE, not_(kept.exists()))
    ).rowcount
    gone += connection.execute(
        delete(_delivery).where(
            old, _delivery.c.state > literal_column("1"), _delivery.c.state == DeliveryState.DROPPED
        )
    ).rowcount
    connection.execute(delete(_item).where(_item.c.at < before, _item.c.outcome != Ending.DEAD))
    return gone
