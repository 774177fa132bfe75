"""Why a field holds its value: the views, the agreement and the history of one contact, in data and in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from crmsync.core.canonical import same
from crmsync.core.decide import Side, Why
from crmsync.core.lens import Lens, Unknown
from crmsync.core.mapping import FieldRule, Rules
from crmsync.flows.tenant import kind_of
from crmsync.model import Value
from crmsync.store import deliveries, history, pairs, records
from crmsync.store.records import KIRIM, fields_of

REASONS: Mapping[str, str] = {
    Why.EQUAL: "both sides held the same value",
    Why.CREATED: "the contact was new to {crm}",
    Why.OWNER_AT_FIRST_SIGHT: "{owner} owns the field, and the two had not been compared before",
    Why.SEEDED: "{owner} owns the field but held nothing, so it was filled from the other side",
    Why.OWNER_CHANGED: "{owner} owns the field and changed it",
    Why.RESTORED: "{owner} owns the field and {other} had changed it",
    Why.CONFLICT: "both sides changed it and {owner} owns the field",
    Why.DRIFT: "{other} changed it, {owner} owns it, and the mapping says to report and not to restore",
    Why.NOT_WRITABLE: "{side} does not let this field be written",
    Why.REFUSED: "{side} refused the value",
}


@dataclass(frozen=True, slots=True)
class Told:
    """One history entry, as data, with the sentence that says it."""

    at: datetime
    side: str
    old: Value
    new: Value
    competing: Value
    rule: str
    outcome: str
    cause: str
    note: str
    sentence: str


@dataclass(frozen=True, slots=True)
class FieldStory:
    """One field: what both sides hold, whether that is agreement, and how it came about."""

    field: str
    crm_field: str
    owner: str
    kirim: Value
    crm: Value
    agreed: bool
    entries: tuple[Told, ...]


@dataclass(frozen=True, slots=True)
class PairStory:
    """A contact on one connection."""

    connection: str
    crm_id: str | None
    due: bool
    error: str
    kirim_seen: datetime | None
    crm_seen: datetime | None
    fields: tuple[FieldStory, ...]


def explain(
    tx: Connection, tenant: str, kirim_id: str, rules: Mapping[str, Rules], field: str | None = None
) -> list[PairStory]:
    """The story of a contact on every connection, or of one of its fields. Empty for a contact never seen.

    `rules` are the rules of each connection.
    """
    entries = history.of(tx, tenant, kirim_id, field)
    causes = _causes(tx, tenant, {entry.cause for entry in entries})
    return [
        _pair(tx, tenant, pair, rules[pair.connection], entries, causes, field)
        for pair in pairs.linked_to(tx, tenant, kind_of(kirim_id), kirim_id)
        if pair.connection in rules
    ]


def _pair(
    tx: Connection,
    tenant: str,
    pair: Any,
    rules: Rules,
    entries: Iterable[Any],
    causes: Mapping[str, str],
    field: str | None,
) -> PairStory:
    rows = records.of_pair(tx, tenant, pair.connection, rules.kind, pair.kirim_id, pair.crm_id)
    views = {row.endpoint: row for row in rows}
    kirim, crm = views.get(KIRIM), views.get(pair.connection)
    mine = [entry for entry in entries if entry.connection == pair.connection]
    due = pairs.pairs(tx, tenant, pair.connection, rules.kind, [pair.kirim_id])
    return PairStory(
        pair.connection,
        pair.crm_id,
        bool(due and due[0].revision),
        pair.error,
        kirim.seen_at if kirim else None,
        crm.seen_at if crm else None,
        tuple(
            _field(rule, rules, kirim, crm, pair.base, [entry for entry in mine if entry.field == rule.name], causes)
            for rule in rules.fields
            if field is None or field in (rule.kirim, rule.name)
        ),
    )


def _field(
    rule: FieldRule,
    rules: Rules,
    kirim: Any,
    crm: Any,
    base: Mapping[str, Any],
    entries: Iterable[Any],
    causes: Mapping[str, str],
) -> FieldStory:
    """Agreement is to hold the same, or what both held when one of them kept another value than it was sent."""
    ours = _seen(rule.left, kirim)
    theirs = _seen(rule.right, crm)
    told = tuple(_told(rule, entry, causes) for entry in entries)
    last = fields_of(dict(zip(("kirim", "crm"), base.get(rule.name, ()), strict=False)))
    respelled = bool(last) and all(
        same(rule.type, held, known, rules.region) for held, known in ((ours, last["kirim"]), (theirs, last["crm"]))
    )
    agreed = kirim is not None and crm is not None and (same(rule.type, ours, theirs, rules.region) or respelled)
    return FieldStory(rule.kirim, rule.crm, rule.owner, ours, theirs, agreed, told)


def _seen(lens: Lens, view: Any) -> Value:
    """What the rule sees of a side; nothing where it sees nothing."""
    value = lens.read(fields_of(view.fields)) if view else None
    return None if isinstance(value, Unknown) else value


def _told(rule: FieldRule, entry: Any, causes: Mapping[str, str]) -> Told:
    plain = fields_of({"old": entry.old, "new": entry.new, "competing": entry.competing})
    return Told(
        entry.at,
        entry.side,
        plain["old"],
        plain["new"],
        plain["competing"],
        entry.rule,
        entry.outcome,
        entry.cause,
        entry.note,
        _sentence(rule, entry, plain, causes.get(entry.cause, entry.cause)),
    )


def _sentence(rule: FieldRule, entry: Any, plain: Mapping[str, Value], cause: str) -> str:
    names = {Side.KIRIM: "Kirim", Side.CRM: entry.connection}
    owner = Side(rule.owner.value)
    reason = REASONS.get(entry.rule, entry.rule).format(
        crm=entry.connection, owner=names[owner], other=names[owner.other], side=names[Side(entry.side)]
    )
    where, old, new = names[Side(entry.side)], _quoted(plain["old"]), _quoted(plain["new"])
    told = {
        "written": f"{where} was changed from {old} to {new}",
        "agreed": f"{new} was taken as agreed",
        "reported": f"{where} was left at {old}",
        "left": f"{where} was left at {old}",
        "refused": f"{where} did not take {new}",
        "unanswered": f"{where} was sent {new} and gave no answer",
    }.get(entry.outcome, entry.outcome)
    lost = f" The competing value was {_quoted(plain['competing'])}." if entry.rule == Why.CONFLICT else ""
    note = f" {entry.note[0].upper()}{entry.note[1:]}." if entry.note else ""
    return f"{told}, because {reason}.{lost}{note} Learned from {cause}."


def _quoted(value: Value) -> str:
    if value is None or value in ("", ()):
        return "nothing"
    return ", ".join(value) if isinstance(value, tuple) else f"“{value}”"


def _causes(tx: Connection, tenant: str, causes: Iterable[str]) -> dict[str, str]:
    """Each cause in words; those that were items of deliveries with the event's type and time of arrival."""
    told: dict[str, str] = {}
    for cause in causes:
        endpoint, _, key = cause.partition(":")
        if endpoint == "poll":
            told[cause] = f"asking {key} for its changes"
        elif endpoint == "run":
            told[cause] = f"going through all records (run {key})"
        elif endpoint == "lookup":
            told[cause] = f"looking the contact up in {key}"
        elif endpoint == "write":
            told[cause] = "the answer to an earlier write"
        elif endpoint == "operator":
            told[cause] = "a request by the operator"
        elif item := deliveries.item(tx, tenant, endpoint, key):
            told[cause] = f"{item.type} ({key}) of {endpoint}, received {item.received_at:%Y-%m-%d %H:%M:%S} UTC"
    return told
