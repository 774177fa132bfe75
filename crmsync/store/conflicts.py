"""Fields that both sides changed, or that go back and forth: what was held, what stood, and what a person chose.

One row per field of a pair: a later conflict takes the place of an earlier one. Rows that nobody has to look at any
more are kept for a while, as `SETTLED`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson
from sqlalchemy import Connection, and_, bindparam, case, func, or_, select, update

from crmsync.core.breaker import Stroke
from crmsync.model import Kind, Value
from crmsync.store import tables
from crmsync.store.bulk import Lookup
from crmsync.store.records import fields_of, insert

_row = tables.ConflictRow.__table__  # type: ignore[attr-defined]
_pair = tables.Pair.__table__  # type: ignore[attr-defined]
KEY = ("tenant", "connection", "kind", "kirim_id", "field")


class State(StrEnum):
    """How far a conflict came."""

    OPEN = "open"  # one value stood, by the rule of the field; nobody looked at it since
    FROZEN = "frozen"
    SETTLED = "settled"  # a person chose, or somebody changed the field again


@dataclass(frozen=True, slots=True)
class Decree:
    """The value that a person chose for a field, and when: until both sides took it."""

    value: Value
    at: int


@dataclass(frozen=True, slots=True)
class Rulings:
    """What has to be known of a pair's conflicts before it is decided."""

    open: frozenset[str] = frozenset()
    frozen: frozenset[str] = frozenset()
    decreed: Mapping[str, Decree] = field(default_factory=dict)


NO_RULINGS = Rulings()


@dataclass(frozen=True, slots=True)
class Conflict:
    """What is written down of one field. `won` is the side whose value stood; a frozen field has a `sequence`."""

    kirim_id: str
    field: str
    kirim: Value
    crm: Value
    owner: str
    cause: str
    won: str = ""
    sequence: tuple[Stroke, ...] = ()

    @property
    def state(self) -> State:
        return State.FROZEN if self.sequence else State.OPEN


_RULINGS = Lookup(
    select(_row.c.kirim_id, _row.c.field, _row.c.state, _row.c.decree, _row.c.decreed_at).where(
        _row.c.tenant == bindparam("tenant"),
        _row.c.connection == bindparam("connection"),
        _row.c.kind == bindparam("kind"),
        or_(_row.c.state != bindparam("settled"), _row.c.decree.is_not(None)),
    ),
    _row.c.kirim_id,
)


def rulings(
    connection: Connection, tenant: str, endpoint: str, kind: str, kirim_ids: Collection[str]
) -> dict[str, Rulings]:
    """What is open, frozen or decreed, by Kirim id; of most pairs there is nothing."""
    found: dict[str, list[Any]] = {}
    where = {"tenant": tenant, "connection": endpoint, "kind": kind, "settled": State.SETTLED.value}
    for row in _RULINGS.of(connection, kirim_ids, **where):
        found.setdefault(row[0], []).append(row)
    return {id: _rulings(rows) for id, rows in found.items()}


def _rulings(rows: Iterable[Any]) -> Rulings:
    named: dict[str, set[str]] = {state: set() for state in State}
    decreed = {}
    for _, name, state, decree, at in rows:
        named[state].add(name)
        if decree is not None:
            decreed[name] = Decree(value_of(orjson.loads(decree)[0]), at)
    return Rulings(frozenset(named[State.OPEN]), frozenset(named[State.FROZEN]), decreed)


def value_of(stored: Any) -> Value:
    """A value as it was before it was stored."""
    return fields_of({"": stored})[""]


def write_down(
    connection: Connection, tenant: str, endpoint: str, kind: Kind, found: Iterable[Conflict], now: datetime
) -> None:
    """Adds conflicts, each in the place of an earlier one of its field. A frozen field stays frozen."""
    rows = [
        {
            "tenant": tenant,
            "connection": endpoint,
            "kind": kind.value,
            "kirim_id": each.kirim_id,
            "field": each.field,
            "state": each.state.value,
            "at": now,
            "kirim": each.kirim,
            "crm": each.crm,
            "won": each.won,
            "owner": each.owner,
            "times": 1,
            "cause": each.cause,
            "sequence": [[tables.microseconds(at), side, old, new] for at, side, old, new in each.sequence] or None,
            "decree": None,
            "decreed_at": None,
        }
        for each in found
    ]
    if not rows:
        return
    new = insert(connection, _row)
    frozen = and_(_row.c.state == State.FROZEN, new.excluded.state == State.OPEN)
    moved = ("state", "at", "kirim", "crm", "won", "cause", "sequence")
    kept = {name: case((frozen, _row.c[name]), else_=new.excluded[name]) for name in moved}
    connection.execute(
        new.on_conflict_do_update(
            index_elements=KEY, set_={**kept, "owner": new.excluded.owner, "times": _row.c.times + 1}
        ),
        rows,
    )


def settle(
    connection: Connection, tenant: str, endpoint: str, kind: Kind, fields: Mapping[str, Collection[str]]
) -> None:
    """Nobody has to look at these any more, by Kirim id; what is frozen stays so."""
    for kirim_id, names in fields.items():
        if names:
            connection.execute(
                update(_row)
                .where(_of(tenant, endpoint, kind, kirim_id), _row.c.field.in_(names), _row.c.state == State.OPEN)
                .values(state=State.SETTLED.value)
            )


def carried_out(
    connection: Connection, tenant: str, endpoint: str, kind: Kind, done: Mapping[str, Mapping[str, Decree]]
) -> None:
    """These decrees were followed, by Kirim id and field; one that was given meanwhile stays."""
    for kirim_id, decrees in done.items():
        for name, decree in decrees.items():
            here = and_(_of(tenant, endpoint, kind, kirim_id), _row.c.field == name)
            given = _row.c.decreed_at == tables.moment(decree.at)
            connection.execute(update(_row).where(here, given).values(decree=None, decreed_at=None))


def of(connection: Connection, tenant: str, endpoint: str, kind: Kind, kirim_id: str, field: str) -> Any | None:
    """What is written down of one field."""
    here = and_(_of(tenant, endpoint, kind, kirim_id), _row.c.field == field)
    return connection.execute(select(_row).where(here)).first()


def decree(connection: Connection, row: Any, value: Value, now: datetime) -> None:
    """A person chose: the value is to be held on both sides, and the field moves again."""
    values = {"state": State.SETTLED.value, "decree": [value], "decreed_at": now}
    connection.execute(update(_row).where(_same(row)).values(values))
    _begin_anew(connection, row)


def thaw(connection: Connection, row: Any) -> None:
    """A frozen field moves again, and what it did before counts no more."""
    connection.execute(update(_row).where(_same(row)).values(state=State.SETTLED.value))
    _begin_anew(connection, row)


def _begin_anew(connection: Connection, row: Any) -> None:
    here = and_(*(_pair.c[name] == getattr(row, name) for name in KEY[:-1]))
    recent = connection.execute(select(_pair.c.recent).where(here)).scalar()
    if recent and recent.pop(row.field, None):
        connection.execute(update(_pair).where(here).values(recent=recent or None))


def listed(connection: Connection, tenant: str) -> list[Any]:
    """Everything that somebody should look at, the latest first."""
    chosen = and_(_row.c.tenant == tenant, _row.c.state != State.SETTLED)
    return list(connection.execute(select(_row).where(chosen).order_by(_row.c.at.desc(), *(_row.c[n] for n in KEY))))


def counts(connection: Connection) -> list[Any]:
    """Open and frozen fields, by tenant and connection; only where there are any."""
    frozen = func.count().filter(_row.c.state == State.FROZEN)
    asked = select(
        _row.c.tenant, _row.c.connection, (func.count() - frozen).label("open"), frozen.label("frozen")
    ).where(_row.c.state != State.SETTLED)
    place = (_row.c.tenant, _row.c.connection)
    return list(connection.execute(asked.group_by(*place).order_by(*place)))


def _of(tenant: str, endpoint: str, kind: Kind, kirim_id: str) -> Any:
    return and_(
        _row.c.tenant == tenant,
        _row.c.connection == endpoint,
        _row.c.kind == kind.value,
        _row.c.kirim_id == kirim_id,
    )


def _same(row: Any) -> Any:
    return and_(*(_row.c[name] == getattr(row, name) for name in KEY))
