"""How far feeds were read, and the planned moments that one node claimed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, and_, delete, select, update

from crmsync.model import Kind
from crmsync.store import tables
from crmsync.store.records import insert

_cursor = tables.Cursor.__table__  # type: ignore[attr-defined]
_fire = tables.Fire.__table__  # type: ignore[attr-defined]

NEVER = datetime.fromisoformat("9999-01-01T00:00:00+00:00")


@dataclass(frozen=True, slots=True)
class Feed:
    """One feed of one endpoint, and where its reading stands: `position` is None before the first page."""

    kind: Kind
    name: str
    position: str | None
    began_at: datetime


def due(connection: Connection, tenant: str, endpoint: str, now: datetime) -> list[Feed]:
    """The feeds of an endpoint that are to be read now."""
    rows = connection.execute(
        select(_cursor).where(_cursor.c.tenant == tenant, _cursor.c.endpoint == endpoint, _cursor.c.due_at <= now)
    )
    return [Feed(Kind(row.kind), row.feed, row.position, row.began_at) for row in rows]


def save(
    connection: Connection, tenant: str, endpoint: str, feed: Feed, position: str, *, more: bool, now: datetime
) -> None:
    """The reading has come to `position`. With `more` the feed stays due. Call it where its rows are stored.

    A feed that was begun anew meanwhile keeps its beginning.
    """
    connection.execute(
        update(_cursor)
        .where(_this(tenant, endpoint, feed.kind, feed.name), _cursor.c.began_at == feed.began_at)
        .values(position=position, more=more, read_at=now, **({} if more else {"due_at": NEVER}))
    )


def ring(connection: Connection, tenant: str, endpoint: str, kind: Kind, feed: str, now: datetime) -> None:
    """Makes a feed due now; begins it where it is new."""
    connection.execute(
        insert(connection, _cursor).on_conflict_do_update(
            index_elements=["tenant", "endpoint", "kind", "feed"], set_={"due_at": now}
        ),
        {
            "tenant": tenant,
            "endpoint": endpoint,
            "kind": kind,
            "feed": feed,
            "position": None,
            "began_at": now,
            "more": False,
            "due_at": now,
        },
    )


def restart(
    connection: Connection, tenant: str, endpoint: str, kind: Kind, feed: str, since: datetime, now: datetime
) -> None:
    """Reads a feed anew for what changed since then; a reading that has not ended keeps its earlier beginning."""
    here = _this(tenant, endpoint, kind, feed)
    row = connection.execute(select(_cursor).where(here)).first()
    if row is not None and (row.due_at < NEVER or since == row.began_at):
        since = min(since, row.began_at - timedelta(microseconds=1))  # another beginning: see `save`
    began = {"position": None, "began_at": since, "more": False, "due_at": now}
    connection.execute(
        insert(connection, _cursor).on_conflict_do_update(
            index_elements=["tenant", "endpoint", "kind", "feed"], set_=began
        ),
        {"tenant": tenant, "endpoint": endpoint, "kind": kind, "feed": feed, **began},
    )


def claim(connection: Connection, name: str, slot: datetime, node: str, now: datetime) -> bool:
    """Whether this node is the one that acts on a planned moment of a schedule."""
    new = insert(connection, _fire).on_conflict_do_nothing().returning(_fire.c.name)
    return connection.execute(new, {"name": name, "slot": slot, "node": node, "at": now}).first() is not None


def purge_claims(connection: Connection, before: datetime) -> int:
    """Forgets the claims of moments long past."""
    return connection.execute(delete(_fire).where(_fire.c.at < before)).rowcount


def _this(tenant: str, endpoint: str, kind: Kind, feed: str) -> ColumnElement[bool]:
    return and_(
        _cursor.c.tenant == tenant, _cursor.c.endpoint == endpoint, _cursor.c.kind == kind, _cursor.c.feed == feed
    )
