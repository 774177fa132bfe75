"""What to write: a pure function of the rules and of the two views of a pair.

For each field K is what Kirim was seen to hold, C what the CRM was seen to hold, and B what both last agreed
on. B keeps *both* spellings, so a platform that respells, trims or cuts what it is sent does not look changed.
An absent key is unknown and decides nothing; None is an explicit empty value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from crmsync.core.canonical import canonical
from crmsync.core.mapping import FieldRule, OnDrift, Owner, Rules
from crmsync.model import Fields, Value


class Side(StrEnum):
    """The two ends of a pair."""

    KIRIM = "kirim"
    CRM = "crm"

    @property
    def other(self) -> Side:
        """The opposite end."""
        return Side.CRM if self is Side.KIRIM else Side.KIRIM


class Why(StrEnum):
    """The rule that a step follows."""

    EQUAL = "equal"  # both sides hold the same value
    CREATED = "created"  # the record is new on the CRM side
    OWNER_AT_FIRST_SIGHT = "owner_at_first_sight"  # no base yet: the owner's value wins
    SEEDED = "seeded"  # no base yet and the owner's side is empty: filled from the other
    OWNER_CHANGED = "owner_changed"
    RESTORED = "restored"  # the side that does not own the field changed it
    CONFLICT = "conflict"  # both changed it, to different values: the owner's stands
    DRIFT = "drift"  # as RESTORED, but the mapping says to report only
    NOT_WRITABLE = "not_writable"  # the side that should change takes no writes
    REFUSED = "refused"  # the platform would not take this value


@dataclass(frozen=True, slots=True)
class Agreed:
    """What both sides last agreed on, in each side's own spelling."""

    kirim: Value
    crm: Value


@dataclass(frozen=True, slots=True)
class Noted:
    """A combination of values that was looked at and left alone; it is not looked at again until one changes."""

    why: Why
    kirim: Value
    crm: Value


@dataclass(frozen=True, slots=True)
class PairView:
    """All that `decide` looks at. `crm` is None where the CRM has no record yet."""

    kirim: Fields
    crm: Fields | None
    base: Mapping[str, Agreed] = field(default_factory=lambda: MappingProxyType({}))
    noted: Mapping[str, Noted] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Step:
    """What happens to one field: `value` is written to `to`, or, with `to` None, the field is left alone.

    `old` is what the written side held; `competing` the value that lost, where two claims met; `left` the side that
    would have been written if it took writes.
    """

    rule: FieldRule
    why: Why
    to: Side | None
    value: Value
    kirim: Value
    crm: Value
    competing: Value = None
    left: Side | None = None

    @property
    def about(self) -> Side:
        """The side whose value is written, or left as it is."""
        return self.to or self.left or Side(self.rule.owner.value).other

    @property
    def old(self) -> Value:
        """What the side that it is about holds now."""
        return self.kirim if self.about is Side.KIRIM else self.crm


@dataclass(frozen=True, slots=True)
class Decision:
    """The steps of one pair, in the order of the mapping. No steps: the pair is in agreement."""

    steps: tuple[Step, ...]

    def writes(self, side: Side) -> Fields:
        """The fields to be written to a side, in its own names."""
        return {
            (step.rule.kirim if side is Side.KIRIM else step.rule.crm): step.value
            for step in self.steps
            if step.to is side
        }

    @property
    def quiet(self) -> bool:
        """Whether nothing is to be written."""
        return all(step.to is None for step in self.steps)


def decide(rules: Rules, pair: PairView) -> Decision:
    """Every step that brings the pair to what its owners say. Applying it and deciding again gives no step."""
    steps = (_step(rule, rules, pair) for rule in rules.fields)
    return Decision(tuple(step for step in steps if step is not None))


def _step(rule: FieldRule, rules: Rules, pair: PairView) -> Step | None:
    base = pair.base.get(rule.kirim)
    if pair.crm is None:
        return _created(rule, pair, rules)
    kirim = pair.kirim.get(rule.kirim, base.kirim if base else _UNKNOWN)
    crm = pair.crm.get(rule.crm, base.crm if base else _UNKNOWN)
    if isinstance(kirim, _Unknown) or isinstance(crm, _Unknown):
        return None

    def form(value: Value) -> object:
        return canonical(rule.type, value, rules.region)

    if form(kirim) == form(crm):
        settled = base is not None and form(base.kirim) == form(kirim) and form(base.crm) == form(crm)
        return None if settled else Step(rule, Why.EQUAL, None, kirim, kirim, crm)
    left = pair.noted.get(rule.kirim)
    if left is not None and form(left.kirim) == form(kirim) and form(left.crm) == form(crm):
        return None
    if base is None:
        return _first_sight(rule, kirim, crm, owner_empty=form(kirim if rule.owner is Owner.KIRIM else crm) is None)
    return _changed(
        rule, kirim, crm, kirim_moved=form(kirim) != form(base.kirim), crm_moved=form(crm) != form(base.crm)
    )


def _created(rule: FieldRule, pair: PairView, rules: Rules) -> Step | None:
    """A record that the CRM does not have yet: every value that Kirim is known to hold goes into it."""
    kirim = pair.kirim.get(rule.kirim)
    left = pair.noted.get(rule.kirim)
    if canonical(rule.type, kirim, rules.region) is None or not rule.crm_writable:
        return None
    if left is not None and canonical(rule.type, left.kirim, rules.region) == canonical(rule.type, kirim, rules.region):
        return None
    return Step(rule, Why.CREATED, Side.CRM, kirim, kirim, None)


def _first_sight(rule: FieldRule, kirim: Value, crm: Value, *, owner_empty: bool) -> Step:
    """No base: the owner's value wins if it has one, else it is seeded. Nothing is ever cleared here."""
    owner = Side(rule.owner.value)
    if owner_empty:
        return _write(rule, Why.SEEDED, owner, kirim, crm)
    return _write(rule, Why.OWNER_AT_FIRST_SIGHT, owner.other, kirim, crm)


def _changed(rule: FieldRule, kirim: Value, crm: Value, *, kirim_moved: bool, crm_moved: bool) -> Step | None:
    """The table of ownership, for two values that differ and a base."""
    if not kirim_moved and not crm_moved:
        return None  # the far side respelled what it was sent: agreed
    owner = Side(rule.owner.value)
    owner_moved, other_moved = (kirim_moved, crm_moved) if owner is Side.KIRIM else (crm_moved, kirim_moved)
    if owner_moved:
        return _write(rule, Why.CONFLICT if other_moved else Why.OWNER_CHANGED, owner.other, kirim, crm)
    if rule.on_drift is OnDrift.REPORT:
        return Step(rule, Why.DRIFT, None, _of(owner.other, kirim, crm), kirim, crm)
    return _write(rule, Why.RESTORED, owner.other, kirim, crm)


def _write(rule: FieldRule, why: Why, to: Side, kirim: Value, crm: Value) -> Step:
    """A step towards `to`, or a note where that side takes no writes."""
    value, lost = (kirim, crm) if to is Side.CRM else (crm, kirim)
    if not (rule.crm_writable if to is Side.CRM else rule.kirim_writable):
        return Step(rule, Why.NOT_WRITABLE, None, value, kirim, crm, lost, left=to)
    return Step(rule, why, to, value, kirim, crm, lost if why in (Why.CONFLICT, Why.RESTORED) else None)


def _of(side: Side, kirim: Value, crm: Value) -> Value:
    return kirim if side is Side.KIRIM else crm


class _Unknown:
    """Stands for a value that was never seen."""


_UNKNOWN = _Unknown()


@dataclass(frozen=True, slots=True)
class Settled:
    """What a pair remembers after a step was carried out, and what is worth telling about it."""

    base: Mapping[str, Agreed]
    noted: Mapping[str, Noted]
    respelled: Mapping[str, Value]


def settle(
    rules: Rules,
    pair: PairView,
    decision: Decision,
    answers: Mapping[Side, Fields] = MappingProxyType({}),
    refused: Mapping[Side, Mapping[str, str]] = MappingProxyType({}),
) -> Settled:
    """The base and the notes after the decision was carried out.

    `answers` has, for each side that accepted its writes, the record as it came back (empty if it did not);
    a side that is missing there was not written. What a platform answers counts as agreement with what it was
    sent, even if it spells, trims or cuts it; `respelled` names those fields with what became of them.
    """
    base, noted, respelled = dict(pair.base), dict(pair.noted), {}
    for step in decision.steps:
        name = step.rule.kirim
        if step.to is None:
            if step.why is Why.EQUAL:
                base[name] = Agreed(step.kirim, step.crm)
                noted.pop(name, None)
            else:
                noted[name] = Noted(step.why, step.kirim, step.crm)
            continue
        far = step.rule.kirim if step.to is Side.KIRIM else step.rule.crm
        if far in refused.get(step.to, {}):
            noted[name] = Noted(Why.REFUSED, step.kirim, step.crm)
        elif step.to in answers:
            held = answers[step.to].get(far, step.value)
            base[name] = Agreed(held, step.value) if step.to is Side.KIRIM else Agreed(step.value, held)
            noted.pop(name, None)
            if canonical(step.rule.type, held, rules.region) != canonical(step.rule.type, step.value, rules.region):
                respelled[name] = held
    return Settled(base, noted, respelled)
