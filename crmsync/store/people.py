"""Users of both ends: whom records belong to, as far as each endpoint names them. Matched by e-mail elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, select, update

from crmsync.model import Person
from crmsync.store import tables
from crmsync.store.records import insert

_person = tables.PersonRow.__table__  # type: ignore[attr-defined]


def known(connection: Connection, tenant: str, endpoint: str) -> dict[str, Person]:
    """Everybody an endpoint named, by id."""
    here = and_(_person.c.tenant == tenant, _person.c.endpoint == endpoint)
    rows = connection.execute(select(_person).where(here))
    return {row.id: Person(row.id, row.email, row.name, row.active) for row in rows}


def read_at(connection: Connection, tenant: str, endpoint: str) -> datetime | None:
    """When the endpoint's users were last read; None if never."""
    here = and_(_person.c.tenant == tenant, _person.c.endpoint == endpoint)
    found: datetime | None = connection.execute(select(func.max(_person.c.seen_at)).where(here)).scalar()
    return found


def replace_all(connection: Connection, tenant: str, endpoint: str, people: Iterable[Person], now: datetime) -> None:
    """These are all the users there are; whoever is missing is no longer active."""
    here = and_(_person.c.tenant == tenant, _person.c.endpoint == endpoint)
    connection.execute(update(_person).where(here).values(active=False))
    _store(connection, tenant, endpoint, people, now, {})


def learn(connection: Connection, tenant: str, endpoint: str, people: Iterable[Person], now: datetime) -> None:
    """These users were seen, perhaps with less than is known of them: what is not said stays."""
    known = {name: getattr(_person.c, name) for name in ("email", "name")}
    _store(connection, tenant, endpoint, people, now, known)


def _store(
    connection: Connection,
    tenant: str,
    endpoint: str,
    people: Iterable[Person],
    now: datetime,
    known: Mapping[str, ColumnElement[Any]],
) -> None:
    """`known` are the columns in which nothing said leaves what is there."""
    rows = {
        person.id: {
            "tenant": tenant,
            "endpoint": endpoint,
            "id": person.id,
            "email": person.email,
            "name": person.name,
            "active": person.active,
            "seen_at": now,
        }
        for person in people
    }
    if rows:
        new = insert(connection, _person)
        said = {name: new.excluded[name] for name in ("email", "name", "active", "seen_at")}
        said |= {name: func.coalesce(said[name], column) for name, column in known.items()}
        connection.execute(
            new.on_conflict_do_update(index_elements=["tenant", "endpoint", "id"], set_=said),
            [rows[id] for id in sorted(rows)],
        )


def assignee(fields: Mapping[str, object]) -> Person | None:
    """Whom a conversation of Kirim's names as responsible, perhaps by id alone: Kirim lists its users nowhere."""
    id, email, name = (fields.get(key) for key in ("assignee", "assignee_email", "assignee_name"))
    if not isinstance(id, str) or not id:
        return None
    return Person(id, email if isinstance(email, str) else None, name if isinstance(name, str) else None)
