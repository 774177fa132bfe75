"""Why fields hold their values: one row for every write, and for every decision not to write."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, func, select

from crmsync.model import Value
from crmsync.store import tables
from crmsync.store.bulk import Bulk

_history = tables.History.__table__  # type: ignore[attr-defined]


class Entry(NamedTuple):
    """One decision about one field. `side` is the side it was about; `field` is Kirim's name of it.

    `changed_at` is when the change was made that led to it, by the platform's own time.
    """

    at: datetime
    tenant: str
    connection: str
    kind: str
    kirim_id: str
    field: str
    side: str
    old: Value
    new: Value
    competing: Value
    rule: str
    outcome: str
    cause: str
    note: str = ""
    changed_at: datetime | None = None


ECHOED = "echoed"
"""The outcome of what is written down when a platform tells us back what we wrote; of no field, and of no connection
where it is Kirim's.
"""


_ADD = Bulk(lambda insert: insert(_history), Entry._fields)


def add(connection: Connection, entries: Sequence[Entry]) -> None:
    """Appends entries."""
    _ADD.run_ordered(connection, entries)


def of(
    connection: Connection, tenant: str, kirim_id: str, field: str | None = None, also: Collection[str] = ()
) -> list[Any]:
    """The entries of one record, or of one of its fields and of what it is `also` called, oldest first."""
    chosen = and_(_history.c.tenant == tenant, _history.c.kirim_id == kirim_id)
    if field is not None:
        chosen = and_(chosen, _history.c.field.in_([field, "", *also]))
    return list(connection.execute(select(_history).where(chosen).order_by(_history.c.id)))


def written_since(connection: Connection, since: datetime) -> list[Any]:
    """Fields written since a time, per tenant, connection and side."""
    return list(
        connection.execute(
            select(
                _history.c.tenant,
                _history.c.connection,
                _history.c.side,
                func.count(func.distinct(_history.c.kirim_id)).label("records"),
                func.count().label("fields_"),
            )
            .where(_history.c.at >= since, _history.c.outcome == "written")
            .group_by(_history.c.tenant, _history.c.connection, _history.c.side)
        )
    )
