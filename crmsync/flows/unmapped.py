"""Kirim's users whom a CRM does not know, so that what is theirs falls to somebody else there: for people to cure.

Names colleagues, never a contact; for the operator's eyes, never for a log line.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from crmsync.core.lens import Assigned
from crmsync.core.mapping import Rules
from crmsync.core.people import book, named, unmapped
from crmsync.model import Can
from crmsync.store import people
from crmsync.store.records import KIRIM

SHOWN = 20
"""Users that are named; the others are only counted."""


@dataclass(frozen=True, slots=True)
class Assigning:
    """A connection that names Kirim's users in a field of its CRM. `listed` says that the CRM tells its own users."""

    tenant: str
    connection: str
    lens: Assigned
    listed: bool


def assigning(tenant: str, connection: str, rules: Iterable[Rules], can: Collection[Can]) -> list[Assigning]:
    """Every such field of a connection."""
    return [Assigning(tenant, connection, lens, Can.PEOPLE in can) for each in rules for lens in named(each)]


def overview(tx: Connection, assigning: Iterable[Assigning]) -> list[dict[str, Any]]:
    """Where users are unknown, who they are. As long as a CRM's users were never read, nobody is called unknown."""
    found = [_told(tx, each) for each in assigning if not each.listed or _was_read(tx, each)]
    return [told for told in found if told["count"]]


def _was_read(tx: Connection, each: Assigning) -> bool:
    return people.read_at(tx, each.tenant, each.connection) is not None


def _told(tx: Connection, each: Assigning) -> dict[str, Any]:
    kirim = people.known(tx, each.tenant, KIRIM).values()
    crm = people.known(tx, each.tenant, each.connection).values()
    strangers = unmapped(kirim, book(kirim, crm, each.lens.book))
    return {
        "tenant": each.tenant,
        "connection": each.connection,
        "field": " + ".join(each.lens.names),
        "otherwise": each.lens.fallback,
        "count": len(strangers),
        "users": [{"id": one.id, "email": one.email, "name": one.name} for one in strangers[:SHOWN]],
    }
