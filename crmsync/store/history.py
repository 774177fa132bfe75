"""Why fields hold their values: an entry for every write, and for every decision not to write.

What was decided about one pair at once is kept in one row: most of it is the same for all its fields.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, and_, distinct, func, select

from crmsync.model import Value
from crmsync.store import tables
from crmsync.store.bulk import Bulk
from crmsync.store.columns import microseconds, moment

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


WRITTEN = "written"
"""The outcome of a write that a platform took."""
_COLUMNS = ("at", "tenant", "connection", "kind", "kirim_id", "cause", "steps", "kirim_written", "crm_written")
_ADD = Bulk(lambda insert: insert(_history), _COLUMNS)
Row = tuple[Any, ...]


Told = tuple[str, str, Value, Value, Value, str, str, str, int | None]
"""One decision within a row: an entry from its field to its outcome, its note, and its microseconds."""


def row(at: datetime, tenant: str, connection: str, kind: str, kirim_id: str, cause: str, steps: Sequence[Told]) -> Row:
    """What was decided about one pair at once, as it is kept."""
    written = [side for _, side, _, _, _, _, outcome, _, _ in steps if outcome == WRITTEN]
    crm = written.count("crm")
    return at, tenant, connection, kind, kirim_id, cause, orjson.dumps(steps).decode(), len(written) - crm, crm


def add(connection: Connection, entries: Iterable[Entry]) -> None:
    """Appends entries: what belongs together stands together already."""
    grouped = groupby(entries, lambda e: (e.at, e.tenant, e.connection, e.kind, e.kirim_id, e.cause))
    rows = [
        row(at, tenant, name, kind, kirim_id, cause, [_told(entry) for entry in several])
        for (at, tenant, name, kind, kirim_id, cause), several in grouped
    ]
    append(connection, rows)


def _told(entry: Entry) -> Told:
    changed_at = None if entry.changed_at is None else microseconds(entry.changed_at)
    return (*entry[5:12], entry.note, changed_at)


def append(connection: Connection, rows: Sequence[Row]) -> None:
    """Appends entries that were made ready outside the transaction."""
    _ADD.run_ordered(connection, rows)


def of(
    connection: Connection, tenant: str, kirim_id: str, field: str | None = None, also: Collection[str] = ()
) -> list[Entry]:
    """The entries of one record, or of one of its fields and of what it is `also` called, oldest first."""
    here = and_(_history.c.tenant == tenant, _history.c.kirim_id == kirim_id)
    kept = connection.execute(select(_history).where(here).order_by(_history.c.id))
    found = [entry for row in kept for entry in _read(row)]
    chosen = None if field is None else {field, "", *also}
    return [entry for entry in found if chosen is None or entry.field in chosen]


def _read(row: Any) -> Iterable[Entry]:
    common = (row.at, row.tenant, row.connection, row.kind, row.kirim_id)
    for *step, note, changed_at in orjson.loads(row.steps):
        told_at = None if changed_at is None else moment(changed_at)
        yield Entry._make((*common, *step, row.cause, note, told_at))


class Written(NamedTuple):
    """How much was written to one side of a connection."""

    tenant: str
    connection: str
    side: str
    records: int
    fields: int


def written_since(connection: Connection, since: datetime) -> list[Written]:
    """Fields written since a time, per tenant, connection and side."""
    found = []
    for side, count in (("crm", _history.c.crm_written), ("kirim", _history.c.kirim_written)):
        rows = connection.execute(
            select(_history.c.tenant, _history.c.connection, func.count(distinct(_history.c.kirim_id)), func.sum(count))
            .where(_history.c.at >= since, count > 0)
            .group_by(_history.c.tenant, _history.c.connection)
        )
        found += [Written(tenant, name, side, records, int(fields)) for tenant, name, records, fields in rows]
    return sorted(found)
