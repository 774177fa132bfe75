"""Conflicts for people: which fields both sides changed or fight over, and what a person decides about one.

Writes to no platform: a decision is put down beside the pair, and the one path that writes carries it out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection

from crmsync.core.decide import Side, Why
from crmsync.core.lens import Lens, Unknown
from crmsync.core.mapping import FieldRule, Rules
from crmsync.core.masking import masked
from crmsync.core.typed import NotTyped, typed
from crmsync.flows.tenant import kind_of
from crmsync.model import Fields, Kind, Value
from crmsync.store import conflicts, history, pairs, records, tables
from crmsync.store.conflicts import State, value_of
from crmsync.store.database import Database
from crmsync.store.history import Entry

CAUSE = "operator:conflicts"
AllRules = Mapping[str, Mapping[Kind, Rules]]
"""The rules of a tenant's connections, by name and kind."""


class Act(StrEnum):
    """What a person does about a field."""

    KEEP = "keep"
    THAW = "thaw"


@dataclass(frozen=True, slots=True)
class Order:
    """A person's word about one field of one record: `keep` names the side whose value it is to be, else `value` is
    what it is to be, as it was typed.
    """

    connection: str
    kirim_id: str
    field: str
    act: Act
    keep: Side | None = None
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of it: empty if it was done, else why not."""

    refused: str = ""


def overview(tx: Connection, tenant: str, rules: AllRules, *, unmask: bool) -> list[dict[str, Any]]:
    """What somebody should look at, the latest first. Personal values are masked unless asked for.

    Of a frozen field the two sides are shown as they are by now.
    """
    told = []
    for row in conflicts.listed(tx, tenant):
        held = {"kirim": value_of(row.kirim), "crm": value_of(row.crm)}
        if row.state == State.FROZEN and (rule := _rule(rules, row.connection, Kind(row.kind), row.field)):
            held |= _present(tx, row, rule)
        sequence = [
            {"at": tables.moment(at).isoformat(), "side": side, "old": value_of(old), "new": value_of(new)}
            for at, side, old, new in row.sequence or ()
        ]
        told.append(
            {
                "connection": row.connection,
                "kind": row.kind,
                "kirim_id": row.kirim_id,
                "field": row.field,
                "state": row.state,
                "at": row.at.isoformat(),
                **{side: _shown(value, row.field, unmask) for side, value in held.items()},
                "rule": row.owner,
                "won": row.won or None,
                "times": row.times,
                "cause": row.cause,
                "sequence": [
                    {**each, **{key: _shown(each[key], row.field, unmask) for key in ("old", "new")}}
                    for each in sequence
                ],
            }
        )
    return told


def _shown(value: Value, field: str, unmask: bool) -> Any:
    return value if unmask else masked(value, field)


def carry_out(database: Database, tenant: str, rules: AllRules, order: Order, clock: Callable[[], datetime]) -> Outcome:
    """Does what a person said about a field. To say the same again changes nothing more."""
    return database.write(lambda tx: _carry_out(tx, tenant, rules, order, clock()))


def _carry_out(tx: Connection, tenant: str, rules: AllRules, order: Order, now: datetime) -> Outcome:
    kind = kind_of(order.kirim_id)
    rule = _rule(rules, order.connection, kind, order.field)
    if rule is None:
        return Outcome(f"{order.field} is not mapped on {order.connection}")
    row = conflicts.of(tx, tenant, order.connection, kind, order.kirim_id, rule.name)
    if row is None:
        return Outcome(f"there is no conflict about {rule.name} of {order.kirim_id} on {order.connection}")
    if order.act is Act.THAW:
        return _thaw(tx, row, now)
    held = _present(tx, row, rule) if row.sequence else {}
    held = {"kirim": value_of(row.kirim), "crm": value_of(row.crm)} | held
    try:
        value = held[order.keep] if order.keep else typed(rule.type, order.value or "", _region(rules, order, kind))
    except NotTyped as error:
        return Outcome(str(error))
    if wordless := [side for side in Side if not _has_word(rule, side, value)]:
        return Outcome(f"{' and '.join(wordless)} has no word for this value of {rule.name}")
    conflicts.decree(tx, row, value, now)
    history.add(tx, [_entry(row, now, Why.OPERATOR, "asked", held, value)])
    _make_due(tx, row, now)
    return Outcome()


def _thaw(tx: Connection, row: Any, now: datetime) -> Outcome:
    if row.state == State.OPEN:
        return Outcome(f"{row.field} of {row.kirim_id} is not frozen")
    if row.state == State.FROZEN:
        conflicts.thaw(tx, row)
        held = {"kirim": value_of(row.kirim), "crm": value_of(row.crm)}
        history.add(tx, [_entry(row, now, Why.FROZEN, "thawed", held, None)])
        _make_due(tx, row, now)
    return Outcome()


def _make_due(tx: Connection, row: Any, now: datetime) -> None:
    records.make_due(tx, row.tenant, row.connection, Kind(row.kind), {row.kirim_id: CAUSE}, now, create=False)


def _rule(rules: AllRules, connection: str, kind: Kind, field: str) -> FieldRule | None:
    """The rule of a field, by the name it is remembered by, else by what either side calls it."""
    of_kind = rules.get(connection, {}).get(kind)
    known = of_kind.fields if of_kind else ()
    for names in ([rule.name for rule in known], [rule.kirim for rule in known], [rule.crm for rule in known]):
        if field in names:
            return known[names.index(field)] if names.count(field) == 1 else None
    return None


def _region(rules: AllRules, order: Order, kind: Kind) -> str | None:
    return rules[order.connection][kind].region


def _has_word(rule: FieldRule, side: Side, value: Value) -> bool:
    lens, writable = (rule.left, rule.kirim_writable) if side is Side.KIRIM else (rule.right, rule.crm_writable)
    return not (writable and lens.writes) or lens.write(value) is not None


def _present(tx: Connection, row: Any, rule: FieldRule) -> dict[str, Value]:
    """What the sides were seen to hold last, as far as they say."""
    (pair,) = pairs.pairs(tx, row.tenant, row.connection, Kind(row.kind), [row.kirim_id]) or (None,)
    if pair is None:
        return {}
    ends: dict[str, tuple[Lens, Fields]] = {
        "kirim": (rule.left, pair.kirim.fields if pair.kirim else {}),
        "crm": (rule.right, pair.crm.fields if pair.crm else {}),
    }
    read = {side: lens.read(fields) for side, (lens, fields) in ends.items()}
    return {side: value for side, value in read.items() if not isinstance(value, Unknown)}


def _entry(row: Any, now: datetime, why: Why, outcome: str, held: Mapping[str, Value], value: Value) -> Entry:
    side = Side.CRM if row.owner == Side.KIRIM else Side.KIRIM
    return Entry(
        at=now,
        tenant=row.tenant,
        connection=row.connection,
        kind=row.kind,
        kirim_id=row.kirim_id,
        field=row.field,
        side=side.value,
        old=held[side],
        new=value,
        competing=None,
        rule=why.value,
        outcome=outcome,
        cause=CAUSE,
    )
