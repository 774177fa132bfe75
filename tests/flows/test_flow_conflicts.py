"""Conflicts: recorded, shown, decided by a person; fields that go back and forth, frozen and thawed."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.household import RULES, Crm, Household, KirimPlatform, reowned

from crmsync.core.decide import Side
from crmsync.core.mapping import Owner
from crmsync.flows import conflicts
from crmsync.flows.conflicts import Act, Order, Outcome
from crmsync.store.database import Database
from crmsync.store.lanes import Work
from crmsync.store.records import KIRIM
from crmsync.testing.fake import Trouble

SECOND = timedelta(seconds=1)
OWNED = reowned(RULES, email=Owner.LATEST)


@pytest.fixture
def home(database: Database) -> Household:
    return Household(database, rules=OWNED)


def synced(home: Household, **fields: Any) -> str:
    id = home.add(**fields)
    home.settle()
    home.clock.advance(timedelta(minutes=1))
    return id


def listed(home: Household, *, unmask: bool = True) -> list[dict[str, Any]]:
    rules = {name: each.rules for name, each in home.tenant.connections.items()}
    return home.database.read(lambda tx: conflicts.overview(tx, "acme", rules, unmask=unmask))


def order(home: Household, id: str, field: str, act: Act = Act.KEEP, **said: Any) -> Outcome:
    rules = {name: each.rules for name, each in home.tenant.connections.items()}
    return conflicts.carry_out(home.database, "acme", rules, Order("crm", id, field, act, **said), home.clock)


def clash(home: Household, id: str, kirim: Any, crm: Any, field: str = "name") -> None:
    """Both sides change a field before either change is known here."""
    home.clock.advance(SECOND)
    home.kirim.edit(id, {field: kirim})
    home.crm.edit(home.row(id).crm_id, {field: crm})
    home.settle()


def both(home: Household, id: str, field: str = "name") -> tuple[Any, Any]:
    return home.kirim.held(id)[field], home.partner(id).fields[field]


def test_a_conflict_is_listed_with_both_values_the_rule_and_what_stood(home: Household) -> None:
    id = synced(home, name="Ana")
    clash(home, id, "of Kirim", "of the CRM")

    (told,) = listed(home)
    assert (told["kirim_id"], told["field"], told["state"], told["won"], told["rule"]) == (
        id,
        "name",
        "open",
        "crm",
        "crm",
    )
    assert (told["kirim"], told["crm"], told["times"]) == ("of Kirim", "of the CRM", 1)
    assert "of Kirim" not in str(listed(home, unmask=False))


@pytest.mark.parametrize(
    ("said", "value"),
    [({"keep": Side.KIRIM}, "of Kirim"), ({"keep": Side.CRM}, "of the CRM"), ({"value": "of neither"}, "of neither")],
)
def test_what_a_person_chose_is_written_where_it_is_not_held(home: Household, said: Any, value: str) -> None:
    id = synced(home, name="Ana")
    clash(home, id, "of Kirim", "of the CRM")
    assert order(home, id, "name", **said) == Outcome()
    home.settle()

    assert both(home, id) == (value, value)
    assert listed(home) == []
    told = [entry for entry in home.history(id, "name") if entry.cause == conflicts.CAUSE]
    assert {entry.rule for entry in told} <= {"operator", "equal"}
    assert told[0].outcome == "asked"

    before = home.writes()
    assert order(home, id, "name", **said) == Outcome()  # the same again
    home.settle()
    assert (home.writes(), both(home, id)) == (before, (value, value))


def test_a_decision_outlives_a_process_that_dies_over_it_and_answers_that_get_lost(home: Household) -> None:
    id = synced(home, name="Ana")
    clash(home, id, "of Kirim", "of the CRM")
    order(home, id, "name", value="of neither")
    home.crm.fail_next(Trouble.LOST)
    home.fence_breaks = 1
    home.turn(Work.SYNC, "crm")
    home.kirim.fail_next(503)
    home.settle()

    assert both(home, id) == ("of neither", "of neither")
    home.look_again()
    home.settle()
    assert both(home, id) == ("of neither", "of neither")


def test_a_decision_that_comes_while_a_write_is_on_its_way_is_not_lost(home: Household) -> None:
    id = synced(home, name="Ana")
    clash(home, id, "of Kirim", "of the CRM")
    home.clock.advance(SECOND)
    home.crm.edit(home.row(id).crm_id, {"name": "later"})
    home.kirim.meanwhile = [lambda: order(home, id, "name", value="of neither")]
    home.settle()

    assert both(home, id) == ("of neither", "of neither")


def test_a_change_by_one_side_alone_closes_the_conflict(home: Household) -> None:
    id = synced(home, name="Ana")
    clash(home, id, "of Kirim", "of the CRM")
    home.clock.advance(SECOND)
    home.crm.edit(home.row(id).crm_id, {"name": "later"})
    home.settle()

    assert listed(home) == []


def test_a_later_conflict_takes_the_place_of_an_earlier_one(home: Household) -> None:
    id = synced(home, email="a@b.c")
    clash(home, id, "k@b.c", "c@b.c", "email")
    clash(home, id, "k2@b.c", "c2@b.c", "email")

    (told,) = listed(home)
    assert (told["kirim"], told["crm"], told["times"]) == ("k2@b.c", "c2@b.c", 2)


def test_what_makes_no_sense_is_refused_in_words(home: Household) -> None:
    id = synced(home, name="Ana", email="a@b.c")
    clash(home, id, "k@b.c", "c@b.c", "email")

    assert "no e-mail" in order(home, id, "email", value="nonsense").refused
    assert "no conflict" in order(home, id, "name", value="x").refused
    assert "not mapped" in order(home, id, "nothing", value="x").refused
    assert "not frozen" in order(home, id, "email", Act.THAW).refused


# -- fields that go back and forth


def fight(home: Household, id: str, rounds: int = 12, field: str = "company") -> None:
    """Somebody's automation puts its own value back whenever it sees another."""
    for _ in range(rounds):
        home.clock.advance(timedelta(seconds=20))
        if home.partner(id).fields[field] != "of the automation":
            home.crm.edit(home.row(id).crm_id, {field: "of the automation"})
        home.settle()


def test_an_automation_that_fights_us_ends_in_a_freeze_and_other_fields_go_on(home: Household) -> None:
    id = synced(home, name="Ana", company="Acme")
    before = home.writes()
    fight(home, id)

    assert home.writes() - before == 5
    (told,) = listed(home)
    assert (told["field"], told["state"], told["kirim"], told["crm"]) == (
        "company",
        "frozen",
        "Acme",
        "of the automation",
    )
    assert [(each["side"], each["old"], each["new"]) for each in told["sequence"]] == [
        ("crm", "of the automation", "Acme")
    ] * 5
    home.clock.advance(SECOND)
    home.crm.edit(home.row(id).crm_id, {"name": "Ani"})
    home.settle()
    assert home.kirim.held(id)["name"] == "Ani"
    assert home.due() == {}


def test_a_frozen_field_stays_as_it_is_until_it_is_thawed(home: Household) -> None:
    id = synced(home, company="Acme")
    fight(home, id)
    home.clock.advance(timedelta(days=1))
    home.kirim.edit(id, {"company": "Acme 2"})
    home.look_again()
    home.settle()
    assert both(home, id, "company") == ("Acme 2", "of the automation")
    assert [each["kirim"] for each in listed(home)] == ["Acme 2"]

    assert order(home, id, "company", Act.THAW) == Outcome()
    home.settle()
    assert both(home, id, "company") == ("Acme 2", "Acme 2")
    assert [each["state"] for each in listed(home)] == ["open"]  # both had changed it meanwhile


def test_a_fight_that_goes_on_after_a_thaw_is_frozen_again(home: Household) -> None:
    id = synced(home, company="Acme")
    fight(home, id)
    order(home, id, "company", Act.THAW)
    assert order(home, id, "company", Act.THAW) == Outcome()  # the same again
    before = home.writes()
    fight(home, id)

    assert home.writes() - before == 5
    assert [each["times"] for each in listed(home)] == [2]


def test_a_person_can_decide_a_fight_for_the_other_side(home: Household) -> None:
    id = synced(home, company="Acme")
    fight(home, id)
    assert order(home, id, "company", keep=Side.CRM) == Outcome()
    home.settle()
    fight(home, id)

    assert both(home, id, "company") == ("of the automation", "of the automation")
    assert listed(home) == []


def test_somebody_who_changes_a_field_often_is_not_taken_for_a_fight(home: Household) -> None:
    id = synced(home, name="Ana")
    for number in range(15):
        home.clock.advance(SECOND)
        home.crm.edit(home.row(id).crm_id, {"name": f"Ana {number}"})
        home.settle()

    assert both(home, id) == ("Ana 14", "Ana 14")
    assert listed(home) == []


def test_two_installations_with_opposite_rules_come_to_rest(sqlite_template: Path, tmp_path: Path) -> None:
    """Each takes back what the other did, at the same time: the two values change places for ever."""
    kirim, crm = KirimPlatform(), Crm()
    homes: list[Household] = []
    for owner in (Owner.KIRIM, Owner.CRM):
        path = tmp_path / f"{owner}.db"
        shutil.copy(sqlite_template, path)
        database = Database.open(f"sqlite:///{path}")
        clock = homes[0].clock if homes else None
        homes.append(
            Household(database, crms={"crm": crm}, kirim=kirim, rules=reowned(RULES, company=owner), clock=clock)
        )
    id = homes[0].add(company="Acme")
    turn_about(homes)
    before = sum(len(platform.calls) for platform in (kirim, crm))
    kirim.edit(id, {"company": "of Kirim"})
    turn_about(homes)

    assert sum(len(platform.calls) for platform in (kirim, crm)) - before == 10
    assert [[each["state"] for each in listed(home)] for home in homes] == [["frozen"], ["frozen"]]
    kirim.edit(id, {"phone": "+6285117600829"})
    turn_about(homes)
    assert crm.record(homes[0].row(id).crm_id).fields["phone"] == "+6285117600829"
    for home in homes:
        home.database.close()


def turn_about(homes: list[Household]) -> None:
    """Both see everything, then both act, until neither does."""
    for _ in range(60):
        homes[0].clock.advance(timedelta(seconds=5))
        homes[0].collect()
        told, homes[0].wire = homes[0].wire, []
        for home in homes:
            for source, body in told:
                home.arrive(source, body)
            for endpoint in (KIRIM, "crm"):
                home.turn(Work.OBSERVE, endpoint)
                home.turn(Work.REREAD, endpoint)
        for home in homes:
            home.turn(Work.SYNC, "crm")
        if not told and not any(home.due() or home.resting() for home in homes):
            return
    raise AssertionError("they never come to rest")
