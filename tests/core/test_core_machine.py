"""The heart against two model platforms: whatever happens in whatever order, it comes to rest, agreed."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from support import profiles
from support.twins import RULES, SPELLINGS, START, Hooks, World, exact

from crmsync.core.decide import Side
from crmsync.core.mapping import Owner
from crmsync.model import Value

VALUES: list[Value] = [
    None,
    "",
    "Ana",
    "ana ",
    " Ana Lee Long",
    "A@B.C",
    "+62 851-1760-0829",
    "085117600829",
    "abcdefgh",
    "abcde",
]
SETS: list[Value] = [None, (), ("a",), ("b", "a"), ("a", "b", "c")]
SIDES = st.sampled_from(Side)
NUMBERS = st.integers(0, 4)
PRECISIONS = [0.001, 1.0]


def value_for(number: int, choice: int) -> Value:
    values = SETS if RULES.fields[number].kirim == "metadata.tags" else VALUES
    return values[choice % len(values)]


class Heart(RuleBasedStateMachine):
    """One pair, any order of events."""

    @initialize(
        spellings=st.tuples(*[st.sampled_from(sorted(SPELLINGS))] * 2),
        hooks=st.tuples(*[st.sampled_from(Hooks)] * 2),
        precisions=st.tuples(*[st.sampled_from(PRECISIONS)] * 2),
        first=st.tuples(*[st.dictionaries(NUMBERS, st.integers(0, 9), max_size=3)] * 2),
    )
    def begin(self, spellings, hooks, precisions, first):
        kirim = {RULES.fields[n].kirim: value_for(n, choice) for n, choice in first[0].items()}
        crm = {RULES.fields[n].crm: value_for(n, choice) for n, choice in first[1].items()}
        self.world = World((SPELLINGS[spellings[0]], SPELLINGS[spellings[1]]), hooks, precisions, (kirim, crm))

    @rule(side=SIDES, number=NUMBERS, choice=st.integers(0, 9), wait=st.sampled_from([0, 1, 400, 1000]))
    def edit(self, side, number, choice, wait):
        self.world.pass_time(wait)
        self.world.edit(side, number, value_for(number, choice))

    @rule(side=SIDES, which=st.integers(0, 5), again=st.booleans())
    def deliver(self, side, which, again):
        self.world.deliver(side, which, again=again)

    @rule(side=SIDES)
    def begin_reading(self, side):
        self.world.begin_reading(side)

    @rule()
    def end_reading(self):
        self.world.end_reading()

    @rule()
    def begin_flush(self):
        self.world.begin_flush()

    @rule(lost=st.sampled_from([False, False, True]))
    def send(self, lost):
        self.world.send(lost=lost)

    @rule()
    def end_flush(self):
        self.world.end_flush()

    @rule()
    def crash(self):
        self.world.crash()

    def teardown(self):
        if hasattr(self, "world"):
            self.world.drain()
            self.world.check_agreement()


def test_any_sequence_of_events_ends_in_agreement() -> None:
    run_state_machine_as_test(
        Heart, settings=settings(max_examples=300 * profiles.FURTHER, stateful_step_count=60, print_blob=True)
    )


def stumble(seed: int, steps: int = 60) -> World:
    """A random walk: cheaper than a search, so it can be long."""
    chance = random.Random(seed)
    names = sorted(SPELLINGS)
    world = World(
        (SPELLINGS[chance.choice(names)], SPELLINGS[chance.choice(names)]),
        (chance.choice(list(Hooks)), chance.choice(list(Hooks))),
        (chance.choice(PRECISIONS), chance.choice(PRECISIONS)),
        (
            {
                field.kirim: value_for(n, chance.randrange(10))
                for n, field in enumerate(RULES.fields)
                if chance.random() < 0.5
            },
            {
                field.crm: value_for(n, chance.randrange(10))
                for n, field in enumerate(RULES.fields)
                if chance.random() < 0.5
            },
        ),
    )
    sides = list(Side)
    for _ in range(steps):
        what = chance.randrange(100)
        if what < 25:
            number = chance.randrange(5)
            world.edit(chance.choice(sides), number, value_for(number, chance.randrange(10)))
        elif what < 45:
            world.deliver(chance.choice(sides), chance.randrange(6), again=chance.random() < 0.3)
        elif what < 52:
            world.begin_reading(chance.choice(sides))
        elif what < 60:
            world.end_reading()
        elif what < 70:
            world.begin_flush()
        elif what < 82:
            world.send(lost=chance.random() < 0.2)
        elif what < 91:
            world.end_flush()
        elif what < 93:
            world.crash()
        else:
            world.pass_time(chance.choice([1, 300, 1100]))
    return world


@pytest.mark.parametrize("block", range(8))
def test_random_walks_end_in_agreement(block: int) -> None:
    for seed in range(block * 500, (block + 1) * 500):
        world = stumble(seed)
        world.drain()
        world.check_agreement()
        written = world.writes
        for side in Side:  # everything is said once more
            world._mark(side)
        world.drain()
        assert world.writes == written, f"seed {seed} wrote although nothing had changed"


@settings(max_examples=200 * profiles.FURTHER)
@given(
    st.lists(st.tuples(NUMBERS, st.integers(0, 9), st.booleans()), max_size=40),
    st.tuples(*[st.sampled_from(sorted(SPELLINGS))] * 2),
    st.tuples(*[st.sampled_from(Hooks)] * 2),
    st.sampled_from(PRECISIONS),
)
def test_without_faults_and_conflicts_no_change_is_written_more_than_once(edits, spellings, hooks, precision) -> None:
    world = World((SPELLINGS[spellings[0]], SPELLINGS[spellings[1]]), hooks, (precision, precision))
    world.drain()
    changes = 0
    for number, choice, pause in edits:
        side = Side(RULES.fields[number].owner.value)
        world.pass_time(1100)
        changes += world.edit(side, number, value_for(number, choice))
        if pause:
            world.drain()
    world.drain()

    world.check_agreement()
    assert world.writes <= changes


@given(st.permutations(range(6)), st.lists(st.integers(0, 5), max_size=6), st.sampled_from(PRECISIONS))
def test_the_order_and_number_of_deliveries_do_not_matter(order, repeats, precision) -> None:
    world = World(precisions=(precision, precision))
    world.drain()
    for number in range(6):
        world.pass_time(300)
        world.edit(Side.CRM, 1, f"n{number}")
    stated = [world.twins[Side.CRM].outbox[at] for at in (*order, *repeats)]
    world.twins[Side.CRM].outbox = stated
    world.drain()

    world.check_agreement()
    assert world.twins[Side.KIRIM].fields["name"] == "n5"


def test_an_edit_that_overtakes_the_answer_of_a_write_is_not_lost() -> None:
    """Kirim's versions may be whole seconds: the answer and the later edit then look equally old."""
    world = World((exact, exact), precisions=(1.0, 1.0), first=({"metadata.city": "Solo"}, {"city": None}))
    world.drain()
    world.pass_time(5000)
    world.edit(Side.KIRIM, 3, "Bandung")
    world.deliver(Side.KIRIM, 0)
    world.begin_flush()
    world.send()  # answered with `Bandung`
    world.edit(Side.CRM, 1, "Ana")  # within the same second
    world.deliver(Side.CRM, 1)
    world.end_flush()
    world.drain()

    world.check_agreement()
    assert world.twins[Side.KIRIM].fields["name"] == "Ana"


def test_the_owner_is_never_written_but_to_fill_what_is_empty() -> None:
    for seed in range(300):
        world = stumble(seed)
        world.drain()
        for field in RULES.fields:
            owner = world.twins[Side(field.owner.value)]
            name = field.kirim if field.owner is Owner.KIRIM else field.crm
            if name in owner.edits and name not in owner.seeded:
                assert owner.fields[name] == owner.edits[name], f"seed {seed}: {field}"


def test_time_starts_where_the_versions_do() -> None:
    assert World().now == START
