"""Paused writes stay due, everything else goes on; a limit that is reached pauses; resuming does what was kept back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from support.household import Household

from crmsync.core.brakes import Brake, Limit, Limits
from crmsync.flows import pausing, sync
from crmsync.flows.braking import Brakes
from crmsync.flows.work import Surroundings
from crmsync.store import brakes, lanes, runs
from crmsync.store.database import Database
from crmsync.store.lanes import Work
from crmsync.store.records import HELD, KIRIM

PEOPLE = 8


class Braked(Household):
    """A household whose connection has brakes."""

    def __init__(self, database: Database, **limits: Limit) -> None:
        super().__init__(database)
        self.alerts: list[tuple[str, ...]] = []
        of = {brake: limits.get(brake.value, Limit(None, None)) for brake in Brake}
        alert: Callable[..., None] = lambda *said: self.alerts.append(said)  # noqa: E731
        self.brakes = Brakes(database, "acme", "crm", Limits(timedelta(hours=1), of), self.clock, alert)

    def sync(self, name: str = "crm") -> int:
        """One turn of writing, with brakes."""
        connection = self.tenant.connections[name]
        around = Surroundings(
            self.database,
            self.tenant,
            connection,
            self.fence,
            self.clock,
            lambda: 0.5,
            brakes=self.brakes,
        )
        return sync.sync(around, self.executor)

    def pause(self, what: str) -> list[dict[str, Any]]:
        return pausing.pause(self.database, "acme", ["crm"], what, "a test", self.clock)

    def resume(self, what: str) -> list[dict[str, Any]]:
        return pausing.resume(self.database, "acme", ["crm"], what, self.clock, self.brakes._alert)

    def people(self, count: int = PEOPLE) -> list[str]:
        return [self.add(name=f"n{number}", company=f"c{number}") for number in range(count)]

    def paused(self) -> dict[str, str]:
        return {one.what: one.by for one, _ in self.database.read(brakes.every)}

    def held(self) -> int:
        return sum(1 for row in self.due().values() if row.not_before == HELD)

    def change(self, ids: list[str], **fields: Any) -> None:
        self.clock.advance(timedelta(seconds=1))
        for id in ids:
            self.kirim.edit(id, fields)


@pytest.fixture
def home(database: Database) -> Braked:
    return Braked(database)


def contacts(home: Household) -> int:
    return sum(1 for record in home.crm.records() if record.external_id)


def test_a_paused_kind_stays_due_and_everything_else_goes_on(home: Braked) -> None:
    ids = home.people(2)
    home.settle()
    home.pause("overwrite")
    home.change(ids, company="other", tags=("new",))
    home.settle()

    assert {home.partner(id).fields["company"] for id in ids} == {"c0", "c1"}
    assert {home.partner(id).fields["tags"] for id in ids} == {("new",)}
    assert home.held() == 2
    assert {home.row(id).error for id in ids} == {"paused: overwrite"}
    assert {home.row(id).parked for id in ids} == {False}


def test_what_is_observed_meanwhile_is_what_is_written_after(home: Braked) -> None:
    (id,) = home.people(1)
    home.settle()
    home.pause("overwrite")
    home.change([id], company="first")
    home.settle()
    home.change([id], company="second")
    home.settle()
    assert home.held() == 1
    calls = home.writes()

    assert home.resume("overwrite") == [{"tenant": "acme", "connection": "crm", "class": "overwrite"}]
    home.settle()
    assert home.partner(id).fields["company"] == "second"
    assert home.writes() == calls + 1
    assert (home.due(), home.paused()) == ({}, {})
    assert home.row(id).error == ""


def test_creates_that_are_paused_make_nothing(home: Braked) -> None:
    home.pause("create")
    home.people()
    home.settle()
    assert (contacts(home), home.held()) == (0, PEOPLE)

    home.resume("all")
    home.settle()
    assert (contacts(home), home.due()) == (PEOPLE, {})


def test_a_limit_that_is_reached_pauses_and_alerts_once(database: Database) -> None:
    home = Braked(database, create=Limit(None, 5))
    home.people()
    home.settle()

    assert (contacts(home), home.held()) == (5, PEOPLE - 5)
    assert home.paused() == {"create": "brake"}
    assert [said[0] for said in home.alerts] == ["brake_reached"]
    assert "crmsync resume acme crm create" in home.alerts[0][2]
    assert "the limit of 5 records within 60 minutes is reached" in home.alerts[0][2]

    home.resume("create")
    home.settle()
    assert (contacts(home), home.due(), home.paused()) == (PEOPLE, {}, {})
    assert home.alerts[-1][0] == "brake_released"


def test_clears_and_removals_have_limits_of_their_own(database: Database) -> None:
    home = Braked(database, clear=Limit(None, 2), label_removal=Limit(None, 3))
    ids = home.people()
    home.change(ids, tags=("a", "b"))
    home.settle()
    home.change(ids, company=None, tags=("a",))
    home.settle()

    assert sum(1 for id in ids if home.partner(id).fields["company"] is None) == 2
    assert sum(1 for id in ids if home.partner(id).fields["tags"] == ("a",)) == 3
    assert home.paused() == {"clear": "brake", "label_removal": "brake"}


def test_a_window_that_has_passed_leaves_room_again(database: Database) -> None:
    home = Braked(database, create=Limit(None, 5))
    home.people(5)
    home.settle()
    home.clock.advance(timedelta(minutes=66))
    home.people(5)
    home.settle()

    assert (contacts(home), home.paused()) == (10, {})


def test_what_a_run_found_counts_for_the_run_alone(database: Database) -> None:
    home = Braked(database, create=Limit(3, 5))
    ids = home.people(PEOPLE)
    home.arrive_all()
    home.observe(KIRIM)
    table = brakes._due
    home.database.write(
        lambda tx: tx.execute(table.update().where(table.c.kirim_id.in_(ids[:4])).values(cause="run:9")) and None
    )
    home.sync()

    assert contacts(home) == 3 + 4 or home.paused() == {"create": "brake"}
    assert "the limit of 3 records in run 9" in home.alerts[0][2]


def test_a_share_counts_what_is_linked(database: Database) -> None:
    home = Braked(database, clear=Limit(None, None, 0.1))
    ids = home.people(110)
    home.settle()
    home.clock.advance(timedelta(minutes=2))
    home.change(ids, company=None)
    home.settle()

    assert sum(1 for id in ids if home.partner(id).fields["company"] is None) == 11


def test_a_killed_process_forgets_no_count(database: Database) -> None:
    home = Braked(database, create=Limit(None, 5))
    home.people(4)
    home.settle()
    after = Braked(database, create=Limit(None, 5))
    home.brakes = after.brakes
    home.people(4)
    home.settle()

    assert contacts(home) == 5


def test_a_change_that_comes_while_a_write_is_on_its_way_is_not_held_back(home: Braked) -> None:
    (id,) = home.people(1)
    home.settle()
    home.pause("overwrite")
    home.change([id], company="other", tags=("new",))
    home.arrive_all()
    home.observe(KIRIM)

    def meanwhile() -> None:
        home.change([id], tags=("new", "newer"))
        home.arrive_all()
        home.observe(KIRIM)

    home.crm.meanwhile.append(meanwhile)
    home.sync()
    home.settle()

    assert home.partner(id).fields["tags"] == ("new", "newer")
    assert home.held() == 1


def lane(home: Household, work: Work) -> bool:
    waiting = home.database.read(lambda tx: lanes.waiting(tx, home.clock()))
    return any(one.lane.endpoint == "crm" and one.lane.work is work for one in waiting)


def test_a_connection_that_is_paused_writes_nothing_and_observes(home: Braked) -> None:
    home.people(1)
    home.arrive_all()
    home.observe(KIRIM)
    assert lane(home, Work.SYNC)
    home.pause("all")
    assert not lane(home, Work.SYNC)
    home.crm.edit(home.crm.add(None, {"name": "a"}), {"name": "b"})
    home.arrive_all()
    assert lane(home, Work.OBSERVE)
    home.resume("all")
    assert lane(home, Work.SYNC)


def test_a_run_does_not_wait_for_what_is_paused(home: Braked) -> None:
    home.people(3)
    home.arrive_all()
    home.observe(KIRIM)
    run = home.database.write(lambda tx: runs.begin(tx, "acme", "backfill", KIRIM, {}, {}, home.clock()))
    table = brakes._due
    home.database.write(lambda tx: tx.execute(table.update().values(cause=run.cause)) and None)
    soon = home.clock() + timedelta(minutes=1)
    assert home.database.read(lambda tx: runs.left(tx, run, ["crm"], soon)) == (3, 0)
    home.pause("all")
    assert home.database.read(lambda tx: runs.left(tx, run, ["crm"], soon)) == (0, 3)
    home.resume("all")
    home.pause("create")
    home.sync()
    assert home.database.read(lambda tx: runs.left(tx, run, ["crm"], soon)) == (0, 3)


def test_pauses_are_told_with_who_why_and_how_much_is_held(home: Braked) -> None:
    home.pause("create")
    home.people(2)
    home.settle()
    (told,) = home.database.read(pausing.overview)

    assert {**told, "since": ""} == {
        "tenant": "acme",
        "connection": "crm",
        "class": "create",
        "since": "",
        "by": "operator",
        "reason": "a test",
        "held": 2,
    }
    assert home.database.read(lambda tx: pausing.words(tx, "acme")) == ["crm: create is paused (a test)"]
