"""How far feeds were read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, and_, select, update

from crmsync.model import Kind
from crmsync.store import tables
from crmsync.store.records import insert

_cursor = tables.Cursor.__table__  # type: ignore[attr-defined]

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


def read_since(connection: Connection, tenant: str, moment: datetime) -> tuple[int, int]:
    """How many feeds a tenant has, and how many of them were read to their end since a moment."""
    rows = connection.execute(select(_cursor.c.due_at, _cursor.c.read_at).where(_cursor.c.tenant == tenant)).all()
    done = [row for row in rows if row.due_at == NEVER and row.read_at is not None and row.read_at >= moment]
    return len(rows), len(done)


def _this(tenant: str, endpoint: str, kind: Kind, feed: str) -> ColumnElement[bool]:
    return and_(
        _cursor.c.tenant == tenant, _cursor.c.endpoint == endpoint, _cursor.c.kind == kind, _cursor.c.feed == feed
    )
