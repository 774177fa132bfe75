"""Entries on timelines: made once, found again after a lost answer, changed in place, each to one outcome."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from support.hubspot_account import TOKEN, connect, sent_to, ticket
from support.hubspot_spec import checked_hubspot

from connectors.hubspot import HubSpot
from connectors.hubspot.activities import LONGEST_BODY
from crmsync.errors import Reject, Retry, Suspend, Throttled
from crmsync.model import Activity, ActivityKind, Kind, Logged, MessageStatus
from crmsync.sandbox.faults import Fault, Trouble
from crmsync.sandbox.hubspot import HubSpotEmulator, Partial

CREATE = "POST /crm/v3/objects/communications/batch/create"
UPDATE = "POST /crm/v3/objects/communications/batch/update"
AT = datetime(2026, 11, 20, 9, 30, 15, 123000, UTC)
WAYS = pytest.mark.parametrize("partial", Partial)


@pytest.fixture
def contact(account: HubSpotEmulator) -> str:
    return account.create_contact(firstname="Ana")


def message(number: int, contact: str, **more: Any) -> Activity:
    given = {"title": "WhatsApp message from Ana", "body": f"Customer: hello {number}", **more}
    return Activity(f"wamid.{number}", ActivityKind.MESSAGE, AT, contact=contact, **given)


def note(contact: str, body: str, **more: Any) -> Activity:
    return Activity("cnv_1:2026-11-20", ActivityKind.DIGEST, AT, "WhatsApp with Ana", body, contact, **more)


def log(hubspot: HubSpot, *activities: Activity) -> list[Any]:
    return list(hubspot.log(activities))


def test_a_message_is_a_whatsapp_communication_of_contact_and_ticket(
    account: HubSpotEmulator, hubspot: HubSpot, contact: str
) -> None:
    owner = account.owners.add("agent@example.com")
    conversation = hubspot.upsert(Kind.CONVERSATION, [ticket(1)])[0].record.id  # type: ignore[union-attr]
    media = ("https://files.example.com/1.jpg",)
    entry = message(
        1, contact, conversation=conversation, owner=owner, status=MessageStatus.SENT, media=media, body="Agent: <hi>"
    )
    [outcome] = log(hubspot, entry)
    held = account.get(outcome.id)

    assert outcome.created
    assert account.linked(outcome.id, "contact") == [contact]
    assert account.linked(outcome.id, "ticket") == [conversation]
    assert held["hs_communication_body"] == f"WhatsApp message from Ana\nAgent: <hi>\n{media[0]}"
    assert {name: held[name] for name in held if name in ("kirim_key", "kirim_status", "hubspot_owner_id")} == {
        "kirim_key": "wamid.1",
        "kirim_status": "sent",
        "hubspot_owner_id": owner,
    }
    assert (held["hs_communication_channel_type"], held["hs_communication_logged_from"]) == ("WHATS_APP", "CRM")
    assert held["hs_timestamp"] == "2026-11-20T09:30:15.123Z"


def test_a_hundred_messages_are_one_request(account: HubSpotEmulator, hubspot: HubSpot, contact: str) -> None:
    outcomes = log(hubspot, *(message(number, contact) for number in range(100)))

    assert len({outcome.id for outcome in outcomes}) == 100
    assert account.calls[CREATE] == 1
    keys = [account.get(outcome.id)["kirim_key"] for outcome in outcomes]
    assert keys == [f"wamid.{number}" for number in range(100)]


def test_a_status_moves_forward_in_place(account: HubSpotEmulator, hubspot: HubSpot, contact: str) -> None:
    [made] = log(hubspot, message(1, contact, status=MessageStatus.SENT))
    [changed] = log(hubspot, message(1, contact, status=MessageStatus.READ, body="Agent: hi\nread", id=made.id))

    assert (changed.id, changed.created) == (made.id, False)
    assert account.get(made.id)["kirim_status"] == "read"
    assert len(account.all("communication")) == 1


def test_a_digest_is_one_note_that_grows(account: HubSpotEmulator, hubspot: HubSpot, contact: str) -> None:
    [made] = log(hubspot, note(contact, "09:30 Customer: <script>alert(1)</script> & so on"))
    [grown] = log(hubspot, note(contact, "09:30 Customer: hi\n09:31 Agent: ho", id=made.id))
    held = account.get(made.id)

    assert grown == Logged(made.id, created=False)
    assert held["hs_note_body"] == "WhatsApp with Ana<br>09:30 Customer: hi<br>09:31 Agent: ho"
    [first] = [effect.fields["hs_note_body"] for effect in account.ledger.effects("create", "note")]
    assert first == "WhatsApp with Ana<br>09:30 Customer: &lt;script&gt;alert(1)&lt;/script&gt; &amp; so on"


def test_what_is_too_long_is_cut_with_a_mark(account: HubSpotEmulator, hubspot: HubSpot, contact: str) -> None:
    whole = "\n".join(f"{number} " + "&" * 100 for number in range(500))
    [made, long] = log(hubspot, note(contact, whole), message(1, contact, title="", body="x" * 70_000))
    body = account.get(made.id)["hs_note_body"]

    assert len(body) <= LONGEST_BODY
    assert body.endswith("&amp;<br>[…]")
    assert account.get(long.id)["hs_communication_body"].endswith("[…]")


# -- lost answers


@pytest.mark.parametrize("applied", [True, False])
def test_an_entry_whose_answer_was_lost_is_found_before_it_is_made_again(
    account: HubSpotEmulator, hubspot: HubSpot, contact: str, applied: bool
) -> None:
    account.behaviour.index_lag = 3600  # a search would not show it
    log(hubspot, message(0, contact))
    account.faults.fail_next(1, Fault.reset(applied=applied))
    [lost] = log(hubspot, message(1, contact))
    assert isinstance(lost, Retry)
    assert lost.ambiguous

    [found] = log(hubspot, message(1, contact, doubtful=True, status=MessageStatus.READ))

    assert found.created is not applied
    assert [held["kirim_key"] for held in account.all("communication").values()] == ["wamid.0", "wamid.1"]
    assert account.get(found.id)["kirim_status"] == "read"


def test_a_doubtful_entry_is_found_among_hundreds(account: HubSpotEmulator, hubspot: HubSpot, contact: str) -> None:
    account.behaviour.association_page = 100
    made: list[Any] = []
    for start in range(0, 300, 100):
        made += log(hubspot, *(message(number, contact) for number in range(start, start + 100)))
    outcomes = log(hubspot, *(message(number, contact, doubtful=True) for number in (3, 299, 300)))

    assert [outcome.created for outcome in outcomes] == [False, False, True]
    assert [outcome.id for outcome in outcomes[:2]] == [made[3].id, made[299].id]


def test_a_doubtful_entry_of_a_merged_contact_is_found(
    account: HubSpotEmulator, hubspot: HubSpot, contact: str
) -> None:
    [made] = log(hubspot, message(1, contact))
    account.merge(account.create_contact(firstname="Ben"), contact)

    assert log(hubspot, message(1, contact, doubtful=True)) == [Logged(made.id, created=False)]


def half_an_answer(account: HubSpotEmulator, *, rows: int = 1) -> None:
    """The next batch is applied, and the answer has its first row only, or none."""
    now = "2026-11-20T12:00:00.000Z"
    told = {"id": "20000001", "properties": {"kirim_key": "wamid.1"}, "createdAt": now, "updatedAt": now}
    body = {"status": "COMPLETE", "results": [told][:rows], "startedAt": now, "completedAt": now}
    account.faults.fail_next(1, Fault(Trouble.STATUS, applied=True, status=201, body=body))


def test_an_entry_that_an_answer_leaves_out_is_looked_for_at_once(
    account: HubSpotEmulator, hubspot: HubSpot, contact: str
) -> None:
    hubspot.timelines.require(ActivityKind.MESSAGE, anew=False)
    half_an_answer(account)
    outcomes = log(hubspot, message(1, contact), message(2, contact))

    assert outcomes == [Logged("20000001"), Logged("20000002", created=False)]
    assert len(account.all("communication")) == 2


def test_an_answer_that_says_nothing_makes_nothing_twice(
    account: HubSpotEmulator, hubspot: HubSpot, contact: str
) -> None:
    hubspot.timelines.require(ActivityKind.MESSAGE, anew=False)
    half_an_answer(account, rows=0)
    outcomes = log(hubspot, message(1, contact), message(2, contact))

    assert [outcome.created for outcome in outcomes] == [False, False]
    assert len(account.all("communication")) == 2


@pytest.mark.parametrize("status", [500, 401])
def test_trouble_while_looking_leaves_that_entry_in_doubt_and_the_others_logged(
    account: HubSpotEmulator, hubspot: HubSpot, contact: str, status: int
) -> None:
    hubspot.timelines.require(ActivityKind.MESSAGE, anew=False)
    half_an_answer(account)
    account.faults.fail_next(1, Fault.error(status))
    told, doubtful = log(hubspot, message(1, contact), message(2, contact))

    assert told == Logged("20000001")
    assert isinstance(doubtful, Retry)
    assert doubtful.ambiguous


# -- refusals


@WAYS
def test_a_bad_entry_is_refused_alone(
    account: HubSpotEmulator, hubspot: HubSpot, contact: str, partial: Partial
) -> None:
    account.behaviour.partial = partial
    entries = [message(number, contact) for number in range(20)]
    entries[7] = replace(entries[7], owner="12345")
    outcomes = log(hubspot, *entries)

    assert [type(outcome) for outcome in outcomes] == [Reject if number == 7 else Logged for number in range(20)]
    assert outcomes[7].fields == ("hubspot_owner_id",)
    assert len(account.all("communication")) == 19


@WAYS
def test_an_entry_follows_its_contact_and_outlives_its_ticket(
    account: HubSpotEmulator, hubspot: HubSpot, contact: str, partial: Partial
) -> None:
    account.behaviour.partial = partial
    account.behaviour.associations_follow_merges = False
    conversation = hubspot.upsert(Kind.CONVERSATION, [ticket(1)])[0].record.id  # type: ignore[union-attr]
    gone = account.create_contact(firstname="Gone")
    survivor = account.merge(account.create_contact(firstname="Ben"), contact)
    account.archive(conversation)
    account.archive(gone)
    moved, lost = log(hubspot, message(1, contact, conversation=conversation), message(2, gone))

    assert account.linked(moved.id, "contact") == [survivor]
    assert isinstance(lost, Reject)
    assert len(account.all("communication")) == 1


def test_an_entry_that_somebody_deleted_is_not_made_anew(
    account: HubSpotEmulator, hubspot: HubSpot, contact: str
) -> None:
    [made] = log(hubspot, message(1, contact))
    account.archive(made.id)
    [outcome] = log(hubspot, message(1, contact, id=made.id))

    assert isinstance(outcome, Reject)
    assert account.all("communication") == {}


# -- trouble


def test_nothing_more_is_sent_once_the_account_is_in_trouble(
    account: HubSpotEmulator, hubspot: HubSpot, contact: str
) -> None:
    [made] = log(hubspot, message(0, contact))
    account.faults.fail_next(1, Fault.error(500))
    outcomes = log(hubspot, message(0, contact, id=made.id), message(1, contact), note(contact, "text"))

    assert [type(outcome) for outcome in outcomes] == [Retry, Throttled, Throttled]
    assert outcomes[0].ambiguous


def test_trouble_before_anything_was_sent_is_raised(account: HubSpotEmulator, hubspot: HubSpot, contact: str) -> None:
    log(hubspot, message(0, contact))
    account.faults.fail_next(1, Fault.error(401))

    with pytest.raises(Suspend):
        log(hubspot, message(1, contact), note(contact, "text"))


def test_trouble_with_notes_does_not_hide_what_became_of_messages(
    account: HubSpotEmulator, hubspot: HubSpot, contact: str
) -> None:
    log(hubspot, message(0, contact), note(contact, "text"))
    account.faults.fail_next(1, Fault.slow(0))
    account.faults.fail_next(1, Fault.error(429))
    outcomes = log(hubspot, message(1, contact), note(contact, "text"))

    assert [type(outcome) for outcome in outcomes] == [Logged, Retry]


# -- what has to be there


def test_without_its_key_nothing_is_logged(contact: str) -> None:
    with checked_hubspot(token=TOKEN) as bare:
        hubspot = connect(bare)
        with pytest.raises(Suspend, match="communication property kirim_key"):
            log(hubspot, message(1, contact))
        hubspot.close()

        assert len(bare.ledger) == 0


def test_a_key_that_was_deleted_suspends(account: HubSpotEmulator, hubspot: HubSpot, contact: str) -> None:
    log(hubspot, message(0, contact))
    account.tables["communication"].properties._defined.pop("kirim_key")

    with pytest.raises(Suspend, match="kirim_key"):
        log(hubspot, message(1, contact))


@pytest.mark.parametrize("deleted", [True, False])
def test_a_refusal_without_a_reason_may_be_a_deleted_key(
    account: HubSpotEmulator, hubspot: HubSpot, contact: str, deleted: bool
) -> None:
    log(hubspot, message(0, contact))
    if deleted:
        account.tables["communication"].properties._defined.pop("kirim_key")
    refusal = {"status": "error", "category": "VALIDATION_ERROR", "message": "Something is wrong"}
    account.faults.fail_next(3, Fault.error(400, body=refusal), "/crm/v3/objects/communications/batch/create")

    if deleted:
        with pytest.raises(Suspend, match="kirim_key"):
            log(hubspot, message(1, contact), message(2, contact))
    else:
        assert [type(each) for each in log(hubspot, message(1, contact), message(2, contact))] == [Reject, Reject]


def test_trouble_while_a_contacts_survivor_is_looked_for_hides_no_other_outcome(
    account: HubSpotEmulator, hubspot: HubSpot, contact: str
) -> None:
    gone = account.create_contact(firstname="Gone")
    account.archive(gone)
    account.faults.fail_next(5, Fault.error(500), "/crm/v3/objects/contacts/batch/read")
    made, refused = log(hubspot, message(1, contact), message(2, gone))

    assert made == Logged("20000001")
    assert isinstance(refused, Retry)


@pytest.mark.parametrize(
    ("activities", "names"),
    [
        (frozenset[ActivityKind](), []),
        (frozenset({ActivityKind.DIGEST}), ["note kirim_key"]),
        (frozenset(ActivityKind), ["note kirim_key", "communication kirim_key", "communication kirim_status"]),
    ],
)
def test_what_timelines_need_is_prepared_along_with_contacts(
    activities: frozenset[ActivityKind], names: list[str]
) -> None:
    with checked_hubspot(token=TOKEN) as bare:
        hubspot = connect(bare, activities=activities)
        plan = hubspot.prepare(Kind.CONTACT, plan_only=False)

        assert [sentence.split(",")[0].removeprefix("The ").replace(" property", "") for sentence in plan] == [
            "contact kirim_contact_id",
            *names,
        ]
        assert hubspot.prepare(Kind.CONTACT) == []
        hubspot.close()


def test_an_update_has_no_associations(account: HubSpotEmulator, hubspot: HubSpot, contact: str) -> None:
    [made] = log(hubspot, message(1, contact))
    sent = sent_to(account, "/communications/batch/update")
    log(hubspot, message(1, contact, id=made.id))

    assert set(sent[0]["inputs"][0]) == {"id", "objectWriteTraceId", "properties"}
    assert account.calls[UPDATE] == 1
