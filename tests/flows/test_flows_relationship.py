"""Any sequence of what may befall the whole relationship ends in agreement, found by search."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from support import profiles
from support.relationship import Nature, Relationship

from crmsync.core.decide import Side
from crmsync.store.database import Database
from crmsync.store.migrations import migrate

SIDES = st.sampled_from(Side)
FEW = st.integers(0, 11)
NATURES = {
    "plain": Nature(respells=False),
    "respelling": Nature(),
    "hints": Nature(hooks_say_values=False),
    "whole rows": Nature(partial_rows=False),
    "recreating": Nature(recreates=True),
    "recreating hints": Nature(recreates=True, hooks_say_values=False, respells=False),
}
PHASES = (Phase.generate,)  # to make a long sequence short takes longer than to read it
SEQUENCES = 50
"""Of each nature."""


class Together(RuleBasedStateMachine):
    """Two platforms, the daemon between them, and everybody else."""

    database: Database
    nature: Nature

    def __init__(self) -> None:
        super().__init__()
        self.world = Relationship(self.database, self.nature)
        self.world.begin_contact(0)
        self.world.work(1)

    @rule(choice=FEW, contact=st.booleans())
    def begin(self, choice: int, contact: bool) -> None:
        if contact:
            self.world.begin_contact(choice)
        else:
            self.world.begin_conversation(choice)

    @rule(side=SIDES, which=FEW, field=FEW, choice=FEW)
    def edit(self, side: Side, which: int, field: int, choice: int) -> None:
        self.world.edit(side, which, field, choice)

    @rule(side=SIDES, which=FEW, field=FEW, choice=FEW, more=FEW)
    def edit_both(self, side: Side, which: int, field: int, choice: int, more: int) -> None:
        self.world.edit(side, which, field, choice)
        self.world.pass_time(more)
        self.world.edit(side.other, which, field, more)

    @rule(which=FEW, again=st.booleans())
    def deliver(self, which: int, again: bool) -> None:
        self.world.deliver(which, again=again)

    @rule(which=FEW, side=SIDES)
    def turn(self, which: int, side: Side) -> None:
        self.world.turn(which, side, None, None)

    @rule(side=SIDES, which=FEW, field=FEW, choice=FEW)
    def sync_while_somebody_edits(self, side: Side, which: int, field: int, choice: int) -> None:
        self.world.turn(2, Side.CRM, None, partial(self.world.edit, side, which, field, choice))

    @rule(which=FEW, side=SIDES, after=st.integers(0, 6))
    def die(self, which: int, side: Side, after: int) -> None:
        self.world.turn(which, side, after, None)

    @rule(side=SIDES, which=FEW)
    def trouble(self, side: Side, which: int) -> None:
        self.world.trouble(side, which)

    @rule(what=st.integers(0, 4), which=FEW, other=FEW, side=SIDES)
    def tidy_up(self, what: int, which: int, other: int, side: Side) -> None:
        """What people do now and then."""
        if what == 0:
            self.world.merge(which, other)
        elif what == 1:
            self.world.delete(which)
        elif what == 2:
            self.world.restore()
        elif what == 3:
            self.world.decide(which, side)
        elif which < 3:
            self.world.leave(which)

    @rule(turns=st.integers(1, 3))
    def work(self, turns: int) -> None:
        self.world.work(turns)

    @rule(milliseconds=st.sampled_from([1, 400, 5_000, 60_000, 700_000]))
    def pass_time(self, milliseconds: int) -> None:
        self.world.pass_time(milliseconds)

    def teardown(self) -> None:
        try:
            self.world.finish()
            self.world.check()
        finally:
            self.world.close()
            empty(self.database)


def empty(database: Database) -> None:
    """Between two sequences everything is forgotten."""
    from sqlmodel import SQLModel

    database.write(lambda tx: [tx.execute(table.delete()) for table in SQLModel.metadata.sorted_tables] and None)


@pytest.fixture
def store(sqlite_url: str) -> Iterator[Database]:
    database = Database.open(sqlite_url)
    yield database
    database.close()


@pytest.mark.parametrize("name", NATURES)
def test_whatever_happens_both_sides_come_to_agree_and_nobody_writes_any_more(store: Database, name: str) -> None:
    machine = type("Together", (Together,), {"database": store, "nature": NATURES[name]})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=SEQUENCES * profiles.FURTHER, stateful_step_count=60, print_blob=True, phases=PHASES
        ),
    )


FIELDS = [
    ("name", Side.CRM, "name", "Ana {}"),
    ("email", Side.KIRIM, "email", "k{}@b.c"),
    ("email", Side.CRM, "mail", "c{}@b.c"),
    ("company", Side.KIRIM, "company", "Acme {}"),
    ("tags", Side.KIRIM, "tags", "ours {}"),
    ("tags", Side.CRM, "keywords", "theirs {}"),
    ("score", Side.CRM, "points", "10{}"),
]


@settings(max_examples=15 * profiles.FURTHER, phases=(Phase.generate,))
@given(st.lists(st.sampled_from(FIELDS), min_size=1, max_size=25), st.booleans())
def test_without_faults_a_change_is_written_exactly_once(edits: list[Any], hints: bool) -> None:
    """One field for each change, whoever made it and however it is told."""
    with TemporaryDirectory() as folder:
        database = Database.open(f"sqlite:///{folder}/store.db")
        migrate(database)
        world = Relationship(database, Nature(faults=False, respells=False, hooks_say_values=not hints))
        try:
            world.begin_contact(0)
            world.home.settle()
            sides = {Side.KIRIM: world.home.kirim, Side.CRM: world.home.crm}
            before = [len(platform.ledger) for platform in sides.values()]
            for number, (field, side, name, pattern) in enumerate(edits):
                platform = sides[side]
                (record,) = (held for held in platform.records() if held.external_id)
                value = pattern.format(number)
                platform.edit(record.id, {name: (value,) if field == "tags" else value})
                world.pass_time(1000)
                world.home.settle()
            effects = [e for platform, n in zip(sides.values(), before, strict=True) for e in platform.ledger[n:]]
            written = sum(len(effect.changed) for effect in effects if effect.by_api)
            assert written == len(edits)
        finally:
            world.close()
            database.close()
