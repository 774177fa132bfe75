"""Records that have to be read again (`records.mark_stale` says which): taking them, putting them off, giving up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, not_, select, update

from crmsync.core.trouble import Reason
from crmsync.model import Kind
from crmsync.store import tables
from crmsync.store.cursors import NEVER

_stale = tables.Stale.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class StaleRecord:
    """A record to be read again, at the revision it was asked for.

    `attempts` counts the starts without an end, this one included; `failures` the ends in passing trouble.
    """

    kind: Kind
    id: str
    revision: int
    attempts: int
    failures: int
    cause: str


def take(
    connection: Connection, tenant: str, endpoint: str, limit: int, now: datetime, *, together: int, alone: int
) -> list[StaleRecord]:
    """The records of an endpoint that are to be read, oldest first: at most `limit`, and `alone` of those suspected.

    The attempt is counted before any is read. Suspected are those past `together` attempts or failures. They are not
    read in company: `start` counts their attempts, one by one, so that none is charged with the harm that another does.
    """
    here = and_(_stale.c.tenant == tenant, _stale.c.endpoint == endpoint, _stale.c.not_before <= now)
    calm = and_(_stale.c.attempts < together, _stale.c.failures < together)
    oldest = select(_stale).where(here).order_by(_stale.c.first_at)
    counted = connection.execute(oldest.where(calm).limit(limit)).all()
    suspected = connection.execute(oldest.where(not_(calm)).limit(alone)).all()
    _change(connection, tenant, endpoint, [(Kind(row.kind), row.id, {"attempts": row.attempts + 1}) for row in counted])
    return [
        StaleRecord(Kind(row.kind), row.id, row.revision, row.attempts + 1, row.failures, row.cause)
        for row in (*counted, *suspected)
    ]


def start(connection: Connection, tenant: str, endpoint: str, record: StaleRecord, until: datetime) -> None:
    """A record that is read alone begins. However it ends, it does not begin again before `until`."""
    change = {"attempts": record.attempts, "not_before": until}
    _change(connection, tenant, endpoint, [(record.kind, record.id, change)])


def put_off(
    connection: Connection, tenant: str, endpoint: str, until: Sequence[tuple[StaleRecord, datetime, int]]
) -> None:
    """Records that came to no answer, or to one that is too old: each with its next try, and its failures so far."""
    _change(
        connection,
        tenant,
        endpoint,
        [
            (record.kind, record.id, {"not_before": moment, "attempts": 0, "failures": failures})
            for record, moment, failures in until
        ],
    )


def give_up(
    connection: Connection, tenant: str, endpoint: str, records: Sequence[StaleRecord], reason: Reason, error: str
) -> None:
    """They are read no more, until they are marked anew. What was marked again meanwhile is read again."""
    change = {"not_before": NEVER, "attempts": 0, "failures": 0, "reason": reason.value, "error": error}
    for record in records:
        connection.execute(
            update(_stale)
            .where(_this(tenant, endpoint, record.kind, record.id), _stale.c.revision == record.revision)
            .values(**change)
        )


def drop(connection: Connection, tenant: str, endpoint: str, read: Sequence[StaleRecord]) -> None:
    """They were read; whichever was marked again meanwhile stays."""
    if read:
        connection.execute(
            delete(_stale).where(
                _this(tenant, endpoint, bindparam("of_kind"), bindparam("of_id")),
                _stale.c.revision == bindparam("at_revision"),
            ),
            [{"of_kind": record.kind, "of_id": record.id, "at_revision": record.revision} for record in read],
        )
        still = [(record.kind, record.id, {"attempts": 0, "failures": 0}) for record in read]
        _change(connection, tenant, endpoint, still)


def _change(
    connection: Connection, tenant: str, endpoint: str, changes: Sequence[tuple[Kind, str, Mapping[str, Any]]]
) -> None:
    """The same columns of several records."""
    if changes:
        columns: dict[str, Any] = {name: bindparam(f"to_{name}") for name in changes[0][2]}
        connection.execute(
            update(_stale).where(_this(tenant, endpoint, bindparam("of_kind"), bindparam("of_id"))).values(columns),
            [
                {"of_kind": kind, "of_id": id, **{f"to_{name}": value for name, value in change.items()}}
                for kind, id, change in changes
            ],
        )


def _this(tenant: str, endpoint: str, kind: Any, id: Any) -> Any:
    return and_(_stale.c.tenant == tenant, _stale.c.endpoint == endpoint, _stale.c.kind == kind, _stale.c.id == id)
