"""Records that were merged away: their ids lead to the record that has their content now."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, and_, select, update

from crmsync.model import Kind, Record
from crmsync.store import tables
from crmsync.store.dialect import insert

_view = tables.View.__table__  # type: ignore[attr-defined]
_pair = tables.Pair.__table__  # type: ignore[attr-defined]
_alias = tables.Alias.__table__  # type: ignore[attr-defined]


def follow(
    connection: Connection, tenant: str, endpoint: str, kind: Kind, batch: Sequence[tuple[Record, str]]
) -> dict[str, str]:
    """Links of records that were merged away lead to the survivor, unless that has a pair of its own.

    `batch` has the records that were seen, with their causes. Returns the pairs that this concerns and its cause: what
    they are to be compared with is another record now.
    """
    concerned: dict[str, str] = {}
    for record, cause in batch:
        for alias in record.aliases:
            new = insert(connection, _alias)
            connection.execute(
                new.on_conflict_do_update(
                    index_elements=["tenant", "endpoint", "kind", "id"], set_={"survivor": record.id}
                ),
                {"tenant": tenant, "endpoint": endpoint, "kind": kind, "id": alias, "survivor": record.id},
            )
            here = and_(_pair.c.tenant == tenant, _pair.c.connection == endpoint, _pair.c.kind == kind)
            news = _gone(connection, tenant, endpoint, kind, alias)
            loser = connection.execute(select(_pair.c.kirim_id).where(here, _pair.c.crm_id == alias)).scalar()
            if loser is None:
                continue
            if connection.execute(select(_pair.c.kirim_id).where(here, _pair.c.crm_id == record.id)).first() is None:
                connection.execute(update(_pair).where(here, _pair.c.crm_id == alias).values(crm_id=record.id))
                news = True
            if news:
                concerned[loser] = cause
    return concerned


def survivors(connection: Connection, tenant: str, endpoint: str, kind: Kind, ids: Collection[str]) -> dict[str, str]:
    """The record that each of these was merged into; those that were not are missing."""
    asked = select(_alias.c.id, _alias.c.survivor).where(
        _alias.c.tenant == tenant, _alias.c.endpoint == endpoint, _alias.c.kind == kind, _alias.c.id.in_(list(ids))
    )
    return {id: survivor for id, survivor in connection.execute(asked)} if ids else {}


def _gone(connection: Connection, tenant: str, endpoint: str, kind: Kind, id: str) -> bool:
    """The record exists no more; says whether that is news."""
    here = and_(_view.c.tenant == tenant, _view.c.endpoint == endpoint, _view.c.kind == kind, _view.c.id == id)
    return connection.execute(update(_view).where(here, _view.c.exists).values(exists=False)).rowcount > 0
