"""What a run saw of records, beside the views: a walk can be judged as a whole before anything follows from it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, and_, bindparam, delete, exists, select, tuple_

from crmsync.model import Kind, Record
from crmsync.store import tables
from crmsync.store.bulk import Lookup
from crmsync.store.records import KIRIM, fields_of, insert
from crmsync.store.runs import Run

PORTION = 200
"""Rows in one step of going through what was seen."""

_sighting = tables.Sighting.__table__  # type: ignore[attr-defined]
_pair = tables.Pair.__table__  # type: ignore[attr-defined]
_run = tables.Run.__table__  # type: ignore[attr-defined]
_view = tables.View.__table__  # type: ignore[attr-defined]


def note(
    connection: Connection, run: Run, endpoint: str, kind: Kind, held: Mapping[str, Record | None], *, read: bool
) -> None:
    """Records were seen, by id; what they held is kept where it is given. The later sighting is the truer one.

    `read` says that each was asked for by its id.
    """
    if not held:
        return
    new = insert(connection, _sighting)
    connection.execute(
        new.on_conflict_do_update(
            index_elements=["tenant", "run", "endpoint", "kind", "id"], set_={"held": new.excluded.held}
        ),
        [
            {
                "tenant": run.tenant,
                "run": run.id,
                "endpoint": endpoint,
                "kind": kind,
                "id": id,
                "held": None if record is None else _document(record, read=read),
            }
            for id, record in held.items()
        ],
    )


def seen(
    connection: Connection, run: Run, endpoint: str, kind: Kind, ids: Collection[str]
) -> dict[str, tuple[Record, bool] | None]:
    """Those of these records that a run saw: what they held if it was kept, and whether they were read by id."""
    rows = _SEEN.of(connection, ids, tenant=run.tenant, run=run.id, endpoint=endpoint, kind=kind.value)
    return {id: None if held is None else _record(kind, id, orjson.loads(held)) for id, held in rows}


_SEEN = Lookup(
    select(_sighting.c.id, _sighting.c.held).where(
        _sighting.c.tenant == bindparam("tenant"),
        _sighting.c.run == bindparam("run"),
        _sighting.c.endpoint == bindparam("endpoint"),
        _sighting.c.kind == bindparam("kind"),
    ),
    _sighting.c.id,
)


def kept(connection: Connection, run: Run, endpoint: str, kind: Kind, after: str) -> list[tuple[str, Record, bool]]:
    """Some of what a run saw and kept, in order of id behind `after`."""
    rows = connection.execute(
        select(_sighting.c.id, _sighting.c.held)
        .where(_of(run, endpoint, kind), _sighting.c.id > after, _sighting.c.held.is_not(None))
        .order_by(_sighting.c.id)
        .limit(PORTION)
    )
    return [(row.id, *_record(kind, row.id, row.held)) for row in rows]


def unseen(connection: Connection, run: Run, endpoint: str, kind: Kind, after: str, limit: int) -> list[str]:
    """Records that are believed to exist and that a run did not see, in order of id behind `after`."""
    sighted = exists().where(
        _sighting.c.tenant == run.tenant,
        _sighting.c.run == run.id,
        _sighting.c.endpoint == endpoint,
        _sighting.c.kind == kind,
        _sighting.c.id == _view.c.id,
    )
    rows = connection.execute(
        select(_view.c.id)
        .where(
            _view.c.tenant == run.tenant,
            _view.c.endpoint == endpoint,
            _view.c.kind == kind,
            _view.c.id > after,
            _view.c.exists,
            ~sighted,
        )
        .order_by(_view.c.id)
        .limit(limit)
    )
    return [row.id for row in rows]


def without_pair(connection: Connection, run: Run, endpoint: str, name: str, kind: Kind, after: str) -> list[str]:
    """Records that a run saw in Kirim or in a CRM and that have no pair on connection `name`, behind `after`."""
    same = _pair.c.kirim_id if endpoint == KIRIM else _pair.c.crm_id
    paired = exists().where(
        _pair.c.tenant == run.tenant, _pair.c.connection == name, _pair.c.kind == kind, same == _sighting.c.id
    )
    rows = connection.execute(
        select(_sighting.c.id)
        .where(_of(run, endpoint, kind), _sighting.c.id > after, ~paired)
        .order_by(_sighting.c.id)
        .limit(PORTION)
    )
    return [row.id for row in rows]


def pairs_after(connection: Connection, run: Run, name: str, kind: Kind, after: str) -> Sequence[Any]:
    """Some pairs of a connection in order of their Kirim id, behind `after`: the ids of both ends."""
    return connection.execute(
        select(_pair.c.kirim_id, _pair.c.crm_id)
        .where(_pair.c.tenant == run.tenant, _pair.c.connection == name, _pair.c.kind == kind)
        .where(_pair.c.kirim_id > after)
        .order_by(_pair.c.kirim_id)
        .limit(PORTION)
    ).all()


def forget(connection: Connection, run: Run, most: int) -> int:
    """Some of what a run saw, or one before it that was given up, is not needed any more; says how many went."""
    old = and_(_sighting.c.tenant == run.tenant, _sighting.c.run <= run.id)
    key = (_sighting.c.run, _sighting.c.endpoint, _sighting.c.kind, _sighting.c.id)
    some = select(*key).where(old).limit(most)
    return connection.execute(delete(_sighting).where(old, tuple_(*key).in_(some))).rowcount


def purge(connection: Connection) -> int:
    """Forgets what was seen by runs that have ended, however they did."""
    going = select(_run.c.id).where(_run.c.ended_at.is_(None))
    return connection.execute(delete(_sighting).where(_sighting.c.run.not_in(going))).rowcount


def _of(run: Run, endpoint: str, kind: Kind) -> ColumnElement[bool]:
    return and_(
        _sighting.c.tenant == run.tenant,
        _sighting.c.run == run.id,
        _sighting.c.endpoint == endpoint,
        _sighting.c.kind == kind,
    )


def _document(record: Record, *, read: bool) -> dict[str, Any]:
    return {
        "fields": dict(record.fields),
        "version": record.version.isoformat() if record.version else None,
        "external_id": record.external_id,
        "aliases": list(record.aliases),
        "archived": record.archived,
        "id": record.id,
        "read": read,
    }


def _record(kind: Kind, id: str, held: Mapping[str, Any]) -> tuple[Record, bool]:
    version = held["version"]
    record = Record(
        kind,
        held["id"],
        fields_of(held["fields"]),
        datetime.fromisoformat(version) if version else None,
        held["external_id"],
        tuple(held["aliases"]),
        held["archived"],
    )
    return record, held["read"]
