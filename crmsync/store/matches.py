"""The matching desk: records that a contact may be, what people decided, and what they refused for good."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, and_, delete, select, update

from crmsync.model import Kind
from crmsync.store import tables
from crmsync.store.records import chunks, insert, make_due

OPERATOR = "operator:match"
"""The cause of what a person's decision sets going."""

_match = tables.Candidate.__table__  # type: ignore[attr-defined]
_pair = tables.Pair.__table__  # type: ignore[attr-defined]


class Choice(StrEnum):
    """How far a candidate came."""

    OPEN = "open"
    REFUSED = "refused"


class Decided(StrEnum):
    """What became of a person's decision."""

    DONE = "done"
    UNKNOWN = "unknown"  # there is no such candidate
    TAKEN = "taken"  # the record belongs to another contact by now
    LINKED = "linked"  # the contact has a record by now


@dataclass(frozen=True, slots=True)
class Desk:
    """Where candidates lie: one kind of record on one connection."""

    tenant: str
    connection: str
    kind: Kind

    def of(self, table: Any) -> Any:
        """The rows of this desk."""
        return and_(
            table.c.tenant == self.tenant, table.c.connection == self.connection, table.c.kind == self.kind.value
        )


@dataclass(frozen=True, slots=True)
class Candidate:
    """A record that a contact may be, with what it was found by and what it holds of the fields in step."""

    kirim_id: str
    crm_id: str
    found_by: str
    shown: Mapping[str, Any]


def refused(connection: Connection, desk: Desk, kirim_ids: Collection[str]) -> dict[str, set[str]]:
    """The records that a person said no to, by Kirim id."""
    found: dict[str, set[str]] = {}
    for some in chunks(kirim_ids):
        rows = connection.execute(
            select(_match.c.kirim_id, _match.c.crm_id).where(
                desk.of(_match), _match.c.kirim_id.in_(some), _match.c.choice == Choice.REFUSED
            )
        )
        for row in rows:
            found.setdefault(row.kirim_id, set()).add(row.crm_id)
    return found


def offer(connection: Connection, desk: Desk, candidates: Iterable[Candidate], now: datetime) -> None:
    """Puts candidates on the desk, in place of those that lay open. What was refused stays refused."""
    offered = list(candidates)
    settle(connection, desk, {each.kirim_id for each in offered})
    rows = [
        {
            "tenant": desk.tenant,
            "connection": desk.connection,
            "kind": desk.kind,
            "kirim_id": each.kirim_id,
            "crm_id": each.crm_id,
            "choice": Choice.OPEN,
            "found_by": each.found_by,
            "shown": dict(each.shown),
            "at": now,
        }
        for each in offered
    ]
    if rows:
        connection.execute(insert(connection, _match).on_conflict_do_nothing(), rows)


def settle(connection: Connection, desk: Desk, kirim_ids: Collection[str]) -> None:
    """Nothing is open about these contacts any more."""
    for some in chunks(kirim_ids):
        connection.execute(
            delete(_match).where(desk.of(_match), _match.c.kirim_id.in_(some), _match.c.choice == Choice.OPEN)
        )


def accept(connection: Connection, desk: Desk, kirim_id: str, crm_id: str, now: datetime) -> Decided:
    """The contact is this record: they are linked, and what differs is decided as ever."""
    if not _lies(connection, desk, kirim_id, crm_id):
        return Decided.UNKNOWN
    owner = connection.execute(select(_pair.c.kirim_id).where(desk.of(_pair), _pair.c.crm_id == crm_id)).scalar()
    if owner not in (None, kirim_id):
        return Decided.TAKEN
    here = and_(desk.of(_pair), _pair.c.kirim_id == kirim_id, _pair.c.crm_id.is_(None))
    if not connection.execute(update(_pair).where(here).values(crm_id=crm_id)).rowcount:
        return Decided.LINKED
    settle(connection, desk, [kirim_id])
    make_due(connection, desk.tenant, desk.connection, desk.kind, {kirim_id: OPERATOR}, now, create=False)
    return Decided.DONE


def refuse(connection: Connection, desk: Desk, kirim_id: str, crm_id: str, now: datetime) -> Decided:
    """The contact is not this record, and is never taken for it again."""
    if not _lies(connection, desk, kirim_id, crm_id):
        return Decided.UNKNOWN
    one = and_(desk.of(_match), _match.c.kirim_id == kirim_id, _match.c.crm_id == crm_id)
    connection.execute(update(_match).where(one).values(choice=Choice.REFUSED, at=now))
    make_due(connection, desk.tenant, desk.connection, desk.kind, {kirim_id: OPERATOR}, now, create=False)
    return Decided.DONE


def listed(connection: Connection, tenant: str, choice: Choice | None = Choice.OPEN) -> Sequence[Any]:
    """The candidates of a tenant, contact by contact; of every choice where none is named."""
    chosen = _match.c.tenant == tenant
    if choice is not None:
        chosen = and_(chosen, _match.c.choice == choice)
    ordered = select(_match).where(chosen).order_by(_match.c.connection, _match.c.kirim_id, _match.c.crm_id)
    return list(connection.execute(ordered))


def _lies(connection: Connection, desk: Desk, kirim_id: str, crm_id: str) -> bool:
    one = and_(desk.of(_match), _match.c.kirim_id == kirim_id, _match.c.crm_id == crm_id)
    return connection.execute(select(_match.c.crm_id).where(one)).first() is not None
