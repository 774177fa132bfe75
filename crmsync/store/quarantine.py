"""Requests that claimed to be deliveries and did not prove it: kept raw, never parsed, in a bounded ring per tenant.

What is full takes nothing more: what is in it is at least as likely to be real as what comes next, and whoever could
push out the old could push out the real. Rows leave by age, or for the inbox once they are proved.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, select, update

from crmsync import crash
from crmsync.model import WebhookRequest
from crmsync.store import tables
from crmsync.store.deliveries import DeliveryState
from crmsync.store.records import insert

_row = tables.Quarantined.__table__  # type: ignore[attr-defined]
_delivery = tables.Delivery.__table__  # type: ignore[attr-defined]

UNPROVED_SHARE = 0.75
"""How much of the ring is open to what nobody signed: the rest is kept for what is authentic and only late."""
PAGE_ROWS = 200
PAGE_BYTES = 16 * 1024 * 1024


class Fate(StrEnum):
    """What became of a request that was to be kept."""

    KEPT = "kept"
    KNOWN = "known"  # the very same request is in the ring already
    FULL = "full"
    BUSY = "busy"  # too many wait to be kept
    FAILED = "failed"  # the store could not


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a tenant's ring holds, and for how long."""

    rows: int = 10_000
    bytes: int = 256 * 1024 * 1024
    age: timedelta = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Suspect:
    """A request to be kept, its headers cut down to those that can prove it. `proved` says that it was signed."""

    tenant: str
    source: str
    reason: str
    request: WebhookRequest
    proved: bool = False

    @property
    def size(self) -> int:
        """Bytes that count against the ring."""
        return len(self.request.body) + sum(len(name) + len(value) for name, value in self.request.headers)


@dataclass(frozen=True, slots=True)
class Inmate:
    """A row of the ring, as it is looked at again."""

    id: int
    reason: str
    request: WebhookRequest


@dataclass(frozen=True, slots=True)
class Promotion:
    """A row that was proved: the body to store, and the secret that proved it."""

    id: int
    body: bytes
    received_at: datetime
    secret: str


def keep(tx: Connection, suspects: Sequence[Suspect], limits: Limits, now: datetime) -> list[Fate]:
    """Adds what there is room for; one fate for each, in order."""
    for tenant in sorted({suspect.tenant for suspect in suspects}):
        tx.execute(delete(_row).where(_row.c.tenant == tenant, _row.c.received_at < now - limits.age))
    held = {suspect.tenant: (0, 0) for suspect in suspects}
    held.update(_held(tx, held))
    fates = []
    for suspect in suspects:
        rows, size = held[suspect.tenant]
        share = 1.0 if suspect.proved else UNPROVED_SHARE
        if rows + 1 > limits.rows * share or size + suspect.size > limits.bytes * share:
            fates.append(Fate.FULL)
        elif _added(tx, suspect):
            held[suspect.tenant] = (rows + 1, size + suspect.size)
            fates.append(Fate.KEPT)
        else:
            fates.append(Fate.KNOWN)
    return fates


def _held(tx: Connection, tenants: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    rows = tx.execute(
        select(_row.c.tenant, func.count().label("rows_"), func.sum(_row.c.size).label("size"))
        .where(_row.c.tenant.in_(list(tenants)))
        .group_by(_row.c.tenant)
    )
    return {row.tenant: (row.rows_, int(row.size or 0)) for row in rows}


def _added(tx: Connection, suspect: Suspect) -> bool:
    request = suspect.request
    values = {
        "tenant": suspect.tenant,
        "source": suspect.source,
        "key": _key(request),
        "reason": suspect.reason,
        "path": request.path,
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.headers],
        "body": request.body,
        "size": suspect.size,
        "received_at": request.received_at,
    }
    return _inserted(tx, _row, values)


def _inserted(tx: Connection, table: Any, values: Mapping[str, Any]) -> bool:
    """Whether it was new. Not by the count of rows: PostgreSQL's driver does not tell it of every insert."""
    statement = insert(tx, table).on_conflict_do_nothing().returning(table.c.id)
    return tx.execute(statement, values).first() is not None


def _key(request: WebhookRequest) -> bytes:
    """Everything that a second look goes by: nobody can take the place of a real request with a forged one."""
    digest = hashlib.sha256()
    for part in (request.path.encode(), *(each for header in request.headers for each in header), request.body):
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.digest()


def page(tx: Connection, tenant: str, source: str, after: int) -> list[Inmate]:
    """The next rows of a source in order of arrival, as many as fit into memory comfortably; at least one."""
    sizes = tx.execute(
        select(_row.c.id, _row.c.size)
        .where(_row.c.tenant == tenant, _row.c.source == source, _row.c.id > after)
        .order_by(_row.c.id)
        .limit(PAGE_ROWS)
    ).all()
    chosen = list(_within(sizes))
    rows = tx.execute(select(_row).where(_row.c.id.in_(chosen)).order_by(_row.c.id)) if chosen else ()
    return [Inmate(row.id, row.reason, _request(row)) for row in rows]


def _within(sizes: Sequence[Any]) -> Iterator[int]:
    total = 0
    for row in sizes:
        total += row.size
        if total > PAGE_BYTES and total > row.size:
            return
        yield row.id


def _request(row: Any) -> WebhookRequest:
    headers = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in row.headers)
    return WebhookRequest("POST", row.path, headers, row.body, row.received_at)


def promote(tx: Connection, tenant: str, source: str, promotions: Sequence[Promotion]) -> int:
    """Moves proved rows into the inbox; says how many of them it did not know. In one transaction: never in both."""
    new = 0
    for promotion in promotions:
        values = {
            "tenant": tenant,
            "source": source,
            "key": hashlib.sha256(promotion.body).digest(),
            "body": promotion.body,
            "received_at": promotion.received_at,
            "secret": promotion.secret,
            "state": DeliveryState.PENDING,
        }
        new += _inserted(tx, _delivery, values)
    if promotions:
        crash.point("quarantine.promoting")
    drop(tx, [promotion.id for promotion in promotions])
    return new


def drop(tx: Connection, ids: Sequence[int]) -> None:
    """Lets rows go."""
    if ids:
        tx.execute(delete(_row).where(_row.c.id.in_(ids)))


def relabel(tx: Connection, reasons: Mapping[int, str]) -> None:
    """What a second look found instead."""
    if reasons:
        tx.execute(
            update(_row).where(_row.c.id == bindparam("of_id")).values(reason=bindparam("to_reason")),
            [{"of_id": id, "to_reason": reason} for id, reason in reasons.items()],
        )


def stored(tx: Connection, tenant: str, source: str, bodies: Mapping[int, bytes]) -> set[int]:
    """Which of these bodies are in the inbox."""
    keys = {id: hashlib.sha256(body).digest() for id, body in bodies.items()}
    known = set(
        tx.execute(
            select(_delivery.c.key).where(
                _delivery.c.tenant == tenant, _delivery.c.source == source, _delivery.c.key.in_(keys.values())
            )
        ).scalars()
    )
    return {id for id, key in keys.items() if key in known}


def purge(tx: Connection, before: datetime) -> int:
    """Forgets what came before a moment."""
    return tx.execute(delete(_row).where(_row.c.received_at < before)).rowcount


def counts(tx: Connection) -> list[Any]:
    """Per tenant, source and reason: rows, bytes, and when the oldest came."""
    return list(
        tx.execute(
            select(
                _row.c.tenant,
                _row.c.source,
                _row.c.reason,
                func.count().label("rows_"),
                func.sum(_row.c.size).label("size"),
                func.min(_row.c.received_at).label("oldest"),
            )
            .group_by(_row.c.tenant, _row.c.source, _row.c.reason)
            .order_by(_row.c.tenant, _row.c.source, _row.c.reason)
        )
    )
