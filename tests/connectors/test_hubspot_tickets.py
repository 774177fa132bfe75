"""Conversations are tickets: keyed, staged, and belonging to contacts by associations that are no properties."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from support.hubspot_account import NEW, TOKEN, connect, sent_to, ticket
from support.hubspot_spec import checked_hubspot
from support.receiver import Receiver

from connectors.hubspot import HubSpot
from crmsync.errors import Reject, Retry, Suspend
from crmsync.model import CONTACT_LINK, Change, FieldType, Item, Kind, Record, Ref, WebhookRequest, Write, Written
from crmsync.sandbox.faults import Fault
from crmsync.sandbox.hubspot import HubSpotEmulator, Partial, Stage

UPSERT = "POST /crm/v3/objects/tickets/batch/upsert"
LINK = "POST /crm/v4/associations/{from}/{to}/batch/associate/default"
LINKED = "POST /crm/v4/associations/{from}/{to}/batch/read"
ASSOCIATE = "/batch/associate/default"
WAYS = pytest.mark.parametrize("partial", Partial)


def upsert(hubspot: HubSpot, *writes: Write) -> list[Any]:
    return list(hubspot.upsert(Kind.CONVERSATION, writes))


def upserted(hubspot: HubSpot, write: Write) -> Record:
    outcome = upsert(hubspot, write)[0]
    assert isinstance(outcome, Written), outcome
    assert outcome.record is not None
    return outcome.record


def fetched(hubspot: HubSpot, id: str) -> Record:
    record = hubspot.fetch(Kind.CONVERSATION, [Ref(id=id)])[0]
    assert record is not None
    return record


# -- schema


def test_stages_are_told_by_id_with_the_names_that_people_know(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    account.pipelines.define("77", "Returns", Stage("9001", "Open"), Stage("9002", "Done", is_open=False))
    fields = {info.name: info for info in hubspot.fields(Kind.CONVERSATION)}

    assert fields["hs_pipeline"].options == ("0", "77")
    assert fields["hs_pipeline_stage"].options == ("1", "2", "3", "4", "9001", "9002")
    assert fields["hs_pipeline_stage"].type is FieldType.CHOICE
    assert "9002 = Returns: Done" in fields["hs_pipeline_stage"].label
    assert (fields[CONTACT_LINK].type, fields[CONTACT_LINK].writable) == (FieldType.SET, True)


def test_a_contact_belongs_to_nobody(hubspot: HubSpot) -> None:
    assert CONTACT_LINK not in {info.name for info in hubspot.fields(Kind.CONTACT)}


def test_preparing_makes_the_key_of_tickets(account: HubSpotEmulator) -> None:
    with checked_hubspot(token=TOKEN) as bare:
        hubspot = connect(bare, conversation_external_id="kirim_cnv")
        plan = hubspot.prepare(Kind.CONVERSATION)
        assert plan == ["The ticket property kirim_cnv, a text with unique values, has to be made for the Kirim id."]
        assert bare.tables["ticket"].properties.get("kirim_cnv") is None

        assert hubspot.prepare(Kind.CONVERSATION, plan_only=False) == plan
        made = bare.tables["ticket"].properties.get("kirim_cnv")
        hubspot.close()

    assert made is not None
    assert (made.unique, made.group) == (True, "ticketinformation")


def test_a_deleted_key_suspends(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    account.tables["ticket"].properties._defined.pop("kirim_conversation_id")

    with pytest.raises(Suspend, match="kirim_conversation_id"):
        upsert(hubspot, ticket(1))


# -- writing


def test_a_ticket_is_made_once_and_then_changed(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    first, second = upsert(hubspot, ticket(1)), upsert(hubspot, ticket(1, hs_pipeline_stage="4"))

    assert [first[0].created, second[0].created] == [True, False]
    assert account.by_external_id("cnv_1", "ticket") == [first[0].record.id]
    assert account.get(first[0].record.id)["hs_pipeline_stage"] == "4"
    assert account.calls[LINK] == 0


@WAYS
def test_a_ticket_without_a_stage_is_refused_by_name_and_alone(
    account: HubSpotEmulator, hubspot: HubSpot, partial: Partial
) -> None:
    account.behaviour.partial = partial
    bare = Write("cnv_2", {"content": "text"})
    outcomes = upsert(hubspot, ticket(1), bare, ticket(3))

    assert [type(outcome) for outcome in outcomes] == [Written, Reject, Written]
    assert set(outcomes[1].fields) == {"subject", "hs_pipeline_stage"}
    assert "hs_pipeline_stage" in str(outcomes[1])
    assert "MISSING" in str(outcomes[1])


def test_a_stage_that_does_not_exist_costs_that_field(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    record = upserted(hubspot, ticket(1))
    outcome = upsert(hubspot, Write("cnv_1", {"hs_pipeline_stage": "99", "content": "new"}, id=record.id))[0]

    assert outcome.refused == {"hs_pipeline_stage": "INVALID_OPTION"}
    assert account.get(record.id)["content"] == "new"


def test_merged_and_archived_tickets_heal_as_contacts_do(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    one, two, three = (upserted(hubspot, ticket(number)).id for number in (1, 2, 3))
    survivor = account.merge(one, two)
    account.archive(three)
    found = hubspot.fetch(Kind.CONVERSATION, [Ref(id=one), Ref(id=two), Ref(id=three), Ref(external_id="cnv_1")])

    assert [record and record.id for record in found] == [survivor, survivor, None, survivor]
    assert found[0] is not None
    assert set(found[0].aliases) == {one, two}


def test_changes_and_walks_tell_whose_a_ticket_is(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    contact = account.create_contact(firstname="Ana")
    mine = upserted(hubspot, ticket(1, **{CONTACT_LINK: (contact,)})).id
    nobodys = upserted(hubspot, ticket(2)).id
    expected = {mine: (contact,), nobodys: None}

    for page in (hubspot.changed(Kind.CONVERSATION, None), hubspot.walk(Kind.CONVERSATION, None)):
        assert {record.id: record.fields[CONTACT_LINK] for record in page.records} == expected
    found = hubspot.find(Kind.CONVERSATION, "subject", ["T1"])["T1"]
    assert [record.fields[CONTACT_LINK] for record in found] == [(contact,)]
    assert hubspot.count(Kind.CONVERSATION) == 2


def test_a_walk_sees_everything_without_a_search(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    made = {upserted(hubspot, ticket(number)).id for number in range(1, 121)}
    first = hubspot.walk(Kind.CONVERSATION, None)
    second = hubspot.walk(Kind.CONVERSATION, first.cursor)

    assert (len(first.records), first.more, second.more) == (100, True, False)
    assert {record.id for record in (*first.records, *second.records)} == made
    assert account.calls["POST /crm/v3/objects/tickets/search"] == 0


def test_a_walk_with_too_many_properties_for_an_address_reads_them_in_batches(account: HubSpotEmulator) -> None:
    names = {f"custom_{'x' * 80}_{number}" for number in range(60)}
    for name in names:
        account.properties.define(name)
    account.create_contact(firstname="Ana", **dict.fromkeys(names, "v"))
    hubspot = connect(account, {Kind.CONTACT: frozenset(names)})
    page = hubspot.walk(Kind.CONTACT, None)
    hubspot.close()

    assert page.records[0].fields == dict.fromkeys(names, "v")


# -- whose they are


def test_a_ticket_joins_its_contacts_in_one_request_and_says_so(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    contacts = [account.create_contact(firstname=f"P{number}") for number in range(3)]
    writes = [ticket(number, **{CONTACT_LINK: (contact,)}) for number, contact in enumerate(contacts)]
    outcomes = upsert(hubspot, *writes)

    assert [outcome.record.fields[CONTACT_LINK] for outcome in outcomes] == [(contact,) for contact in contacts]
    assert (account.calls[UPSERT], account.calls[LINK], account.calls[LINKED]) == (1, 1, 1)
    assert [account.linked(outcome.record.id) for outcome in outcomes] == [[contact] for contact in contacts]


def test_joining_adds_and_never_takes_away(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    one, two = (account.create_contact(firstname=name) for name in "AB")
    record = upserted(hubspot, ticket(1, **{CONTACT_LINK: (one,)}))
    again = upserted(hubspot, Write("cnv_1", {CONTACT_LINK: (two,)}, id=record.id))
    upserted(hubspot, Write("cnv_1", {CONTACT_LINK: None}, id=record.id))

    assert again.fields[CONTACT_LINK] == (one, two)
    assert account.linked(record.id) == [one, two]


def test_joining_twice_changes_nothing(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    contact = account.create_contact(firstname="Ana")
    for _ in range(2):
        upserted(hubspot, ticket(1, **{CONTACT_LINK: (contact,)}))

    assert [effect.changed for effect in account.ledger.effects("associate")] == [("contact",), ()]


@pytest.mark.parametrize("follows", [True, False])
def test_a_contact_that_was_merged_away_is_replaced_by_its_survivor(
    account: HubSpotEmulator, hubspot: HubSpot, follows: bool
) -> None:
    account.behaviour.associations_follow_merges = follows
    one, two = (account.create_contact(firstname=name) for name in "AB")
    survivor = account.merge(one, two)
    outcome = upsert(hubspot, ticket(1, **{CONTACT_LINK: (two,)}))[0]

    assert outcome.refused == {}
    assert outcome.record.fields[CONTACT_LINK] == (survivor,)


@WAYS
def test_a_contact_that_is_gone_costs_its_own_tickets_link_only(
    account: HubSpotEmulator, hubspot: HubSpot, partial: Partial
) -> None:
    account.behaviour.partial = partial
    there, gone = (account.create_contact(firstname=name) for name in "AB")
    account.archive(gone)
    outcomes = upsert(
        hubspot,
        ticket(1, **{CONTACT_LINK: (there,)}),
        ticket(2, **{CONTACT_LINK: (gone,)}),
        ticket(3, **{CONTACT_LINK: (there, gone)}),
    )

    assert [set(outcome.refused) for outcome in outcomes] == [set(), {CONTACT_LINK}, {CONTACT_LINK}]
    assert [outcome.record.fields[CONTACT_LINK] for outcome in outcomes] == [(there,), None, (there,)]


@pytest.mark.parametrize("status", [500, 429])
def test_trouble_while_joining_asks_for_a_repetition_that_does_no_harm(
    account: HubSpotEmulator, hubspot: HubSpot, status: int
) -> None:
    contact = account.create_contact(firstname="Ana")
    hubspot.fields(Kind.CONVERSATION)
    account.faults.fail_next(1, Fault.slow(0))
    account.faults.fail_next(1, Fault.error(status))
    outcomes = upsert(hubspot, ticket(1, **{CONTACT_LINK: (contact,)}), ticket(2))

    assert isinstance(outcomes[0], Retry)
    assert outcomes[0].ambiguous
    assert isinstance(outcomes[1], Written)
    record = upserted(hubspot, ticket(1, **{CONTACT_LINK: (contact,)}))
    assert account.by_external_id("cnv_1", "ticket") == [record.id]
    assert account.linked(record.id) == [contact]


def test_a_lost_answer_to_joining_is_made_good_by_repeating(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    contact = account.create_contact(firstname="Ana")
    hubspot.fields(Kind.CONVERSATION)
    account.faults.fail_next(1, Fault.slow(0))
    account.faults.fail_next(1, Fault.reset(applied=True))
    write = ticket(1, **{CONTACT_LINK: (contact,)})

    assert isinstance(upsert(hubspot, write)[0], Retry)
    assert upserted(hubspot, write).fields[CONTACT_LINK] == (contact,)
    assert account.linked(account.by_external_id("cnv_1", "ticket")[0]) == [contact]


def test_a_missing_scope_while_joining_suspends(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    contact = account.create_contact(firstname="Ana")
    hubspot.fields(Kind.CONVERSATION)
    account.faults.fail_next(1, Fault.slow(0))
    scopes = {"category": "MISSING_SCOPES", "errors": [{"context": {"requiredGranularScopes": ["tickets"]}}]}
    account.faults.fail_next(1, Fault.error(403, body=scopes))
    outcome = upsert(hubspot, ticket(1, **{CONTACT_LINK: (contact,)}))[0]

    assert isinstance(outcome, Suspend)
    assert "tickets" in str(outcome)


def test_associations_are_read_only_where_they_are_wanted(account: HubSpotEmulator) -> None:
    hubspot = connect(account, {Kind.CONVERSATION: frozenset({"subject"})})
    record = upserted(hubspot, ticket(1))
    fetched(hubspot, record.id)
    hubspot.close()

    assert account.calls[LINKED] == 0
    assert CONTACT_LINK not in record.fields


def test_associations_of_many_contacts_are_read_page_by_page(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    account.behaviour.association_page = 2
    contacts = tuple(account.create_contact(firstname=f"P{number}") for number in range(7))
    record = upserted(hubspot, ticket(1, **{CONTACT_LINK: contacts}))

    assert fetched(hubspot, record.id).fields[CONTACT_LINK] == contacts


def test_an_association_that_cannot_be_read_is_not_taken_for_none(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    record = upserted(hubspot, ticket(1))
    error = {"status": "COMPLETE", "results": [], "errors": [{"category": "INTERNAL_ERROR"}]}
    account.faults.fail_next(1, Fault.slow(0))
    account.faults.fail_next(1, Fault.error(207, body=error))

    with pytest.raises(Retry):
        fetched(hubspot, record.id)


def test_a_link_alone_does_not_move_the_time_of_change(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    """Hence the webhook about it."""
    record = upserted(hubspot, ticket(1))
    account.link(record.id, account.create_contact(firstname="Ana"))

    assert fetched(hubspot, record.id).version == record.version


@pytest.mark.parametrize("generic", [True, False])
@pytest.mark.parametrize("legacy", [True, False])
def test_what_people_do_with_tickets_is_heard(account: HubSpotEmulator, generic: bool, legacy: bool) -> None:
    account.behaviour.webhook_generic, account.behaviour.webhook_version_1 = generic, legacy
    with Receiver() as receiver:
        hubspot = connect(account, hook_url=receiver.url, client_secrets=["shared"], signature_v1=legacy)
        account.configure_webhooks(receiver.url, "shared")
        mine, gone = account.create("ticket", **NEW), account.create("ticket", **NEW)
        account.link(mine, account.create_contact(firstname="Ana"))
        account.edit(mine, hs_pipeline_stage="4")
        account.archive(gone)
        survivor = account.merge(mine, account.create("ticket", **NEW))
        assert account.wait_idle()
        items: list[Item] = []
        for told in receiver.requests:
            headers = tuple((name.encode(), value.encode()) for name, value in told.headers.items())
            hubspot.verify(WebhookRequest("POST", told.path, headers, told.body, datetime.now(UTC)))
            items += hubspot.parse(told.body)
        hubspot.close()
    changes = [item.change for item in items if item.change and item.change.kind is Kind.CONVERSATION]

    assert Change(Kind.CONVERSATION, mine, seen={"hs_pipeline_stage": "4"}) in changes
    assert Change(Kind.CONVERSATION, gone, deleted=True) in changes
    assert Change(Kind.CONVERSATION, survivor) in changes
    linked = [item for item in items if item.type.endswith("associationChange")]
    assert [item.change for item in linked] == [Change(Kind.CONVERSATION, mine)] * 2


def test_the_link_is_no_property(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    contact = account.create_contact(firstname="Ana")
    sent = sent_to(account, "/tickets/batch/upsert")
    upserted(hubspot, ticket(1, **{CONTACT_LINK: (contact,)}))

    assert set(sent[0]["inputs"][0]["properties"]) == {*NEW, "kirim_conversation_id"}


def test_changes_of_tickets_follow_their_own_property(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    sent = sent_to(account, "/tickets/search")
    page = hubspot.changed(Kind.CONVERSATION, None)
    later = hubspot.changed(Kind.CONVERSATION, page.cursor, None)

    assert {
        filter["propertyName"] for body in sent for group in body["filterGroups"] for filter in group["filters"]
    } == {"hs_lastmodifieddate"}
    assert not later.more
