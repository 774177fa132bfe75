"""Links that break and heal: records deleted, restored, replaced and merged in the CRM. We never delete any."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from support.household import RULES, Household

from crmsync.core.mapping import OnCrmDelete, Rules
from crmsync.flows import report
from crmsync.flows.explain import explain
from crmsync.flows.resync import resync
from crmsync.store.database import Database
from crmsync.testing.fake import Trouble

SECOND = timedelta(seconds=1)
RECREATE = replace(RULES, on_crm_delete=OnCrmDelete.RECREATE)


@pytest.fixture
def home(database: Database) -> Household:
    return Household(database)


@pytest.fixture
def persistent(database: Database) -> Household:
    """Makes again what was deleted."""
    return Household(database, rules=RECREATE)


def synced(home: Household, **fields: Any) -> str:
    id = home.add(**fields)
    home.settle()
    home.clock.advance(SECOND)
    return id


def delete(home: Household, id: str) -> str:
    crm_id = str(home.row(id).crm_id)
    home.crm.delete(crm_id)
    home.settle()
    home.clock.advance(SECOND)
    return crm_id


def status(home: Household) -> dict[str, Any]:
    (row,) = home.database.read(lambda tx: report.status(tx, home.clock()))["connections"]
    return dict(row)


def unlinked(home: Household, id: str, rules: Rules = RULES) -> bool:
    (story,) = home.database.read(lambda tx: explain(tx, "acme", id, {"crm": rules}))
    return story.unlinked


def test_a_deleted_record_is_shown_as_unlinked_and_is_no_dead_end(home: Household) -> None:
    id = synced(home, name="Ana")
    delete(home, id)

    assert (status(home)["linked"], status(home)["unlinked"], status(home)["parked"]) == (0, 1, 0)
    assert unlinked(home, id)
    assert home.due() == {}
    assert [effect.operation for effect in home.kirim.ledger if effect.operation == "delete"] == []


def test_a_restored_record_is_linked_again_and_gets_what_it_missed(home: Household) -> None:
    id = synced(home, name="Ana", company="Acme")
    crm_id = delete(home, id)
    home.kirim.edit(id, {"company": "Acme 2"})
    home.settle()
    home.clock.advance(SECOND)
    home.crm.restore(crm_id)
    home.settle()

    assert home.crm.held(crm_id)["company"] == "Acme 2"
    assert home.kirim.held(id)["name"] == "Ana"
    assert (status(home)["linked"], status(home)["unlinked"]) == (1, 0)
    assert not unlinked(home, id)


def test_what_a_deleted_record_refused_is_sent_again_once_it_is_restored(home: Household) -> None:
    """Nothing told us that it is gone, so it is written to, which is refused."""
    id = synced(home, company="Acme")
    crm_id = str(home.row(id).crm_id)
    home.crm.delete(crm_id)
    home.crm.take_hooks()
    home.kirim.edit(id, {"company": "Acme 2"})
    home.settle()
    assert unlinked(home, id)
    home.clock.advance(SECOND)
    home.crm.restore(crm_id)
    home.settle()

    assert home.crm.held(crm_id)["company"] == "Acme 2"


def test_a_restored_record_that_nothing_told_of_is_found_when_it_is_looked_at(home: Household) -> None:
    id = synced(home, company="Acme")
    crm_id = delete(home, id)
    home.crm.restore(crm_id)
    home.crm.take_hooks()
    home.database.write(lambda tx: resync(tx, home.tenant, id, home.clock()))
    home.settle()

    assert status(home)["linked"] == 1


def test_another_record_that_is_given_the_kirim_id_takes_the_place_of_a_deleted_one(home: Household) -> None:
    """It is met for the first time: what it lacks clears nothing."""
    id = synced(home, name="Ana", email="ana@b.c", company="Acme")
    delete(home, id)
    other = home.crm.add(id, {"name": "Ani"})
    home.settle()

    assert home.row(id).crm_id == other
    assert (home.kirim.held(id)["name"], home.kirim.held(id)["email"]) == ("Ani", "ana@b.c")
    assert (home.crm.held(other)["email"], home.crm.held(other)["company"]) == ("ana@b.c", "Acme")


def test_where_it_is_wanted_a_deleted_record_is_made_again_with_all_that_kirim_has(persistent: Household) -> None:
    id = synced(persistent, name="Ana", company="Acme")
    crm_id = delete(persistent, id)

    again = persistent.partner(id)
    assert again.id != crm_id
    assert (again.fields["name"], again.fields["company"]) == ("Ana", "Acme")
    assert persistent.row(id).crm_id == again.id
    assert persistent.kirim.held(id)["name"] == "Ana"
    assert not unlinked(persistent, id, RECREATE)
    before = persistent.writes()
    persistent.look_again()
    persistent.settle()
    assert persistent.writes() == before


def test_a_second_creation_whose_answer_is_lost_makes_no_third_record(persistent: Household) -> None:
    id = synced(persistent, name="Ana")
    persistent.crm.delete(str(persistent.row(id).crm_id))
    persistent.crm.fail_next(Trouble.LOST, skip=2)
    persistent.settle()

    assert persistent.partner(id).fields["name"] == "Ana"
    assert len([record for record in persistent.crm.records() if record.external_id]) == 1


@pytest.mark.parametrize("rules", [RULES, RECREATE], ids=["unlink", "recreate"])
def test_of_two_contacts_whose_records_were_merged_neither_gets_a_new_one(database: Database, rules: Rules) -> None:
    home = Household(database, rules=rules)
    winner, loser = synced(home, company="a"), synced(home, company="b")
    home.crm.merge(str(home.row(winner).crm_id), str(home.row(loser).crm_id))
    home.settle()
    home.clock.advance(SECOND)
    home.kirim.edit(loser, {"company": "c"})
    home.settle()

    assert not home.row(winner).parked
    assert (home.row(loser).parked, home.row(loser).reason) == (True, "shared")
    assert len([record for record in home.crm.records() if record.external_id]) == 1
    assert home.crm.held(str(home.row(winner).crm_id))["company"] == "a"
