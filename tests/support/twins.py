"""Two platforms and the heart between them, in memory: the core's functions and nothing else of the product.

Everything that can happen is a method, so that a state machine, or a list of random steps, can do it in any order:
people edit on both sides, statements arrive late, twice and in any order, writes are on their way meanwhile, answers
get lost. `drain` then lets all of it come to an end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from crmsync.core.canonical import canonical
from crmsync.core.decide import Decision, PairView, Side, Why, decide, settle
from crmsync.core.mapping import FieldRule, Owner, Rules
from crmsync.core.views import Source, Verdict, View, observe
from crmsync.model import Fields, FieldType, Kind, Record, Value

START = datetime(2026, 11, 2, 9, tzinfo=UTC)
Spelling = Callable[[str, Value], Value]

RULES = Rules(
    Kind.CONTACT,
    (
        FieldRule("phone_number", "phone", Owner.KIRIM, FieldType.PHONE, kirim_writable=False),
        FieldRule("name", "fullname", Owner.CRM),
        FieldRule("email", "mail", Owner.CRM, FieldType.EMAIL),
        FieldRule("metadata.city", "city", Owner.KIRIM),
        FieldRule("metadata.tags", "tags", Owner.KIRIM, FieldType.SET),
    ),
    region="ID",
)


class Hooks(StrEnum):
    """How a platform tells of a change."""

    WHOLE = "whole"
    PARTIAL = "partial"  # the fields that changed
    HINT = "hint"


def exact(name: str, value: Value) -> Value:
    """Keeps what it is sent."""
    return value


def tidy(name: str, value: Value) -> Value:
    """Trims, lower-cases e-mail, cuts at five characters, makes the empty text null, sorts sets."""
    if isinstance(value, tuple):
        return tuple(sorted(set(value))) or None
    if not isinstance(value, str):
        return value
    value = value.strip()
    value = value.lower() if name in ("mail", "email") else value
    return (value if name in ("phone", "phone_number") else value[:5]) or None


def shouting(name: str, value: Value) -> Value:
    """Another spelling of everything, that is another value for most types."""
    return value.upper() if isinstance(value, str) else value


SPELLINGS: Mapping[str, Spelling] = {"exact": exact, "tidy": tidy, "shouting": shouting}


@dataclass
class Twin:
    """One platform with one record."""

    side: Side
    spelling: Spelling
    hooks: Hooks
    precision: timedelta
    fields: dict[str, Value]
    version: datetime = START
    outbox: list[Record | None] = field(default_factory=list)
    edits: dict[str, Value] = field(default_factory=dict)
    seeded: set[str] = field(default_factory=set)
    """What the product wrote since the last edit. It may: into an empty field, which a person may fill meanwhile."""
    seeds: set[str] = field(default_factory=set)
    """What the product ever wrote: a person may set the very value that the platform had made of it."""

    def change(self, fields: Fields, now: datetime) -> bool:
        """Takes values; tells of what changed, if anything did."""
        spelt = {name: self.spelling(name, value) for name, value in fields.items()}
        changed = {name: value for name, value in spelt.items() if self.fields.get(name) != value}
        if changed:
            self.fields |= changed
            self.version = now - (now - START) % self.precision
            whole = self.record()
            partial = Record(Kind.CONTACT, whole.id, changed, self.version)
            self.outbox.append({Hooks.WHOLE: whole, Hooks.PARTIAL: partial, Hooks.HINT: None}[self.hooks])
        return bool(changed)

    def record(self) -> Record:
        """The record as it is now."""
        return Record(Kind.CONTACT, self.side.value, dict(self.fields), self.version)


@dataclass
class Flush:
    """A decision on its way: what it was made of, and what was answered so far."""

    views: Mapping[Side, View]
    pair: PairView
    decision: Decision
    unsent: list[Side]
    answers: dict[Side, Record] = field(default_factory=dict)


class World:
    """Two twins, the views of them, and the pair between."""

    def __init__(
        self,
        spellings: tuple[Spelling, Spelling] = (exact, exact),
        hooks: tuple[Hooks, Hooks] = (Hooks.WHOLE, Hooks.WHOLE),
        precisions: tuple[float, float] = (0.001, 0.001),
        first: tuple[Fields, Fields] = ({}, {}),
    ) -> None:
        self.now = START
        self.twins = {
            side: Twin(side, spelling, hook, timedelta(seconds=precision), self._first(side, fields, spelling))
            for side, spelling, hook, precision, fields in zip(Side, spellings, hooks, precisions, first, strict=True)
        }
        self.views = {side: observe(None, twin.record(), Source.READ)[0] for side, twin in self.twins.items()}
        self.base, self.noted = {}, {}
        self.revision, self.due = 1, True
        self.stale: dict[Side, int] = {}
        self.flush: Flush | None = None
        self.taken = 0
        self.readings: list[tuple[Side, Record, View, int]] = []
        self.writes = 0

    def _first(self, side: Side, fields: Fields, spelling: Spelling) -> dict[str, Value]:
        names = [rule.kirim if side is Side.KIRIM else rule.crm for rule in RULES.fields]
        return {name: spelling(name, fields.get(name)) for name in names}

    # what people and platforms do

    def pass_time(self, milliseconds: int) -> None:
        """Time goes on."""
        self.now += timedelta(milliseconds=milliseconds)

    def edit(self, side: Side, number: int, value: Value) -> bool:
        """A person changes a field; says whether that changed anything."""
        rule = RULES.fields[number % len(RULES.fields)]
        name = rule.kirim if side is Side.KIRIM else rule.crm
        changed = self.twins[side].change({name: value}, self.now)
        if changed:
            self.twins[side].edits[name] = self.twins[side].fields[name]
            self.twins[side].seeded.discard(name)
        return changed

    def deliver(self, side: Side, which: int, *, again: bool = False) -> None:
        """Any statement that waits arrives, and may arrive again later."""
        outbox = self.twins[side].outbox
        if outbox:
            at = which % len(outbox)
            stated = outbox[at] if again else outbox.pop(at)
            if stated is None:
                self._mark(side)
            else:
                self._observe(side, stated, Source.TOLD, partial=self.twins[side].hooks is Hooks.PARTIAL)

    # what the product does

    def begin_reading(self, side: Side) -> None:
        """A stale record is read; what was read is stored some time later."""
        if side in self.stale and all(side is not reading[0] for reading in self.readings):
            self.readings.append((side, self.twins[side].record(), self.views[side], self.stale[side]))

    def end_reading(self) -> None:
        """What was read is stored."""
        if self.readings:
            side, record, basis, revision = self.readings.pop(0)
            self._observe(side, record, Source.READ, basis)
            if self.stale.get(side) == revision:
                del self.stale[side]

    def begin_flush(self) -> None:
        """The pair is taken and decided."""
        if self.due and self.flush is None:
            pair = PairView(self.views[Side.KIRIM].fields, self.views[Side.CRM].fields, self.base, self.noted)
            decision = decide(RULES, pair)
            self._check(decision)
            unsent = [side for side in Side if decision.writes(side)]
            self.taken = self.revision
            self.flush = Flush(dict(self.views), pair, decision, unsent)

    def send(self, *, lost: bool = False) -> None:
        """One side takes its writes; the answer may get lost."""
        if self.flush is not None and self.flush.unsent:
            side = self.flush.unsent.pop(0)
            fields = self.flush.decision.writes(side)
            self.writes += len(fields)
            self.twins[side].change(fields, self.now)
            self.twins[side].seeded |= set(fields)
            self.twins[side].seeds |= set(fields)
            if not lost:
                self.flush.answers[side] = self.twins[side].record()

    def end_flush(self) -> None:
        """The answers are stored. What was not answered stays due."""
        if self.flush is None:
            return
        flush, self.flush = self.flush, None
        for side, record in flush.answers.items():
            self._observe(side, record, Source.READ, flush.views[side], own=True)
        answers = {side: record.fields for side, record in flush.answers.items()}
        done = settle(RULES, flush.pair, flush.decision, answers)
        self.base, self.noted = done.base, done.noted
        present = PairView(self.views[Side.KIRIM].fields, self.views[Side.CRM].fields, self.base, self.noted)
        sent = {side for side in Side if flush.decision.writes(side)}
        finished = sent == set(flush.answers) and (not sent or decide(RULES, present).quiet)
        if finished and self.taken == self.revision:
            self.due = False

    def crash(self) -> None:
        """What was on its way is forgotten; what was applied stays applied."""
        self.flush = None
        self.readings.clear()

    def drain(self) -> None:
        """Everything arrives, is read, decided and written, until nothing is left to do."""
        for _ in range(60):
            while self.flush is not None and self.flush.unsent:
                self.send()
            self.end_flush()
            self.end_reading()
            for side, twin in self.twins.items():
                while twin.outbox:
                    self.deliver(side, 0)
                self.begin_reading(side)
            self.pass_time(7)
            self.begin_flush()
            if not (self.due or self.stale or self.readings or any(twin.outbox for twin in self.twins.values())):
                return
        raise AssertionError("it never comes to rest")

    # what must hold

    def check_agreement(self) -> None:
        """Every field agrees, or is what the far side makes of the owner's value; nothing more would be written."""
        assert decide(RULES, PairView(*(self.views[side].fields for side in Side), self.base, self.noted)).quiet
        for side, twin in self.twins.items():
            assert self.views[side].fields == twin.fields
        for rule in RULES.fields:
            owner = self.twins[Side(rule.owner.value)]
            far = self.twins[owner.side.other]
            ours, theirs = (rule.kirim, rule.crm) if owner.side is Side.KIRIM else (rule.crm, rule.kirim)
            value, copy = owner.fields[ours], far.fields[theirs]
            if rule.kirim == "phone_number" and self._empty(rule, value):
                continue  # the owner cannot be seeded
            agreed = {value, far.spelling(theirs, value)}
            if ours in owner.seeds and self._form(rule, owner.spelling(ours, copy)) == self._form(rule, value):
                agreed.add(copy)
            assert self._form(rule, copy) in {self._form(rule, held) for held in agreed}, (str(rule), value, copy)

    def _check(self, decision: Decision) -> None:
        for step in decision.steps:
            if step.to is Side(step.rule.owner.value):
                assert step.why is Why.SEEDED
                assert self._empty(step.rule, step.old)

    def _form(self, rule: FieldRule, value: Value) -> object:
        return canonical(rule.type, value, RULES.region)

    def _empty(self, rule: FieldRule, value: Value) -> bool:
        return self._form(rule, value) is None

    def _observe(
        self,
        side: Side,
        record: Record,
        source: Source,
        basis: View | None = None,
        *,
        partial: bool = False,
        own: bool = False,
    ) -> None:
        before = self.views[side]
        self.views[side], verdict = observe(before, record, source, basis)
        if verdict is Verdict.CHANGED and not own:
            self.revision += 1
            self.due = True
        if verdict is Verdict.UNCLEAR or (partial and self.views[side] != before):
            self._mark(side)

    def _mark(self, side: Side) -> None:
        self.stale[side] = self.stale.get(side, 0) + 1
