"""Before a record is made, one that others made for the same person is looked for: adopted, or shown to a person."""

from dataclasses import replace
from typing import Any

import pytest
from support.household import RULES, Household

from crmsync.core.matching import MatchRule
from crmsync.core.trouble import Reason
from crmsync.flows import desk
from crmsync.flows.desk import Decision
from crmsync.model import FieldType
from crmsync.store.database import Database
from crmsync.testing.fake import Trouble

MATCHED = replace(
    RULES,
    match=(MatchRule("phone", "phone", FieldType.PHONE), MatchRule("email", "email", FieldType.EMAIL)),
)
NUMBER = "+6281234567890"


@pytest.fixture
def household(database: Database) -> Household:
    return Household(database, rules=MATCHED)


def stranger(household: Household, **fields: Any) -> str:
    """A record that people made in the CRM."""
    id = household.crm.add(None, fields)
    household.crm.take_hooks()
    return id


def decide(household: Household, kirim_id: str, crm_id: str, *, accepted: bool) -> desk.Outcome:
    return desk.carry_out(household.database, "acme", [Decision("crm", kirim_id, crm_id, accepted)], household.clock)


def lying(household: Household) -> list[tuple[str, str]]:
    told = household.database.read(lambda tx: desk.overview(tx, "acme", unmask=False))
    return [(each["kirim_id"], each["crm_id"]) for each in told]


def test_the_one_record_of_the_same_person_is_adopted_and_stamped(household: Household) -> None:
    theirs = stranger(household, phone="0812-3456-7890", name="Ana in the CRM")
    ana = household.add(phone=NUMBER, name="Ana", company="Acme")
    household.settle()
    partner = household.partner(ana)
    assert partner.id == theirs
    assert partner.fields["company"] == "Acme"
    assert household.kirim.record(ana).fields["name"] == "Ana in the CRM"
    assert [
        (row.rule, row.outcome, row.new, row.note) for row in household.history(ana, "") if row.rule == "match"
    ] == [("match", "linked", theirs, "the same phone")]


def test_a_record_that_needs_no_change_is_stamped_all_the_same(household: Household) -> None:
    theirs = stranger(household, phone=NUMBER, name="Ana")
    ana = household.add(phone=NUMBER, name="Ana")
    household.settle()
    assert household.partner(ana).id == theirs


def test_two_contacts_that_are_alike_never_share_a_record(household: Household) -> None:
    theirs = stranger(household, phone=NUMBER)
    contacts = [household.add(phone=NUMBER, name="Ana"), household.add(phone=NUMBER, name="Ana")]
    household.settle()
    partners = {household.partner(id).id for id in contacts}
    assert len(partners) == 2
    assert theirs in partners


def test_several_records_wait_for_a_person_and_nothing_is_made(household: Household) -> None:
    one, two = stranger(household, phone=NUMBER), stranger(household, email="ana@example.com")
    before = len(household.crm.ledger)
    ana = household.add(phone=NUMBER, email="ana@example.com")
    household.settle()
    assert len(household.crm.ledger) == before
    assert (household.row(ana).parked, household.row(ana).reason) == (True, Reason.UNCLEAR)
    assert lying(household) == [(ana, one), (ana, two)]


def test_what_a_person_accepts_is_linked(household: Household) -> None:
    one, two = stranger(household, phone=NUMBER), stranger(household, email="ana@example.com")
    ana = household.add(phone=NUMBER, email="ana@example.com", company="Acme")
    household.settle()
    assert decide(household, ana, two, accepted=True).done == 1
    household.settle()
    assert household.partner(ana).id == two
    assert household.partner(ana).fields["company"] == "Acme"
    assert household.crm.record(one).external_id is None
    assert lying(household) == []


def test_a_refusal_is_remembered_and_when_all_are_refused_a_record_is_made(household: Household) -> None:
    several = [stranger(household, phone=NUMBER), stranger(household, email="ana@example.com")]
    ana = household.add(phone=NUMBER, email="ana@example.com")
    household.settle()
    for theirs in several:
        decide(household, ana, theirs, accepted=False)
    household.settle()
    assert household.partner(ana).id not in several
    household.look_again()
    household.settle()
    assert all(household.crm.record(theirs).external_id is None for theirs in several)


def test_refusing_one_of_two_leaves_the_other_to_be_adopted(household: Household) -> None:
    one, two = stranger(household, phone=NUMBER), stranger(household, email="ana@example.com")
    ana = household.add(phone=NUMBER, email="ana@example.com")
    household.settle()
    decide(household, ana, one, accepted=False)
    household.settle()
    assert household.partner(ana).id == two


def test_a_decision_that_comes_too_late_changes_nothing(household: Household) -> None:
    one, two = stranger(household, phone=NUMBER), stranger(household, email="ana@example.com")
    ana = household.add(phone=NUMBER, email="ana@example.com")
    household.settle()
    decide(household, ana, one, accepted=True)
    household.settle()
    outcome = decide(household, ana, two, accepted=True)
    assert (outcome.done, list(outcome.left.values())) == (0, ["is not on the desk"])


def test_a_lost_answer_to_the_stamp_makes_no_second_record(household: Household) -> None:
    theirs = stranger(household, phone=NUMBER)
    ana = household.add(phone=NUMBER, company="Acme")
    household.crm.fail_next(Trouble.LOST, skip=2)  # the lookup and the search go well
    household.settle()
    assert household.history(ana)
    assert household.partner(ana).id == theirs
    assert [record.id for record in household.crm.records() if record.fields.get("phone") == NUMBER] == [theirs]


def test_values_on_the_desk_are_masked_unless_asked_for(household: Household) -> None:
    stranger(household, phone=NUMBER)
    stranger(household, email="ana@example.com")
    household.add(phone=NUMBER, email="ana@example.com")
    household.settle()
    masked = household.database.read(lambda tx: desk.overview(tx, "acme", unmask=False))
    assert NUMBER not in str(masked)
    shown = household.database.read(lambda tx: desk.overview(tx, "acme", unmask=True))
    assert NUMBER in str(shown)
