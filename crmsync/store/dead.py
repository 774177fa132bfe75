"""Dead letters: deliveries and items not understood, parked pairs, records read no more, messages not logged.

They live in five tables and are told as one list. Nothing is deleted here: what is retried is made due again, what is
dropped is marked, and both leave a line of history.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, literal_column, select, update

from crmsync.core.decide import Why
from crmsync.core.trouble import NONE, Reason, Trouble
from crmsync.model import Kind
from crmsync.store import history, records, tables
from crmsync.store.cursors import NEVER
from crmsync.store.deliveries import DeliveryState, Ending
from crmsync.store.history import Entry
from crmsync.store.records import KIRIM

CAUSE = "operator:dead"
HEAVY = frozenset({"body", "key", "base", "noted", "trouble", "sent"})
"""Columns that no list shows."""

_delivery = tables.Delivery.__table__  # type: ignore[attr-defined]
_item = tables.SeenItem.__table__  # type: ignore[attr-defined]
_pair = tables.Pair.__table__  # type: ignore[attr-defined]
_due = tables.Due.__table__  # type: ignore[attr-defined]
_stale = tables.Stale.__table__  # type: ignore[attr-defined]
_entry = tables.TimelineEntry.__table__  # type: ignore[attr-defined]


class Form(StrEnum):
    """What is dead."""

    DELIVERY = "delivery"  # a body that could not be understood, or ended the process
    ITEM = "item"  # one thing that a delivery said
    PAIR = "pair"  # a contact and a CRM, which cannot be brought to agree
    READING = "reading"  # a record that cannot be read again
    ENTRY = "entry"  # a message, or a day of a conversation, that cannot be put onto a timeline


@dataclass(frozen=True, slots=True)
class Name:
    """Which letter: `place` is a source or a connection, `key` the id in it. A delivery's is its number alone."""

    form: Form
    key: str
    tenant: str = ""
    place: str = ""
    kind: str = ""

    def __str__(self) -> str:
        within = [part for part in (self.tenant, self.place, self.kind) if part]
        return "/".join([self.form.value, *within, self.key])

    @classmethod
    def parse(cls, text: str) -> Name | None:
        """The name that `str` gave, or None for anything else."""
        form, _, rest = text.partition("/")
        parts = {"delivery": 1, "item": 3, "pair": 4, "reading": 4, "entry": 3}.get(form, 0)
        found = rest.split("/", parts - 1) if parts else []
        if not parts or len(found) != parts or not all(found):
            return None
        if form == Form.DELIVERY:
            return cls(Form.DELIVERY, rest) if rest.isdecimal() and len(rest) < 19 else None
        if form in (Form.ITEM, Form.ENTRY):
            return cls(Form(form), found[2], found[0], found[1])
        return cls(Form(form), found[3], found[0], found[1], found[2])


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter in the list. `at`: since when; `about`: an item's or a record's kind of thing."""

    name: Name
    tenant: str
    place: str
    reason: str
    at: datetime
    about: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters: every condition that is set has to hold."""

    tenant: str | None = None
    place: str | None = None
    reason: str | None = None
    since: datetime | None = None

    @property
    def anything(self) -> bool:
        """Whether no condition is set."""
        return self == Wanted()


def letters(connection: Connection, wanted: Wanted, limit: int) -> list[Letter]:
    """The youngest letters, the youngest first."""
    found = [letter for of in _LISTS.values() for letter in of(connection, wanted, limit)]
    return sorted(found, key=lambda letter: (letter.at, str(letter.name)), reverse=True)[:limit]


def counts(connection: Connection, wanted: Wanted) -> dict[tuple[str, str, str, str], int]:
    """How many, by tenant, place, form and reason."""
    counted: dict[tuple[str, str, str, str], int] = {}
    for form, table, place, at, dead in _FORMS:
        rows = connection.execute(
            select(table.c.tenant, place, table.c.reason, func.count().label("amount"))
            .where(dead, _where(table, place, at, wanted))
            .group_by(table.c.tenant, place, table.c.reason)
        )
        counted.update({(row[0], row[1], form.value, row[2]): row.amount for row in rows})
    return counted


def named(connection: Connection, name: Name) -> Letter | None:
    """One letter, if it is dead."""
    found = _LISTS[name.form](connection, Wanted(), 1, _is(name))
    return found[0] if found else None


def ending_in(connection: Connection, key: str, limit: int) -> list[Letter]:
    """The letters about a contact, a record or an item, by its id alone."""
    return [
        letter
        for of, column in (
            (_items, _item.c.key),
            (_pairs, _pair.c.kirim_id),
            (_readings, _stale.c.id),
            (_entries, _entry.c.key),
        )
        for letter in of(connection, Wanted(), limit, column == key)
    ]


# -- one letter whole


@dataclass(frozen=True, slots=True)
class Whole:
    """What else is known of a letter: the body it came in, how often it was begun, the refusals of a pair, and the row
    of a message.
    """

    body: bytes | None = None
    received_at: datetime | None = None
    attempts: int = 0
    trouble: Trouble = NONE
    crm_id: str | None = None
    cause: str = ""
    message: int | None = None


def whole(connection: Connection, name: Name) -> Whole:
    """Everything that is stored of a letter."""
    if name.form in (Form.DELIVERY, Form.ITEM):
        number = _delivery_of(connection, name)
        row = connection.execute(select(_delivery).where(_delivery.c.id == number)).first()
        return Whole() if row is None else Whole(row.body, row.received_at, row.attempts)
    if name.form is Form.PAIR:
        row = connection.execute(select(_pair).where(_is(name))).one()
        return Whole(attempts=row.attempts, trouble=Trouble.of(row.trouble), crm_id=row.crm_id)
    if name.form is Form.ENTRY:
        row = connection.execute(select(_entry).where(_is(name))).one()
        return Whole(attempts=row.failures, cause=row.cause, crm_id=row.crm_id, message=row.message_id)
    row = connection.execute(select(_stale).where(_is(name))).one()
    return Whole(attempts=row.attempts, cause=row.cause)


def state(connection: Connection, name: Name) -> str:
    """What became of something that is not dead, in one word; empty if there is no such thing."""
    if name.form is Form.DELIVERY:
        found = connection.execute(select(_delivery.c.state).where(_is(name))).scalar()
        return "" if found is None else DeliveryState(found).name.lower()
    if name.form is Form.ITEM:
        return str(connection.execute(select(_item.c.outcome).where(_is(name))).scalar() or "")
    if name.form is Form.PAIR:
        row = connection.execute(select(_pair.c.trouble).where(_is(name))).first()
        due = connection.execute(select(_due.c.revision).where(_same_due(name))).first()
        return "" if row is None else "pending" if due else "dropped" if Trouble.of(row[0]).dropped else "done"
    if name.form is Form.ENTRY:
        idle = connection.execute(select(_entry.c.not_before == NEVER).where(_is(name))).scalar()
        return "" if idle is None else "done" if idle else "pending"
    return "pending" if connection.execute(select(_stale.c.id).where(_is(name))).first() else ""


# -- what an operator does


def retry(connection: Connection, name: Name, now: datetime) -> bool:
    """Makes it due again, with the counts of its attempts begun anew; whether there was anything to make due.

    Of a delivery that is not dead, every item counts as new once more.
    """
    if name.form in (Form.DELIVERY, Form.ITEM):
        done = _process_again(connection, name)
    elif name.form is Form.PAIR:
        done = _decide_again(connection, name, now)
    elif name.form is Form.ENTRY:
        again = {"reason": "", "error": "", "failures": 0, "not_before": now, "cause": CAUSE}
        done = connection.execute(update(_entry).where(_is(name)).values(**again)).rowcount > 0
    else:
        records.mark_stale(connection, name.tenant, name.place, Kind(name.kind), {name.key: CAUSE}, now)
        done = True
    if done:
        _note(connection, name, "retried", "", now)
    return done


def drop(connection: Connection, letter: Letter, now: datetime) -> None:
    """It is right as it is: no longer shown, still kept."""
    name = letter.name
    if name.form is Form.DELIVERY:
        connection.execute(update(_delivery).where(_is(name)).values(state=DeliveryState.DROPPED.value))
    elif name.form is Form.ITEM:
        connection.execute(update(_item).where(_is(name)).values(outcome=Ending.DROPPED.value))
    elif name.form is Form.PAIR:
        before = connection.execute(select(_pair.c.trouble).where(_is(name))).scalar()
        trouble = Trouble(Trouble.of(before).refusals, letter.reason)
        connection.execute(
            update(_pair).where(_is(name)).values(parked=False, error="", reason="", trouble=trouble.document())
        )
    elif name.form is Form.ENTRY:
        connection.execute(update(_entry).where(_is(name)).values(reason="", error=""))
    else:
        connection.execute(delete(_stale).where(_is(name)))  # its only content was that it should be read
    _note(connection, name, "dropped", letter.reason, now)


def _process_again(connection: Connection, name: Name) -> bool:
    number = _delivery_of(connection, name)
    values = {"state": DeliveryState.PENDING.value, "attempts": 0, "reason": "", "not_before": None, "forced": 1}
    found = connection.execute(update(_delivery).where(_delivery.c.id == number).values(**values)).rowcount > 0
    if found:
        broken = and_(_item.c.delivery_id == number, _item.c.outcome.in_([Ending.DEAD, Ending.DROPPED]))
        connection.execute(update(_item).where(broken).values(outcome=Ending.AGAIN.value))
    return found


def _decide_again(connection: Connection, name: Name, now: datetime) -> bool:
    """Refusals are forgotten, both those of the whole and those of single fields; a deleted record is read again."""
    row = connection.execute(select(_pair).where(_is(name))).first()
    if row is None:
        return False
    noted = {field: note for field, note in row.noted.items() if note[0] != Why.REFUSED}
    connection.execute(
        update(_pair)
        .where(_is(name))
        .values(parked=False, error="", reason="", trouble=None, attempts=0, failures=0, noted=noted)
    )
    kind = Kind(name.kind)
    if row.crm_id and row.reason == Reason.DELETED:
        records.mark_stale(connection, name.tenant, name.place, kind, {row.crm_id: CAUSE}, now)
    records.make_due(connection, name.tenant, name.place, kind, {name.key: CAUSE}, now, create=False)
    connection.execute(update(_due).where(_same_due(name)).values(not_before=now))
    return True


def _note(connection: Connection, name: Name, outcome: str, reason: str, now: datetime) -> None:
    """The operator's hand, in the history."""
    tenant, place = name.tenant, name.place
    if name.form is Form.DELIVERY:
        row = connection.execute(select(_delivery.c.tenant, _delivery.c.source).where(_is(name))).one()
        tenant, place = row
    history.add(
        connection,
        [
            Entry(
                at=now,
                tenant=tenant,
                connection=place,
                kind=name.kind or name.form.value,
                kirim_id=name.key if name.form is Form.PAIR else str(name),
                field="",
                side=KIRIM if place == KIRIM else "crm",
                old=None,
                new=None,
                competing=None,
                rule="operator",
                outcome=outcome,
                cause=CAUSE,
                note=reason,
            )
        ],
    )


def _delivery_of(connection: Connection, name: Name) -> int | None:
    if name.form is Form.DELIVERY:
        return int(name.key)
    number: int | None = connection.execute(select(_item.c.delivery_id).where(_is(name))).scalar()
    return number


# -- the five tables

_DEAD_DELIVERY = and_(_delivery.c.state > literal_column("1"), _delivery.c.state == DeliveryState.DEAD)
_DEAD_ITEM = _item.c.outcome == literal_column("'dead'")
_FORMS: Sequence[tuple[Form, Any, Any, Any, Any]] = (
    (Form.DELIVERY, _delivery, _delivery.c.source, _delivery.c.received_at, _DEAD_DELIVERY),
    (Form.ITEM, _item, _item.c.source, _item.c.at, _DEAD_ITEM),
    (Form.PAIR, _pair, _pair.c.connection, _pair.c.synced_at, _pair.c.parked),
    (Form.READING, _stale, _stale.c.endpoint, _stale.c.first_at, _stale.c.reason != ""),
    (Form.ENTRY, _entry, _entry.c.connection, _entry.c.first_at, _entry.c.reason != ""),
)


def _select(connection: Connection, form: Form, wanted: Wanted, limit: int, also: Sequence[Any]) -> Iterable[Any]:
    _, table, place, at, dead = next(entry for entry in _FORMS if entry[0] is form)
    light = [column for column in table.c if column.name not in HEAVY or form in (Form.ITEM, Form.ENTRY)]
    return connection.execute(
        select(*light).where(dead, _where(table, place, at, wanted), *also).order_by(at.desc()).limit(limit)
    )


def _where(table: Any, place: Any, at: Any, wanted: Wanted) -> ColumnElement[bool]:
    conditions = []
    if wanted.tenant is not None:
        conditions.append(table.c.tenant == wanted.tenant)
    if wanted.place is not None:
        conditions.append(place == wanted.place)
    if wanted.reason is not None:
        conditions.append(table.c.reason == wanted.reason)
    if wanted.since is not None:
        conditions.append(at >= wanted.since)
    return and_(True, *conditions)


def _is(name: Name) -> ColumnElement[bool]:
    if name.form is Form.DELIVERY:
        return and_(_delivery.c.id == int(name.key))
    if name.form is Form.ITEM:
        return and_(_item.c.tenant == name.tenant, _item.c.source == name.place, _item.c.key == name.key)
    if name.form is Form.PAIR:
        same = (_pair.c.tenant == name.tenant, _pair.c.connection == name.place, _pair.c.kirim_id == name.key)
        return and_(*same, _pair.c.kind == name.kind)
    if name.form is Form.ENTRY:
        return and_(_entry.c.tenant == name.tenant, _entry.c.connection == name.place, _entry.c.key == name.key)
    same = (_stale.c.tenant == name.tenant, _stale.c.endpoint == name.place, _stale.c.id == name.key)
    return and_(*same, _stale.c.kind == name.kind)


def _same_due(name: Name) -> ColumnElement[bool]:
    same = (_due.c.tenant == name.tenant, _due.c.connection == name.place, _due.c.kirim_id == name.key)
    return and_(*same, _due.c.kind == name.kind)


def _deliveries(connection: Connection, wanted: Wanted, limit: int, *also: Any) -> list[Letter]:
    return [
        Letter(Name(Form.DELIVERY, str(row.id)), row.tenant, row.source, row.reason, row.received_at)
        for row in _select(connection, Form.DELIVERY, wanted, limit, also)
    ]


def _items(connection: Connection, wanted: Wanted, limit: int, *also: Any) -> list[Letter]:
    return [
        Letter(Name(Form.ITEM, row.key, row.tenant, row.source), row.tenant, row.source, row.reason, row.at, row.type)
        for row in _select(connection, Form.ITEM, wanted, limit, also)
    ]


def _pairs(connection: Connection, wanted: Wanted, limit: int, *also: Any) -> list[Letter]:
    return [
        Letter(
            Name(Form.PAIR, row.kirim_id, row.tenant, row.connection, row.kind),
            row.tenant,
            row.connection,
            row.reason,
            row.synced_at,
            row.kind,
            row.error,
        )
        for row in _select(connection, Form.PAIR, wanted, limit, also)
    ]


def _readings(connection: Connection, wanted: Wanted, limit: int, *also: Any) -> list[Letter]:
    return [
        Letter(
            Name(Form.READING, row.id, row.tenant, row.endpoint, row.kind),
            row.tenant,
            row.endpoint,
            row.reason,
            row.first_at,
            row.kind,
            row.error,
        )
        for row in _select(connection, Form.READING, wanted, limit, also)
    ]


def _entries(connection: Connection, wanted: Wanted, limit: int, *also: Any) -> list[Letter]:
    return [
        Letter(
            Name(Form.ENTRY, row.key, row.tenant, row.connection),
            row.tenant,
            row.connection,
            row.reason,
            row.first_at,
            "digest" if row.day else "message",
            row.error,
        )
        for row in _select(connection, Form.ENTRY, wanted, limit, also)
    ]


_LISTS = {
    Form.DELIVERY: _deliveries,
    Form.ITEM: _items,
    Form.PAIR: _pairs,
    Form.READING: _readings,
    Form.ENTRY: _entries,
}
