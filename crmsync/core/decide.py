"""What to write: a pure function of the rules and of the two views of a pair.

For each field K is what Kirim was seen to hold, C what the CRM was seen to hold, and B what both last agreed
on. B keeps *both* spellings, so a platform that respells, trims or cuts what it is sent does not look changed.
An absent key is unknown and decides nothing; None is an explicit empty value.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from crmsync.core.canonical import canonical, same, text
from crmsync.core.lens import UNKNOWN, Assigned, Unknown
from crmsync.core.mapping import FieldRule, OnDrift, Owner, Rules
from crmsync.core.values import value
from crmsync.core.views import NO_TIMES, Times
from crmsync.model import NOTHING, Fields, Value


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
    CONFLICT = "conflict"  # both changed it, to different values: one stands, by the rule of its owner
    MERGED = "merged"  # a set that both sides add to and take from
    DRIFT = "drift"  # as RESTORED, but the mapping says to report only
    NOT_WRITABLE = "not_writable"  # the side that should change takes no writes
    UNMAPPED = "unmapped"  # the side that should change has no word for the value
    REFUSED = "refused"  # the platform would not take this value
    OPERATOR = "operator"  # a person said which value it is to be, on both sides
    FROZEN = "frozen"  # it went back and forth: it is left alone until a person says so


@value
class Agreed:
    """What both sides last agreed on, in each side's own spelling."""

    kirim: Value
    crm: Value


@value
class Noted:
    """A combination of values that was looked at and left alone; it is not looked at again until one changes."""

    why: Why
    kirim: Value
    crm: Value


@value
class PairView:
    """All that `decide` looks at. `crm` is None where the CRM has no record yet.

    The times are those of the views: the platform's own, per field. What is not known to have one changed nobody knows
    when. `frozen` fields are left alone whatever they hold; `decreed` are values that a person chose, for both sides,
    whoever owns the field and frozen or not.
    """

    kirim: Fields
    crm: Fields | None
    base: Mapping[str, Agreed] = field(default_factory=lambda: MappingProxyType({}))
    noted: Mapping[str, Noted] = field(default_factory=lambda: MappingProxyType({}))
    kirim_times: Times = field(default_factory=lambda: NO_TIMES)
    crm_times: Times = field(default_factory=lambda: NO_TIMES)
    frozen: Collection[str] = ()
    decreed: Fields = field(default_factory=lambda: NOTHING)


@value
class Step:
    """What happens to one field: `value` is written to `to`, or, with `to` None, the field is left alone.

    `raw` is what is written, in the names and the words of that side. `old` is what the written side held;
    `competing` the value that lost, where two claims met; `left` the side that would have been written if it took it.
    """

    rule: FieldRule
    why: Why
    to: Side | None
    value: Value
    kirim: Value
    crm: Value
    competing: Value = None
    left: Side | None = None
    raw: Fields = field(default_factory=lambda: NOTHING)

    @property
    def about(self) -> Side:
        """The side whose value is written, or left as it is."""
        return self.to or self.left or (Side.KIRIM if self.rule.owner is Owner.CRM else Side.CRM)

    @property
    def old(self) -> Value:
        """What the side that it is about holds now."""
        return self.kirim if self.about is Side.KIRIM else self.crm


@value
class Decision:
    """The steps of one pair, in the order of the mapping. No steps: the pair is in agreement."""

    steps: tuple[Step, ...]

    def writes(self, side: Side) -> Fields:
        """The fields to be written to a side, in its own names."""
        return {name: value for step in self.steps if step.to is side for name, value in step.raw.items()}

    @property
    def quiet(self) -> bool:
        """Whether nothing is to be written."""
        return all(step.to is None for step in self.steps)


def decide(rules: Rules, pair: PairView) -> Decision:
    """Every step that brings the pair to what its owners say. Applying it and deciding again gives no step."""
    return Decision(tuple(step for rule in rules.fields for step in _ruled(rule, rules, pair)))


@value
class _Case:
    """One rule with what both sides hold in the middle, and what they are compared by."""

    rule: FieldRule
    rules: Rules
    pair: PairView
    kirim: Value
    crm: Value
    base: Agreed | None

    def form(self, value: Value) -> object:
        return canonical(self.rule.type, value, self.rules.region)

    @property
    def kirim_moved(self) -> bool:
        return self.base is not None and self.form(self.kirim) != self.form(self.base.kirim)

    @property
    def crm_moved(self) -> bool:
        return self.base is not None and self.form(self.crm) != self.form(self.base.crm)

    def of(self, side: Side) -> Value:
        return self.kirim if side is Side.KIRIM else self.crm

    def write(self, why: Why, to: Side) -> Step:
        """The other side's value goes to this one."""
        return self.write_value(why, to, self.of(to.other))

    def write_value(self, why: Why, to: Side, value: Value) -> Step:
        """A step towards a side, or a note where that side does not take the value."""
        rule, lost = self.rule, self.of(to)
        writable = rule.crm_writable if to is Side.CRM else rule.kirim_writable
        lens = rule.right if to is Side.CRM else rule.left
        held = (self.pair.crm or NOTHING) if to is Side.CRM else self.pair.kirim
        raw = lens.write(value, held) if writable and lens.writes else None
        if raw is None:
            blocked = Why.UNMAPPED if writable and lens.writes else Why.NOT_WRITABLE
            return Step(rule, blocked, None, value, self.kirim, self.crm, lost, left=to)
        competing = lost if why in (Why.CONFLICT, Why.RESTORED) else None
        return Step(rule, why, to, value, self.kirim, self.crm, competing, raw=raw)


def _ruled(rule: FieldRule, rules: Rules, pair: PairView) -> Sequence[Step]:
    """What a person said comes first; else the rules, if the field is not frozen."""
    if pair.decreed and pair.crm is not None and rule.name in pair.decreed:
        return _decreed(rule, rules, pair, pair.crm)
    return () if rule.name in pair.frozen else _steps(rule, rules, pair)


def _steps(rule: FieldRule, rules: Rules, pair: PairView) -> Sequence[Step]:
    base = pair.base.get(rule.name)
    if pair.crm is None:
        return _created(rule, rules, pair)
    kirim, crm = rule.left.read(pair.kirim), rule.right.read(pair.crm)
    if isinstance(kirim, Unknown):
        kirim = base.kirim if base else UNKNOWN
    if isinstance(crm, Unknown):
        crm = base.crm if base else _stranger(rule, pair.crm)
    if isinstance(kirim, Unknown) or isinstance(crm, Unknown):
        return ()
    if base is not None and _untouched(kirim, base.kirim) and _untouched(crm, base.crm):
        return ()  # for most pairs, most of the time: there is nothing to compare
    case = _Case(rule, rules, pair, kirim, crm, base)
    if case.form(kirim) == case.form(crm):
        settled = base is not None and not case.kirim_moved and not case.crm_moved
        return () if settled else (Step(rule, Why.EQUAL, None, kirim, kirim, crm),)
    left = pair.noted.get(rule.name)
    if left is not None and case.form(left.kirim) == case.form(kirim) and case.form(left.crm) == case.form(crm):
        return ()
    if rule.owner is Owner.UNION:
        return _merged(case)
    step = _first_sight(case) if base is None else _changed(case)
    return () if step is None else (step,)


def _decreed(rule: FieldRule, rules: Rules, pair: PairView, there: Fields) -> Sequence[Step]:
    """A person's word: the value goes to each side that does not hold it."""
    value = pair.decreed[rule.name]
    kirim, crm = rule.left.read(pair.kirim), rule.right.read(there)
    known = {Side.KIRIM: kirim, Side.CRM: crm}
    ours, theirs = (None if isinstance(held, Unknown) else held for held in (kirim, crm))
    case = _Case(rule, rules, pair, ours, theirs, pair.base.get(rule.name))
    steps = [
        case.write_value(Why.OPERATOR, side, value)
        for side, held in known.items()
        if isinstance(held, Unknown) or case.form(held) != case.form(value)
    ]
    return steps or (Step(rule, Why.EQUAL, None, value, case.kirim, case.crm),)


def _stranger(rule: FieldRule, crm: Fields) -> Value | Unknown:
    """What a record counts as that belongs to somebody whom Kirim does not know, before anything was agreed.

    Some CRMs give every record an owner: that is nobody's decision, and so no reason for Kirim, where it is Kirim that
    decides, never to begin.
    """
    seen = isinstance(rule.right, Assigned) and all(name in crm for name in rule.right.names)
    return None if seen and rule.owner is Owner.KIRIM else UNKNOWN


def _plainly_filled(value: Value) -> bool:
    """Whether a value is not empty whatever its type may be, seen without reading it as that."""
    return isinstance(value, str) and value.isascii() and bool(value.strip())


def _untouched(now: Value, then: Value) -> bool:
    """Whether a value is to the letter what it was; unlike in Python, true is not 1."""
    return type(now) is type(then) and now == then


def _created(rule: FieldRule, rules: Rules, pair: PairView) -> Sequence[Step]:
    """A record that the CRM does not have yet: every value that Kirim is known to hold goes into it."""
    kirim = rule.left.read(pair.kirim)
    if isinstance(kirim, Unknown) or not rule.crm_writable or not rule.right.writes:
        return ()
    case = _Case(rule, rules, pair, kirim, None, None)
    left = pair.noted.get(rule.name)
    if not _plainly_filled(kirim) and case.form(kirim) is None:
        return ()
    if left is not None and case.form(left.kirim) == case.form(kirim):
        return ()
    return (case.write(Why.CREATED, Side.CRM),)


def _first_sight(case: _Case) -> Step:
    """No base: the owner's value wins if it has one, else it is seeded. Nothing is ever cleared here."""
    latest = case.rule.owner is Owner.LATEST
    owner = _later(case) if latest else Side(case.rule.owner.value)
    for side in Side:
        if case.form(case.of(side)) is None:
            return case.write(Why.SEEDED if latest or side is owner else Why.OWNER_AT_FIRST_SIGHT, side)
    return case.write(Why.CONFLICT if latest else Why.OWNER_AT_FIRST_SIGHT, owner.other)


def _changed(case: _Case) -> Step | None:
    """The table of ownership, for two values that differ and a base."""
    if not case.kirim_moved and not case.crm_moved:
        return None  # the far side respelled what it was sent: agreed
    both = case.kirim_moved and case.crm_moved
    if case.rule.owner is Owner.LATEST:
        moved = Side.KIRIM if case.kirim_moved else Side.CRM
        owner = _later(case) if both else moved
    else:
        owner = Side(case.rule.owner.value)
    if case.kirim_moved if owner is Side.KIRIM else case.crm_moved:
        return case.write(Why.CONFLICT if both else Why.OWNER_CHANGED, owner.other)
    if case.rule.on_drift is OnDrift.REPORT:
        return Step(case.rule, Why.DRIFT, None, case.of(owner.other), case.kirim, case.crm)
    return case.write(Why.RESTORED, owner.other)


def _later(case: _Case) -> Side:
    """Who changed the field later. A tie, and what is not certain, goes to the CRM."""
    kirim = moment(case.pair.kirim_times, case.rule.left.names)
    crm = moment(case.pair.crm_times, case.rule.right.names)
    return Side.KIRIM if kirim is not None and crm is not None and kirim > crm else Side.CRM


def moment(times: Times, names: Sequence[str]) -> datetime | None:
    """When the last of these fields changed; None where that is not certain of one of them."""
    found = [times.get(name, times.get("")) for name in names]
    known = [each for each in found if each is not None]
    return max(known) if known and len(known) == len(found) else None


def _merged(case: _Case) -> Sequence[Step]:
    """A set that both sides add to and take from: what either did since they agreed is done on the other, too."""
    if case.base is not None and not case.kirim_moved and not case.crm_moved:
        return ()
    base = case.base or Agreed(None, None)
    kirim, crm = _members(case.kirim), _members(case.crm)
    steps = [
        case.write_value(Why.MERGED, side, value)
        for side, held, theirs, agreed in (
            (Side.KIRIM, kirim, crm, _members(base.crm)),
            (Side.CRM, crm, kirim, _members(base.kirim)),
        )
        if (value := _followed(held, theirs, agreed)) is not None
    ]
    written = [step for step in steps if step.to is not None]
    return written or steps[:1]


def _followed(held: Mapping[str, str], theirs: Mapping[str, str], agreed: Mapping[str, str]) -> Value:
    """A set after what the other side added to, and took from, what was agreed; None if that changes nothing."""
    gone = {member.casefold() for member in agreed.keys() - theirs.keys()}
    kept = {form: spelled for form, spelled in held.items() if form.casefold() not in gone}
    after = kept | {form: theirs[form] for form in theirs.keys() - agreed.keys() - kept.keys()}
    return None if after.keys() == held.keys() else tuple(after[form] for form in sorted(after))


def _members(value: Value) -> dict[str, str]:
    """The members of a set, each with its spelling by the form it is compared in."""
    if value is None or value == "":
        return {}
    several = value if isinstance(value, tuple) else (text(value),)
    return {text(member): member for member in several if text(member)}


@value
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
    base, noted, respelled = dict(pair.base), dict(pair.noted), dict[str, Value]()
    for step in decision.steps:
        name = step.rule.name
        if step.to is None:
            if step.why is Why.EQUAL:
                base[name] = Agreed(step.kirim, step.crm)
                noted.pop(name, None)
            else:
                noted[name] = Noted(step.why, step.kirim, step.crm)
        elif (blamed := refused.get(step.to)) and step.raw.keys() & blamed.keys():
            noted[name] = Noted(Why.REFUSED, step.kirim, step.crm)
        elif step.to in answers:
            held = _held(step, answers[step.to])
            noted.pop(name, None)
            if step.rule.owner is Owner.UNION or step.why is Why.OPERATOR:
                agreed = _agreed_by_both(step, decision, answers)
            else:
                agreed = Agreed(held, step.crm) if step.to is Side.KIRIM else Agreed(step.kirim, held)
            if agreed is not None:
                base[name] = agreed
            if not _untouched(held, step.value) and not same(step.rule.type, held, step.value, rules.region):
                respelled[name] = held
    return Settled(base, noted, respelled)


def _agreed_by_both(step: Step, decision: Decision, answers: Mapping[Side, Fields]) -> Agreed | None:
    """What is written to both sides is agreed once both took it."""
    together = {each.to: each for each in decision.steps if each.rule.name == step.rule.name and each.to is not None}
    if not together.keys() <= answers.keys():
        return None
    sides = {side: _held(each, answers[side]) for side, each in together.items()}
    return Agreed(sides.get(Side.KIRIM, step.kirim), sides.get(Side.CRM, step.crm))


def _held(step: Step, answer: Fields) -> Value:
    """What a side holds after it was written; what its answer does not show is as it was sent."""
    lens = step.rule.left if step.to is Side.KIRIM else step.rule.right
    whole = all([name in answer for name in lens.names])
    read = lens.read(answer if whole else {**step.raw, **answer})
    return step.value if isinstance(read, Unknown) else read
