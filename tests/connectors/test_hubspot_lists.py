"""Lists are segments, owners are people."""

from __future__ import annotations

import pytest

from connectors.hubspot import HubSpot
from crmsync.errors import Reject, Retry, Suspend
from crmsync.model import Kind, Member, Person, Segment
from crmsync.sandbox.faults import Fault
from crmsync.sandbox.hubspot import HubSpotEmulator
from crmsync.sandbox.hubspot.objects import TICKETS

READ = "POST /crm/v3/objects/contacts/batch/read"
MEMBERS = "GET /crm/v3/lists/{id}/memberships"


def walk(hubspot: HubSpot, segment: str) -> list[Member]:
    found: list[Member] = []
    cursor, more = None, True
    while more:
        page = hubspot.members(segment, cursor)
        found, cursor, more = [*found, *page.members], page.cursor, page.more
    return found


def test_lists_of_contacts_are_segments(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    one = account.create_contact(firstname="Ana", city="Jakarta")
    static = account.lists.define("VIP", [one])
    dynamic = account.lists.define("Jakarta", rule=lambda held: held.get("city") == "Jakarta")
    account.lists.define("Tickets", of=TICKETS)

    assert hubspot.segments() == [Segment(static, "VIP", False, 1), Segment(dynamic, "Jakarta", True, 1)]


def test_every_list_is_told_however_many_there_are(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    names = {f"List {number}" for number in range(1_001)}
    for name in names:
        account.lists.define(name)

    assert {segment.name for segment in hubspot.segments()} == names
    assert account.calls["POST /crm/v3/lists/search"] == 3


def test_members_come_with_their_kirim_ids(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    ids = [account.create_contact(firstname=f"P{n}", kirim_contact_id=f"ctc_{n}") for n in range(300)]
    stranger = account.create_contact(firstname="Stranger")
    segment = account.lists.define("All", [*ids, stranger])
    members = walk(hubspot, segment)

    assert members == [*(Member(id, f"ctc_{n}") for n, id in enumerate(ids)), Member(stranger, None)]
    assert (account.calls[MEMBERS], account.calls[READ]) == (2, 4)


def test_a_dynamic_list_has_whoever_fits(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    one, two = (account.create_contact(firstname=name, city="Jakarta") for name in "AB")
    segment = account.lists.define("Jakarta", rule=lambda held: held.get("city") == "Jakarta")
    account.edit(two, city="Medan")

    assert [member.id for member in walk(hubspot, segment)] == [one]


@pytest.mark.parametrize("segment", ["999", "no-list", "../owners"])
def test_a_list_that_does_not_exist_is_refused(hubspot: HubSpot, segment: str) -> None:
    with pytest.raises(Reject):
        hubspot.members(segment)


def test_trouble_in_the_middle_is_no_end(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    segment = account.lists.define("All", [account.create_contact(firstname="Ana")])
    account.faults.fail_next(1, Fault.slow(0))
    account.faults.fail_next(1, Fault.error(500))

    with pytest.raises(Retry):
        hubspot.members(segment)


@pytest.mark.parametrize("call", ["segments", "people", "members"])
def test_an_answer_of_another_form_is_not_taken_for_an_empty_one(
    account: HubSpotEmulator, hubspot: HubSpot, call: str
) -> None:
    account.faults.fail_next(1, Fault.error(200, body={"strange": True}))

    with pytest.raises(Retry):
        getattr(hubspot, call)(*(["1"] if call == "members" else []))


def test_a_missing_scope_is_named(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    scopes = {"category": "MISSING_SCOPES", "errors": [{"context": {"requiredGranularScopes": ["crm.lists.read"]}}]}
    account.faults.fail_next(1, Fault.error(403, body=scopes))

    with pytest.raises(Suspend, match=r"crm\.lists\.read"):
        hubspot.segments()


def test_owners_are_people_and_those_who_left_are_inactive(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    for number in range(150):
        account.owners.add(f"agent{number}@example.com", "Agent", str(number))
    gone = account.owners.add("gone@example.com", archived=True)
    people = hubspot.people()

    assert people[0] == Person("70001", "agent0@example.com", "Agent 0", True)
    assert people[-1] == Person(gone, "gone@example.com", None, False)
    assert len(people) == 151
    assert account.calls["GET /crm/v3/owners/"] == 3


def test_an_owner_is_a_value_that_contacts_and_tickets_take(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    assert {"hubspot_owner_id"} <= {info.name for info in hubspot.fields(Kind.CONTACT)}
