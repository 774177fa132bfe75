"""Properties of the decision that hold for any values, owners and platforms, found by search rather than by example."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st
from support import profiles

from crmsync.core.canonical import canonical
from crmsync.core.decide import Agreed, Decision, PairView, Settled, Side, Why, decide, settle
from crmsync.core.mapping import FieldRule, OnDrift, Owner, Rules
from crmsync.model import Fields, FieldType, Kind, Value

Platform = Callable[[Value], Value]
TEXTS = st.sampled_from(
    ["a", "A", " a ", "abcdef", "Ab Cdef", "", "  ", "+62 851-1760-0829", "085117600829", "é", "é", "0", "1.0"]
)
VALUES = st.one_of(
    st.none(), TEXTS, st.text(max_size=6), st.booleans(), st.integers(-3, 3), st.lists(TEXTS, max_size=3).map(tuple)
)


def _each(change: Callable[[str], str]) -> Platform:
    def respell(value: Value) -> Value:
        if isinstance(value, tuple):
            return tuple(change(member) for member in value)
        return change(value) if isinstance(value, str) else value

    return respell


PLATFORMS: tuple[Platform, ...] = (
    lambda value: value,
    _each(str.strip),
    _each(str.lower),
    _each(lambda text: text[:3]),
    _each(lambda text: ""),  # drops what it is sent
    lambda value: None if value in ("", ()) else value,
    lambda value: "constant",  # has a mind of its own
)


@dataclass(frozen=True)
class World:
    """A mapping, what both sides hold, what they agreed on, and what each platform makes of a value."""

    rules: Rules
    pair: PairView
    spelling: Mapping[Side, Platform]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    fields, kirim, crm, base = [], {"foreign": "k"}, {"other": "c"}, {}
    for number in range(draw(st.integers(1, 4))):
        rule = FieldRule(
            f"k{number}",
            f"c{number}",
            owner := draw(st.sampled_from(Owner)),
            FieldType.SET if owner is Owner.UNION else draw(st.sampled_from(FieldType)),
            draw(st.sampled_from(OnDrift)),
            draw(st.sampled_from([True, True, True, False])),
            draw(st.sampled_from([True, True, True, False])),
        )
        fields.append(rule)
        for held, name in ((kirim, rule.kirim), (crm, rule.crm)):
            if draw(st.integers(0, 5)):
                held[name] = draw(VALUES)
        if draw(st.booleans()):
            base[rule.kirim] = Agreed(draw(VALUES), draw(VALUES))
    exists = draw(st.integers(0, 4))
    base = base if exists else {}  # nothing was ever agreed on with a record that is not there
    spelling = {side: draw(st.sampled_from(PLATFORMS)) for side in Side}
    region = draw(st.sampled_from([None, "ID"]))
    return World(Rules(Kind.CONTACT, tuple(fields), region), PairView(kirim, crm if exists else None, base), spelling)


def apply(world: World, decision: Decision) -> tuple[PairView, Settled]:
    """The pair after both platforms took what they were sent and answered with what they made of it."""
    answers: dict[Side, Fields] = {}
    views: dict[Side, Fields | None] = {Side.KIRIM: world.pair.kirim, Side.CRM: world.pair.crm}
    for side in Side:
        if sent := decision.writes(side):
            held = {name: world.spelling[side](value) for name, value in sent.items()}
            answers[side] = {**(views[side] or {}), **held}
            views[side] = answers[side]
    done = settle(world.rules, world.pair, decision, answers)
    return PairView(views[Side.KIRIM] or {}, views[Side.CRM], done.base, done.noted), done


def empty(world: World, rule: FieldRule, value: Value) -> bool:
    return canonical(rule.type, value, world.rules.region) is None


@settings(max_examples=1500 * profiles.FURTHER)
@given(worlds())
def test_deciding_again_after_the_answers_writes_nothing(world: World) -> None:
    after, _ = apply(world, decide(world.rules, world.pair))
    again = decide(world.rules, after)
    if world.pair.crm is None and after.crm is not None:  # a record that was made holds what it was made with
        return
    assert again.quiet, [(str(step.rule), step.why) for step in again.steps]
    assert again.steps == ()


@settings(max_examples=500 * profiles.FURTHER)
@given(worlds())
def test_a_pair_settles_within_three_rounds_whatever_it_began_with(world: World) -> None:
    pair = world.pair
    for _ in range(3):
        decision = decide(world.rules, pair)
        pair, _ = apply(replace(world, pair=pair), decision)

    assert decide(world.rules, pair).steps == ()


@settings(max_examples=500 * profiles.FURTHER)
@given(worlds())
def test_only_seeding_writes_to_the_side_that_owns_the_field(world: World) -> None:
    for step in decide(world.rules, world.pair).steps:
        if step.rule.owner in (Owner.LATEST, Owner.UNION):
            continue  # nobody's alone
        if step.to is Side(step.rule.owner.value) or (step.why is Why.CREATED and step.rule.owner is Owner.CRM):
            assert step.why in (Why.SEEDED, Why.CREATED)
            assert step.rule.kirim not in world.pair.base or step.why is Why.CREATED
            assert empty(world, step.rule, step.old)
            assert not empty(world, step.rule, step.value)


@settings(max_examples=500 * profiles.FURTHER)
@given(worlds())
def test_only_fields_with_a_rule_are_written_and_only_where_they_can_be(world: World) -> None:
    decision = decide(world.rules, world.pair)

    assert set(decision.writes(Side.KIRIM)) <= {rule.kirim for rule in world.rules.fields if rule.kirim_writable}
    assert set(decision.writes(Side.CRM)) <= {rule.crm for rule in world.rules.fields if rule.crm_writable}


@settings(max_examples=500 * profiles.FURTHER)
@given(worlds())
def test_nothing_is_cleared_without_a_base_and_nothing_by_what_is_absent(world: World) -> None:
    for step in decide(world.rules, world.pair).steps:
        if step.to is not None and empty(world, step.rule, step.value):
            assert step.rule.kirim in world.pair.base
            source, name = (
                (world.pair.crm or {}, step.rule.crm) if step.to is Side.KIRIM else (world.pair.kirim, step.rule.kirim)
            )
            base = world.pair.base[step.rule.kirim]
            agreed_empty = empty(world, step.rule, base.kirim if step.to is Side.CRM else base.crm)
            assert name in source or agreed_empty


@settings(max_examples=500 * profiles.FURTHER)
@given(worlds())
def test_what_is_written_is_what_the_other_side_holds_or_last_agreed_to(world: World) -> None:
    for step in decide(world.rules, world.pair).steps:
        if step.why is Why.MERGED:
            continue
        if step.to is not None:
            base = world.pair.base.get(step.rule.kirim)
            if step.to is Side.CRM:
                assert step.value == world.pair.kirim.get(step.rule.kirim, base.kirim if base else None)
            else:
                assert step.value == (world.pair.crm or {}).get(step.rule.crm, base.crm if base else None)


@settings(max_examples=300 * profiles.FURTHER)
@given(worlds())
def test_a_decision_depends_on_nothing_but_what_it_is_asked_about(world: World) -> None:
    assert decide(world.rules, world.pair) == decide(world.rules, world.pair)


@settings(max_examples=500 * profiles.FURTHER)
@given(worlds(), st.sampled_from(Side))
def test_a_side_that_refuses_everything_is_asked_once(world: World, side: Side) -> None:
    decision = decide(world.rules, world.pair)
    refusing = replace(world, spelling={**world.spelling})
    after, _ = apply(refusing, Decision(tuple(step for step in decision.steps if step.to is not side)))
    refused = {name: "no" for name in decision.writes(side)}
    done = settle(
        world.rules, replace(after), Decision(tuple(s for s in decision.steps if s.to is side)), {}, {side: refused}
    )
    final = PairView(after.kirim, after.crm, done.base, done.noted)

    assert decide(world.rules, final).writes(side) == {}
