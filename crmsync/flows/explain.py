"""Why a field holds its value: the views, the agreement and the history of one record, in data and in words.

Each entry is a link of a chain: which event or edit, when and from where, what it competed with, by which rule what was
written, what was answered, and whether the echo of it came back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from crmsync.core.canonical import same
from crmsync.core.decide import Side, Why
from crmsync.core.lens import Lens, Unknown
from crmsync.core.mapping import FieldRule, Owner, Rules
from crmsync.core.trouble import Reason
from crmsync.flows.tenant import kind_of
from crmsync.model import Value
from crmsync.store import census, deliveries, history, pairs
from crmsync.store.history import ECHOED
from crmsync.store.losses import CLEANED
from crmsync.store.records import KIRIM, fields_of

REASONS: Mapping[str, str] = {
    Why.EQUAL: "both sides held the same value",
    Why.CREATED: "the contact was new to {crm}",
    Why.OWNER_AT_FIRST_SIGHT: "{owner} owns the field, and the two had not been compared before",
    Why.SEEDED: "{owner} owns the field but {side} held nothing, so it was filled from the other side",
    Why.OWNER_CHANGED: "{owner} owns the field and changed it",
    Why.RESTORED: "{owner} owns the field and {other} had changed it",
    Why.CONFLICT: "both sides changed it and {owner} owns the field",
    Why.MERGED: "what either side adds to the set or takes from it is done on the other",
    Why.DRIFT: "{other} changed it, {owner} owns it, and the mapping says to report and not to restore",
    Why.NOT_WRITABLE: "{side} does not let this field be written",
    Why.UNMAPPED: "{side} has no word for the value",
    Why.REFUSED: "{side} refused the value",
    Why.OPERATOR: "an operator said that both sides are to hold it",
    Why.FROZEN: "an operator said so",
    "unstorable": "NUL characters and halves of characters can neither be stored nor sent",
}
BY_TIME: Mapping[str, str] = {
    Why.OWNER_CHANGED: "whoever changes the field last owns it, and {owner} changed it",
    Why.CONFLICT: "both sides changed it, and {owner} was later, as far as that is certain",
    Why.SEEDED: "{side} held nothing, so it was filled from the other side",
    Why.OWNER_AT_FIRST_SIGHT: "{side} held nothing, so it was filled from the other side",
}
"""The reasons that are others where the field is owned by whoever was later."""
FATES: Mapping[str, str] = {
    "written": "{where} was changed from {old} to {new}",
    "agreed": "{new} was taken as agreed",
    "reported": "{where} was left at {old}",
    "left": "{where} was left at {old}",
    "refused": "{where} did not take {new}",
    "unanswered": "{where} was sent {new} and gave no answer",
    "asked": "{new} was asked for on both sides",
    "thawed": "The field was thawed",
    CLEANED: "Of what {where} holds {new} was kept",
}
MOVED = frozenset({Why.OWNER_CHANGED, Why.CONFLICT, Why.RESTORED, Why.DRIFT, Why.MERGED})
COMPETING = frozenset({Why.CONFLICT, Why.RESTORED})


@dataclass(frozen=True, slots=True)
class Learned:
    """From where something was learned: an endpoint and its event where there was one, and when that came in."""

    cause: str
    words: str
    endpoint: str = ""
    event: str = ""
    key: str = ""
    received_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Echo:
    """The platform told us back what we wrote."""

    at: datetime
    learned: Learned


@dataclass(frozen=True, slots=True)
class Told:
    """One history entry, as data, with the sentence that says it. `changed_at` is the platform's own time."""

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
    changed_at: datetime | None
    learned: Learned
    echo: Echo | None


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
    frozen: bool = False


@dataclass(frozen=True, slots=True)
class PairStory:
    """A record on one connection; `unlinked` if somebody deleted its record in the CRM."""

    connection: str
    crm_id: str | None
    due: bool
    error: str
    kirim_seen: datetime | None
    crm_seen: datetime | None
    fields: tuple[FieldStory, ...]
    unlinked: bool = False


Causes = Mapping[str, Learned]


def explain(
    tx: Connection, tenant: str, kirim_id: str, rules: Mapping[str, Rules], field: str | None = None
) -> list[PairStory]:
    """The story of a record on every connection, or of one of its fields. Empty for one that was never seen.

    `rules` are the rules of each connection.
    """
    known = [rule for each in rules.values() for rule in each.fields if field in (rule.kirim, rule.name)]
    names = {name for rule in known for name in (rule.name, *rule.left.names, *rule.right.names)}
    entries = history.of(tx, tenant, kirim_id, field, names)
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
    causes: Causes,
    field: str | None,
) -> PairStory:
    rows = census.of_pair(tx, tenant, pair.connection, rules.kind, pair.kirim_id, pair.crm_id)
    views = {row.endpoint: row for row in rows}
    kirim, crm = views.get(KIRIM), views.get(pair.connection)
    mine = [entry for entry in entries if entry.connection in (pair.connection, "")]
    (taken,) = pairs.pairs(tx, tenant, pair.connection, rules.kind, [pair.kirim_id])
    return PairStory(
        pair.connection,
        pair.crm_id,
        bool(taken.revision),
        pair.error,
        kirim.seen_at if kirim else None,
        crm.seen_at if crm else None,
        tuple(
            _field(rule, rules, kirim, crm, pair.base, _of_field(mine, rule), causes, rule.name in taken.rulings.frozen)
            for rule in rules.fields
            if field is None or field in (rule.kirim, rule.name)
        ),
        unlinked=pair.reason == Reason.DELETED and not pair.parked,
    )


def _of_field(entries: Iterable[Any], rule: FieldRule) -> list[Any]:
    return [entry for entry in entries if _concerns(entry, rule)]


def _concerns(entry: Any, rule: FieldRule) -> bool:
    """Whether an entry belongs to a field's story. What was cleaned goes by the side's own names."""
    if entry.outcome == CLEANED:
        return str(entry.field) in (rule.left if entry.side == Side.KIRIM else rule.right).names
    return bool(entry.field == rule.name or entry.outcome == ECHOED)


def _field(
    rule: FieldRule,
    rules: Rules,
    kirim: Any,
    crm: Any,
    base: Mapping[str, Any],
    entries: Sequence[Any],
    causes: Causes,
    frozen: bool,
) -> FieldStory:
    """Agreement is to hold the same, or what both held when one of them kept another value than it was sent."""
    ours = _seen(rule.left, kirim)
    theirs = _seen(rule.right, crm)
    told = tuple(_told(rule, entry, echo, causes) for entry, echo in _with_echoes(entries))
    last = fields_of(dict(zip(("kirim", "crm"), base.get(rule.name, ()), strict=False)))
    respelled = bool(last) and all(
        same(rule.type, held, known, rules.region) for held, known in ((ours, last["kirim"]), (theirs, last["crm"]))
    )
    agreed = kirim is not None and crm is not None and (same(rule.type, ours, theirs, rules.region) or respelled)
    return FieldStory(rule.kirim, rule.crm, rule.owner, ours, theirs, agreed, told, frozen)


def _with_echoes(entries: Sequence[Any]) -> list[tuple[Any, Any | None]]:
    """The entries of a field, each write with the first echo of its record that came after it."""
    found: list[tuple[Any, Any | None]] = []
    for entry in entries:
        if entry.outcome != ECHOED:
            found.append((entry, None))
            continue
        for place, (written, echo) in reversed(list(enumerate(found))):
            if written.side == entry.side and written.outcome == "written":
                if echo is None:
                    found[place] = (written, entry)
                break
    return found


def _seen(lens: Lens, view: Any) -> Value:
    """What the rule sees of a side; nothing where it sees nothing."""
    value = lens.read(fields_of(view.fields)) if view else None
    return None if isinstance(value, Unknown) else value


def _told(rule: FieldRule, entry: Any, echo: Any | None, causes: Causes) -> Told:
    plain = fields_of({"old": entry.old, "new": entry.new, "competing": entry.competing})
    learned = causes[entry.cause]
    heard = None if echo is None else Echo(echo.at, causes[echo.cause])
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
        _sentence(rule, entry, plain, learned, heard),
        entry.changed_at,
        learned,
        heard,
    )


def _sentence(rule: FieldRule, entry: Any, plain: Mapping[str, Value], learned: Learned, echo: Echo | None) -> str:
    where = _name(Side(entry.side), entry)
    told = FATES.get(entry.outcome, entry.outcome).format(
        where=where, old=_quoted(plain["old"]), new=_quoted(plain["new"])
    )
    parts = [f"{told}, because {_reason(rule, entry)}."]
    if entry.rule in COMPETING:
        parts.append(f"The competing value was {_quoted(plain['competing'])}.")
    if entry.note:
        parts.append(f"{entry.note[0].upper()}{entry.note[1:]}.")
    if entry.changed_at and entry.rule in MOVED:
        mover = Side(entry.side) if entry.rule in (Why.RESTORED, Why.DRIFT) else Side(entry.side).other
        parts.append(f"{_name(mover, entry)} changed it at {_clock(entry.changed_at)}.")
    parts.append(f"Learned from {learned.words}.")
    if entry.outcome == "written":
        heard = f"told it back at {_clock(echo.at)} ({echo.learned.words})" if echo else "has not told it back yet"
        parts.append(f"{where} accepted it and {heard}.")
    return " ".join(parts)


def _reason(rule: FieldRule, entry: Any) -> str:
    """The rule in words. Where nobody owns the field for good, it is the owner whose value was written."""
    side = Side(entry.side)
    shared = rule.owner in (Owner.LATEST, Owner.UNION)
    owner = side.other if shared else Side(rule.owner.value)
    words = BY_TIME.get(entry.rule) if rule.owner is Owner.LATEST else None
    template = words or REASONS.get(entry.rule, entry.rule)
    return template.format(
        crm=entry.connection, owner=_name(owner, entry), other=_name(owner.other, entry), side=_name(side, entry)
    )


def _name(side: Side, entry: Any) -> str:
    return "Kirim" if side is Side.KIRIM else str(entry.connection)


def _quoted(value: Value) -> str:
    if value is None or value in ("", ()):
        return "nothing"
    return ", ".join(value) if isinstance(value, tuple) else f"“{value}”"


def _clock(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _causes(tx: Connection, tenant: str, causes: Iterable[str]) -> dict[str, Learned]:
    """Each cause in words; those that were items of deliveries with the event's type and time of arrival."""
    return {cause: _learned(tx, tenant, cause) for cause in causes}


def _learned(tx: Connection, tenant: str, cause: str) -> Learned:
    endpoint, _, key = cause.partition(":")
    words = {
        "poll": f"asking {key} for its changes",
        "run": f"going through all records (run {key})",
        "lookup": f"looking the contact up in {key}",
        "write": "the answer to an earlier write",
        "refused": f"reading the record that {key} had refused to change",
        "operator": "a request by the operator",
    }
    if endpoint in words:
        return Learned(cause, words[endpoint], key if endpoint in ("poll", "lookup", "refused") else "")
    if item := deliveries.item(tx, tenant, endpoint, key):
        told = f"{item.type} ({key}) of {endpoint}, received {_clock(item.received_at)}"
        return Learned(cause, told, endpoint, item.type, key, item.received_at)
    return Learned(cause, cause, endpoint, "", key)
