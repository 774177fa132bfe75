"""The HubSpot emulator beyond contacts: tickets, associations, timelines, lists, owners and OAuth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from support.hubspot_account import NEW, prepared_account
from support.receiver import Receiver

from crmsync.sandbox.hubspot import HubSpotEmulator, Problem, Stage, sign_version_1

TICKETS, NOTES = "/crm/v3/objects/tickets", "/crm/v3/objects/notes"
LINKS = "/crm/v4/associations/tickets/contacts/batch"
NOTE = {"hs_timestamp": "2026-11-20T12:00:00Z", "hs_note_body": "text"}


@pytest.fixture
def account() -> Iterator[HubSpotEmulator]:
    with prepared_account() as emulator:
        yield emulator


@pytest.fixture
def http(account: HubSpotEmulator) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {account.token}"}
    with httpx.Client(base_url=account.url, headers=headers, trust_env=False) as client:
        yield client


def link(*pairs: tuple[str, str]) -> dict[str, Any]:
    return {"inputs": [{"from": {"id": one}, "to": {"id": other}} for one, other in pairs]}


def inline(to: str, number: int) -> dict[str, Any]:
    return {"to": {"id": to}, "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": number}]}


# -- tickets


@pytest.mark.parametrize("missing", ["subject", "hs_pipeline_stage"])
def test_a_new_ticket_needs_a_name_and_a_stage(http: httpx.Client, missing: str) -> None:
    refused = http.post(TICKETS, json={"properties": {name: NEW[name] for name in NEW if name != missing}})

    assert refused.status_code == 400
    assert refused.json()["context"] == {"properties": [missing]}


def test_a_stage_belongs_to_its_pipeline(account: HubSpotEmulator, http: httpx.Client) -> None:
    account.pipelines.define("77", "Returns", Stage("9001", "Open"))
    fitting = http.post(TICKETS, json={"properties": {**NEW, "hs_pipeline": "77", "hs_pipeline_stage": "9001"}})
    stranger = http.post(TICKETS, json={"properties": {**NEW, "hs_pipeline_stage": "9001"}})
    nowhere = http.post(TICKETS, json={"properties": {**NEW, "hs_pipeline": "78"}})

    assert [each.status_code for each in (fitting, stranger, nowhere)] == [201, 400, 400]
    assert [line["id"] for line in http.get("/crm/v3/pipelines/tickets").json()["results"]] == ["0", "77"]


def test_a_ticket_and_a_contact_may_have_the_same_key_and_two_tickets_not(account: HubSpotEmulator) -> None:
    account.create_contact(firstname="Ana", kirim_contact_id="x")
    account.create("ticket", **NEW, kirim_conversation_id="x")

    with pytest.raises(Problem):
        account.create("ticket", **NEW, kirim_conversation_id="x")


def test_an_owner_has_to_exist(account: HubSpotEmulator, http: httpx.Client) -> None:
    owner = account.owners.add("agent@example.com")
    answers = [http.post(TICKETS, json={"properties": {**NEW, "hubspot_owner_id": id}}) for id in (owner, "1")]

    assert [answer.status_code for answer in answers] == [201, 400]


def test_each_kind_of_object_has_its_own_properties(account: HubSpotEmulator, http: httpx.Client) -> None:
    names = {row["name"] for row in http.get("/crm/v3/properties/notes").json()["results"]}

    assert "hs_note_body" in names
    assert "email" not in names
    assert http.post(NOTES, json={"properties": {**NOTE, "email": "a@example.com"}}).status_code == 400


# -- associations


def test_an_association_is_read_from_both_ends(account: HubSpotEmulator, http: httpx.Client) -> None:
    ticket, contact = account.create("ticket", **NEW), account.create_contact(firstname="Ana")
    made = http.post(f"{LINKS}/associate/default", json=link((ticket, contact)))
    back = http.get(f"/crm/v4/objects/contacts/{contact}/associations/tickets").json()

    assert made.json()["results"][0]["associationSpec"]["associationTypeId"] == 16
    assert [row["toObjectId"] for row in back["results"]] == [ticket]
    assert account.linked(ticket) == [contact]


def test_what_has_no_association_is_an_error_beside_the_results(account: HubSpotEmulator, http: httpx.Client) -> None:
    one, two = (account.create("ticket", **NEW) for _ in range(2))
    contact = account.create_contact(firstname="Ana")
    account.link(one, contact)
    answer = http.post(f"{LINKS}/read", json={"inputs": [{"id": one}, {"id": two}]})

    assert answer.status_code == 207
    assert [row["from"]["id"] for row in answer.json()["results"]] == [one]
    assert answer.json()["errors"][0]["context"] == {"fromObjectId": [two]}


def test_associations_follow_a_merge_and_rest_while_an_end_is_archived(account: HubSpotEmulator) -> None:
    ticket = account.create("ticket", **NEW)
    one, two = (account.create_contact(firstname=name) for name in "AB")
    account.link(ticket, one)
    survivor = account.merge(one, two)
    assert account.linked(ticket) == [survivor]

    account.archive(survivor)
    assert account.linked(ticket) == []
    account.restore(survivor)
    assert account.linked(ticket) == [survivor]
    account.unlink(ticket, survivor)
    assert account.linked(ticket) == []


def test_an_association_moves_no_time_of_change(account: HubSpotEmulator, http: httpx.Client) -> None:
    ticket, contact = account.create("ticket", **NEW), account.create_contact(firstname="Ana")
    before = account.get(ticket)
    http.post(f"{LINKS}/associate/default", json=link((ticket, contact)))

    assert account.get(ticket) == before


@pytest.mark.parametrize("pairs", [2_001, 1])
def test_associations_are_refused(account: HubSpotEmulator, http: httpx.Client, pairs: int) -> None:
    """Too many at once, or with nobody."""
    refused = http.post(f"{LINKS}/associate/default", json=link(*[("1", "2")] * pairs))

    assert refused.json().get("category") == "VALIDATION_ERROR" if pairs > 1 else refused.json()["errors"]
    assert account.ledger.effects("associate") == []


# -- timelines


def test_an_entry_is_made_together_with_its_associations(account: HubSpotEmulator, http: httpx.Client) -> None:
    ticket, contact = account.create("ticket", **NEW), account.create_contact(firstname="Ana")
    row = {"properties": NOTE, "objectWriteTraceId": "t", "associations": [inline(contact, 202), inline(ticket, 228)]}
    made = http.post(f"{NOTES}/batch/create", json={"inputs": [row]}).json()["results"][0]

    assert made["objectWriteTraceId"] == "t"
    assert (account.linked(made["id"]), account.linked(made["id"], "ticket")) == ([contact], [ticket])


@pytest.mark.parametrize(("to", "number"), [("404", 202), ("", 81), ("", 999)])
def test_a_wrong_association_refuses_the_entry(
    account: HubSpotEmulator, http: httpx.Client, to: str, number: int
) -> None:
    contact = account.create_contact(firstname="Ana")
    refused = http.post(NOTES, json={"properties": NOTE, "associations": [inline(to or contact, number)]})

    assert refused.status_code == 400
    assert account.all("note") == {}


def test_a_batch_of_entries_has_a_hundred_rows_at_most(http: httpx.Client) -> None:
    assert http.post(f"{NOTES}/batch/create", json={"inputs": [{"properties": NOTE}] * 101}).status_code == 400


# -- lists


def test_members_of_a_static_list_change_through_the_api(account: HubSpotEmulator, http: httpx.Client) -> None:
    one, two = (account.create_contact(firstname=name) for name in "AB")
    id = account.lists.define("VIP", [one])
    added = http.put(f"/crm/v3/lists/{id}/memberships/add", json=[two, "999"]).json()
    http.put(f"/crm/v3/lists/{id}/memberships/remove", json=[one])
    members = http.get(f"/crm/v3/lists/{id}/memberships").json()["results"]

    assert (added["recordsIdsAdded"], added["recordIdsMissing"]) == ([two], ["999"])
    assert [row["recordId"] for row in members] == [two]


def test_members_of_a_dynamic_list_do_not(account: HubSpotEmulator, http: httpx.Client) -> None:
    id = account.lists.define("Everybody", rule=lambda held: True)

    assert http.put(f"/crm/v3/lists/{id}/memberships/add", json=["1"]).status_code == 400


def test_a_list_is_found_by_its_exact_name(account: HubSpotEmulator, http: httpx.Client) -> None:
    id = account.lists.define("VIP")
    answers = [http.get(f"/crm/v3/lists/object-type-id/0-1/name/{name}") for name in ("VIP", "VI")]

    assert answers[0].json()["list"]["listId"] == id
    assert answers[1].status_code == 404


@pytest.mark.parametrize("limit", [0, 251])
def test_a_page_of_members_has_its_limits(account: HubSpotEmulator, http: httpx.Client, limit: int) -> None:
    id = account.lists.define("VIP")

    assert http.get(f"/crm/v3/lists/{id}/memberships", params={"limit": limit}).status_code == 400


# -- OAuth


@pytest.mark.parametrize(
    "wrong", [{"refresh_token": "other"}, {"client_secret": "other"}, {"grant_type": "authorization_code"}]
)
def test_a_token_is_given_for_the_whole_grant_only(
    account: HubSpotEmulator, http: httpx.Client, wrong: dict[str, str]
) -> None:
    account.tokens.grant("app", "secret", "refresh")
    form = {"grant_type": "refresh_token", "client_id": "app", "client_secret": "secret", "refresh_token": "refresh"}
    given, refused = http.post("/oauth/v3/token", data=form), http.post("/oauth/v3/token", data={**form, **wrong})

    assert (given.status_code, given.json()["expires_in"]) == (200, 1800)
    assert refused.status_code == 400
    assert account.tokens.opens(f"Bearer {given.json()['access_token']}")


def test_parameters_in_the_address_are_refused(account: HubSpotEmulator, http: httpx.Client) -> None:
    account.tokens.grant("app", "secret", "refresh")

    assert http.post("/oauth/v3/token", params={"grant_type": "refresh_token"}).status_code == 400


# -- webhooks


def test_tickets_and_associations_are_told_by_webhook(account: HubSpotEmulator) -> None:
    with Receiver() as receiver:
        account.configure_webhooks(receiver.url)
        account.behaviour.webhook_generic = True
        ticket, contact = account.create("ticket", **NEW), account.create_contact(firstname="Ana")
        account.link(ticket, contact)
        assert account.wait_idle()
    events = [each.event for each in account.acknowledged]
    told = [each for each in events if each["subscriptionType"] == "object.associationChange"]

    assert {each["associationType"] for each in told} == {"TICKET_TO_CONTACT", "CONTACT_TO_TICKET"}
    assert {each["objectTypeId"] for each in events} == {"0-1", "0-5"}


def test_a_legacy_private_app_signs_with_version_1(account: HubSpotEmulator) -> None:
    with Receiver() as receiver:
        account.behaviour.webhook_version_1 = True
        account.configure_webhooks(receiver.url, "shared")
        account.create_contact(firstname="Ana")
        assert account.wait_idle()
        [request] = receiver.requests

    assert request.headers["x-hubspot-signature"] == sign_version_1("shared", request.body)
    assert "x-hubspot-signature-v3" not in request.headers
