"""Random walks through the real flows on a real store: faults, crashes, lost answers, late and repeated deliveries.

Whatever happens, in the end both platforms really hold what the owners said, nobody writes any more, nothing stays
due, and every write is in the history.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from support import profiles
from support.household import RULES, Crm, Household, KirimPlatform

from crmsync.core.canonical import canonical
from crmsync.core.mapping import FieldRule, Owner
from crmsync.model import Kind, Record, Value
from crmsync.store import census, pairs
from crmsync.store.database import Database
from crmsync.store.lanes import Work
from crmsync.store.records import KIRIM
from crmsync.testing.fake import Trouble
from crmsync.testing.memory import Respelling

POOL: dict[str, list[Value]] = {
    "phone": ["+62 851-1760-0829", "085117600829", "+6281212345678", None],
    "name": ["Ana", " Ana Lee ", "Zoë 👩‍👩‍👧", "a name that is too long to be kept", None, ""],
    "email": ["Ana@Example.com", "ana@example.com", "b@c.de", None],
    "company": ["Acme", "ACME ", "bad", "a company that is too long to be kept", None],
    "tags": [("a",), ("b", "a"), ("a", "b", "c"), ()],
    "score": [1, "1.0", 2.5, None],
}
FAULTS: list[Any] = [429, 500, 503, 401, Trouble.RESET, Trouble.LOST, Trouble.CUT, Trouble.TIMEOUT, Trouble.HTML]
UNCAUSED = ("write", "lookup")


class Walk:
    """One random walk; everything comes from the seed."""

    def __init__(self, database: Database, seed: int, *, faults: bool = True) -> None:
        self.chance = random.Random(seed)
        self.faults = faults
        spelling = Respelling(trim=True, lower_email=True, cut_at=20, spaced_phone=self.chance.random() < 0.5)
        crm = Crm(
            spelling=spelling,
            index_lag=timedelta(seconds=self.chance.choice([0, 30])),
            partial_rows=self.chance.random() < 0.5,
            page_size=3,
        )
        crm.hooks_say_values = self.chance.random() < 0.5
        crm.refuse("company", "bad")
        kirim = KirimPlatform(spelling=Respelling(trim=self.chance.random() < 0.5))
        self.home = Household(database, crms={"crm": crm}, kirim=kirim)

    def value(self, name: str) -> Value:
        return self.chance.choice(POOL[name])

    def some(self) -> dict[str, Value]:
        return {name: self.value(name) for name in POOL if self.chance.random() < 0.4}

    def go(self, steps: int) -> None:
        for _ in range(steps):
            self.step()
            if self.chance.random() < 0.3:
                self.home.clock.advance(timedelta(milliseconds=self.chance.choice([1, 400, 5_000, 60_000])))

    def step(self) -> None:
        what = self.chance.randrange(100)
        if what < 6 and len(self.home.kirim.records()) < 5:
            id = self.home.kirim.add(None, self.some())
            if self.chance.random() < 0.3:  # a record that an earlier installation left
                self.home.crm.add(id, self.some())
        elif what < 30:
            self.edit()
        elif what < 50:
            self.deliver()
        elif what < 60 and self.faults:
            self.break_something()
        else:
            self.turn()

    def edit(self) -> None:
        platform = self.chance.choice([self.home.kirim, self.home.crm])
        if platform.ids():
            name = self.chance.choice(list(POOL))
            platform.edit(self.chance.choice(list(platform.ids())), {name: self.value(name)})

    def deliver(self) -> None:
        """Any delivery arrives, in any order; some arrive again later, in another wrapping."""
        self.home.collect()
        if self.home.wire:
            at = self.chance.randrange(len(self.home.wire))
            source, body = self.home.wire.pop(at)
            self.home.arrive(source, body)
            if self.chance.random() < 0.3:
                self.home.wire.append((source, body + b" "))

    def break_something(self) -> None:
        what = self.chance.randrange(4)
        if what == 0:
            self.home.fence_breaks = 1
        elif what == 1:  # a process that dies between taking and writing
            now = self.home.clock()
            self.home.database.write(lambda tx: pairs.take(tx, "acme", "crm", 20, now) and None)
        else:
            platform = self.chance.choice([self.home.kirim, self.home.crm])
            after = self.chance.choice([None, None, 2])
            platform.fail_next(self.chance.choice(FAULTS), skip=self.chance.randrange(2), retry_after=after)

    def turn(self) -> None:
        if self.chance.random() < 0.3:
            platform = self.chance.choice([self.home.kirim, self.home.crm])
            platform.meanwhile = [self.edit, self.deliver, lambda: self.home.turn(Work.OBSERVE, KIRIM)]
        work = self.chance.choice([*Work, Work.OBSERVE, Work.SYNC])
        endpoint = "crm" if work in (Work.SYNC, Work.BULK) else self.chance.choice([KIRIM, "crm"])
        self.home.turn(work, endpoint)

    def end(self) -> None:
        for platform in self.home.sources.values():
            platform.heal()
            platform.meanwhile = []
        self.home.fence_breaks = 0
        self.home.clock.advance(timedelta(hours=1))
        self.home.settle()


def disagreements(home: Household) -> Iterator[str]:
    """Every field of every contact that is not what its owner says, on the platforms themselves."""
    for contact in kept(home):
        for rule in RULES.fields:
            held = {Owner.KIRIM: contact.fields[rule.kirim], Owner.CRM: home.partner(contact.id).fields[rule.crm]}
            if not explained(home, contact.id, rule, held):
                yield f"{contact.id} {rule}: {held}"


def kept(home: Household) -> list[Record]:
    """The contacts that are in the CRM; one without any value that it takes is not made there."""
    keys = {record.external_id for record in home.crm.records()}
    names = [rule.kirim for rule in RULES.fields]
    return [
        contact
        for contact in home.kirim.records()
        if contact.id in keys or any(contact.fields[name] not in (None, "bad") for name in names)
    ]


def explained(home: Household, id: str, rule: FieldRule, held: dict[Owner, Value]) -> bool:
    far = Owner.CRM if rule.owner is Owner.KIRIM else Owner.KIRIM
    platform = home.crm if far is Owner.CRM else home.kirim
    info = next(info for info in platform.schema[Kind.CONTACT] if info.name == rule.crm)

    def form(value: Value) -> object:
        return canonical(rule.type, value, RULES.region)

    value, copy = held[rule.owner], held[far]
    if form(value) == form(copy) or form(copy) == form(platform.spelling(info, value)):
        return True
    if platform._objection(info, value):  # the far side refuses the value: noted, and left
        return True
    if form(value) is None and rule.owner is Owner.KIRIM and not rule.kirim_writable:
        return True
    base = home.pair(id).base.get(rule.kirim)  # seeded, and respelt by the owner's platform
    seeded = any(e.rule in ("seeded", "created") and e.outcome == "written" for e in home.history(id, rule.kirim))
    return (
        seeded
        and base is not None
        and (form(base.kirim), form(base.crm))
        == (
            form(held[Owner.KIRIM]),
            form(held[Owner.CRM]),
        )
    )


def check(walk: Walk) -> None:
    home = walk.home
    walk.end()
    parked = home.database.read(lambda tx: census.parked(tx, 100))
    assert [row.error for row in parked if "400" not in row.error and "refused" not in row.error] == []
    assert list(disagreements(home)) == []
    keys = [record.external_id for record in home.crm.records() if record.external_id]
    assert len(keys) == len(set(keys)) == len(kept(home))
    assert home.due() == {}
    assert home.stale("crm") == home.stale(KIRIM) == {}
    before = home.writes()
    home.look_again()
    home.settle()
    assert home.writes() == before, "it wrote although nothing had changed"


def check_history(home: Household) -> None:
    """Whatever was written to a platform is written down, with the value that was sent."""
    for side, platform in (("kirim", home.kirim), ("crm", home.crm)):
        for effect in platform.ledger:
            if effect.by_api and effect.after.external_id:
                told = home.history(effect.after.external_id)
                fields = {e.field for e in told if e.side == side and e.outcome in ("written", "unanswered")}
                assert {name for name in effect.changed if name in POOL} <= fields


@pytest.mark.parametrize("block", range(6))
def test_random_walks_with_faults_converge_on_sqlite(sqlite_url: str, block: int) -> None:
    walked(sqlite_url, range(block * 10, block * 10 + 10 * profiles.FURTHER), faults=True)


@pytest.mark.parametrize("block", range(2))
def test_random_walks_without_faults_leave_a_whole_history(sqlite_url: str, block: int) -> None:
    walked(sqlite_url, range(1000 + block * 8, 1008 + block * 8), faults=False)


def test_some_walks_converge_on_postgresql(postgresql_url: str) -> None:
    walked(postgresql_url, [3, 14, 15], faults=True)


def walked(url: str, seeds: Any, *, faults: bool) -> None:
    database = Database.open(url)
    try:
        for seed in seeds:
            try:
                walk = Walk(database, seed, faults=faults)
                walk.go(60)
                check(walk)
                if not faults:
                    check_history(walk.home)
            except AssertionError as error:
                raise AssertionError(f"seed {seed}: {error}") from error
            empty(database)
    finally:
        database.close()


def empty(database: Database) -> None:
    """Between two walks everything is forgotten."""
    from sqlmodel import SQLModel

    database.write(lambda tx: [tx.execute(table.delete()) for table in SQLModel.metadata.sorted_tables] and None)
