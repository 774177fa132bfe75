"""Every documented event in every documented shape, and what becomes of it."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from crmsync.kirim.event_types import (
    BrokenEvent,
    ContactStated,
    ConversationAssigned,
    ConversationClosed,
    EmptyEvent,
    MessageCreated,
    MessageError,
    MessageReceived,
    MessageSent,
    MessageStatus,
    UnknownEvent,
)
from crmsync.kirim.events import decode, parse
from crmsync.model import Change, Fields, Item, Kind, Record

AT = "2026-05-23T10:00:00Z"
MOMENT = datetime(2026, 5, 23, 10, tzinfo=UTC)
CONTACT = "ctc_01HXYZABCDEFGHJKMNPQRSTVWX"
CONVERSATION = "cnv_W1HXYZABCDEFGHJKMNPQRSTVWX"
WAMID = "wamid.HBgNNjI4MTExMTExMTExMRUCABIYFA=="

BASE: dict[str, Any] = {
    "id": CONTACT,
    "object": "contact",
    "phone_number": "+628111111111",
    "name": "John Doe",
    "email": None,
    "metadata": None,
    "created_at": AT,
    "updated_at": AT,
}
FIRST_SHAPE = {**BASE, "whatsapp_account": {"phone_number": "+62 851-1760-0829"}}
SECOND_SHAPE = {**BASE, "whatsapp_account_id": "wba_01HXYZ", "phone_number_id": "106540352242922"}


def body(kind: str, data: Any, **envelope: Any) -> bytes:
    return json.dumps({"id": "evt_1", "type": kind, "created_at": AT, "data": data, **envelope}).encode()


def only(raw: bytes, *wanted: str) -> Item:
    (item,) = parse(raw, frozenset(wanted))
    return item


def contact_fields(contact: dict[str, Any], *wanted: str, **data: Any) -> Fields:
    item = only(body("contact.updated", {"contact": contact, **data}), *wanted)
    assert item.change is not None
    assert item.change.record is not None
    return item.change.record.fields


def meta(*values: Any, **top: Any) -> bytes:
    changes = [{"field": "messages", "value": value} for value in values]
    return json.dumps(
        {"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": changes}], **top}
    ).encode()


def value(**parts: Any) -> dict[str, Any]:
    return {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "62851176008029", "phone_number_id": "106540352242922"},
        **parts,
    }


TEXT = {"from": "628111111111", "id": WAMID, "timestamp": "1716480000", "type": "text", "text": {"body": "Halo"}}
PEOPLE = [{"profile": {"name": "John Doe"}, "wa_id": "628111111111"}]


def status(word: str, **more: Any) -> dict[str, Any]:
    return {"id": WAMID, "status": word, "timestamp": "1716480010", "recipient_id": "628111111111", **more}


# -- contacts


@pytest.mark.parametrize("kind", ["contact.created", "contact.updated"])
@pytest.mark.parametrize("contact", [FIRST_SHAPE, SECOND_SHAPE, BASE], ids=["G1", "G2", "neither"])
@pytest.mark.parametrize("envelope", [{}, {"livemode": True}], ids=["G1", "G2"])
def test_a_contact_event_states_the_contact(kind: str, contact: dict[str, Any], envelope: dict[str, Any]) -> None:
    item = only(body(kind, {"contact": contact}, **envelope))
    assert (item.key, item.type, item.reason, item.at) == ("e:evt_1", kind, "", MOMENT)
    assert item.change is not None
    record = item.change.record
    assert record is not None
    assert (item.change.kind, item.change.id) == (Kind.CONTACT, CONTACT)
    assert (record.id, record.external_id, record.version) == (CONTACT, CONTACT, MOMENT)
    expected = {name: BASE[name] for name in ("phone_number", "name", "email", "created_at", "updated_at")}
    assert expected.items() <= record.fields.items()


def test_the_accounts_of_both_shapes_become_fields() -> None:
    assert contact_fields(FIRST_SHAPE)["whatsapp_account"] == "+62 851-1760-0829"
    second = contact_fields(SECOND_SHAPE)
    assert (second["phone_number_id"], second["whatsapp_account_id"]) == ("106540352242922", "wba_01HXYZ")


@pytest.mark.parametrize(
    ("account", "read"), [("+62 811", "+62 811"), (None, None), ({"phone_number": None}, None), ({}, "absent")]
)
def test_an_account_may_be_anything_documented_or_less(account: Any, read: str | None) -> None:
    assert contact_fields({**BASE, "whatsapp_account": account}).get("whatsapp_account", "absent") == read


def test_profile_names_are_taken_where_they_are_whole() -> None:
    people = [None, {"wa_id": "628111111111"}, {"profile": {"name": "X"}}, *PEOPLE]
    (event,) = decode(meta(value(contacts=people, messages=[TEXT])))
    assert isinstance(event, MessageReceived)
    assert event.profile_name == "John Doe"


def test_the_acquisition_source_stands_beside_the_contact() -> None:
    (event,) = decode(body("contact.created", {"contact": BASE, "acquisition_source": "ctwa_ad"}))
    assert isinstance(event, ContactStated)
    assert event.created
    assert event.record.fields["acquisition_source"] == "ctwa_ad"


@pytest.mark.parametrize(
    ("listed", "read"),
    [
        ({"changed_fields": ["name", "email"]}, ("name", "email")),
        ({"changed_fields": []}, ()),
        ({"changed_fields": None}, None),
        ({}, None),
    ],
)
def test_changed_fields_may_be_missing(listed: dict[str, Any], read: tuple[str, ...] | None) -> None:
    (event,) = decode(body("contact.updated", {"contact": BASE, **listed}))
    assert isinstance(event, ContactStated)
    assert event.changed_fields == read
    assert not event.created


def test_what_is_absent_is_unknown() -> None:
    assert contact_fields({"id": CONTACT, "name": "Zoë"}, "email", "metadata.crm_id") == {"name": "Zoë"}


def test_a_contact_of_which_a_wanted_field_is_missing_is_partial() -> None:
    def partial(contact: dict[str, Any], *wanted: str) -> bool:
        item = only(body("contact.updated", {"contact": contact}), *wanted)
        return item.change is not None and item.change.partial

    assert partial({"id": CONTACT, "name": "Zoë"}, "name", "email")
    assert partial({"id": CONTACT, "name": "Zoë"}, "metadata.crm_id")
    assert not partial(BASE, "name", "email", "metadata.crm_id", "phone_number")
    assert not partial(BASE, "labels", "acquisition_source")  # no reading would show them
    assert not partial({"id": CONTACT, "name": "Zoë"}, "name")


def test_empty_null_and_absent_are_three_things() -> None:
    assert contact_fields({**BASE, "email": ""})["email"] == ""
    assert contact_fields({**BASE, "email": None})["email"] is None
    assert "email" not in contact_fields({"id": CONTACT})


def test_the_dots_of_the_printed_samples_are_ignored() -> None:
    assert "..." not in contact_fields({"id": CONTACT, "name": "x", "...": "..."})


def test_a_shown_metadata_object_lacks_what_is_empty() -> None:
    wanted = ("metadata.crm_id", "metadata.segment", "name")
    both = {"metadata.crm_id": None, "metadata.segment": None}
    assert contact_fields({"id": CONTACT, "metadata": None}, *wanted) == both
    assert contact_fields({"id": CONTACT, "metadata": {}}, *wanted) == both
    assert contact_fields({"id": CONTACT, "metadata": {"crm_id": "7", "other": 1}}, *wanted) == {
        "metadata.crm_id": "7",
        "metadata.segment": None,
        "metadata.other": 1,
    }
    assert contact_fields({"id": CONTACT}, *wanted) == {}


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ("text", "text"),
        ("", ""),
        (7, 7),
        (7.5, 7.5),
        (True, True),
        (None, None),
        (["a", "b"], ("a", "b")),
        ([], ()),
        (["a", 1], '["a",1]'),
        ({"b": [1, {"ü": None}], "a": 1}, '{"a":1,"b":[1,{"ü":null}]}'),
        (2**63, "9223372036854775808"),
        (-(2**63), -(2**63)),
        ("x\0y", "xy"),
    ],
)
def test_metadata_values_become_what_a_field_can_hold(stored: Any, read: Any) -> None:
    found = contact_fields({"id": CONTACT, "metadata": {"key.with.dots": stored}})["metadata.key.with.dots"]
    assert found == read
    assert type(found) is type(read)


@pytest.mark.parametrize(
    ("labels", "read"),
    [
        ([{"id": "lbl_1", "name": "VIP"}, {"id": "lbl_2", "name": "Trial"}], ("VIP", "Trial")),
        (["VIP", "Trial", "VIP"], ("VIP", "Trial")),
        ([], ()),
    ],
)
def test_labels_are_read_as_objects_and_as_strings(labels: Any, read: tuple[str, ...]) -> None:
    assert contact_fields({**BASE, "labels": labels})["labels"] == read


@pytest.mark.parametrize("labels", [None, "VIP", {}, [{"id": "lbl_1"}], ["VIP", {"id": "lbl_2"}], ["VIP", None]])
def test_labels_that_cannot_all_be_named_are_unknown(labels: Any) -> None:
    assert "labels" not in contact_fields({**BASE, "labels": labels})


def test_fifty_thousand_labels_are_read() -> None:
    labels = [{"name": f"label {number}"} for number in range(50_000)]
    read = contact_fields({**BASE, "labels": labels})["labels"]
    assert isinstance(read, tuple)
    assert len(read) == 50_000


@pytest.mark.parametrize("stated", ["2026-06-30T23:59:60Z", "2026-05-23T10:00:00", "1970-01-01T00:00:00Z", None, 5])
def test_a_time_that_cannot_be_relied_on_makes_no_version(stated: Any) -> None:
    item = only(body("contact.updated", {"contact": {**BASE, "updated_at": stated}}))
    assert item.change is not None
    assert item.change.record is not None
    assert item.change.record.version is None


def test_a_time_after_the_horizon_makes_no_version() -> None:
    future = body("contact.updated", {"contact": {**BASE, "updated_at": "2099-01-01T00:00:00Z"}})
    (item,) = parse(future, horizon=datetime(2026, 11, 20, tzinfo=UTC))
    assert item.change is not None
    assert item.change.record is not None
    assert item.change.record.version is None
    assert item.change.record.fields["updated_at"] == "2099-01-01T00:00:00Z"


def test_a_version_keeps_its_milliseconds() -> None:
    item = only(body("contact.updated", {"contact": {**BASE, "updated_at": "2026-05-23T10:00:00.789Z"}}))
    assert item.change is not None
    assert item.change.record is not None
    assert item.change.record.version == datetime(2026, 5, 23, 10, 0, 0, 789_000, UTC)


def test_nul_and_surrogates_do_not_reach_a_field() -> None:
    raw = body("contact.updated", {"contact": {**BASE, "name": "a\0b\ud800c"}})
    (event,) = decode(raw)
    assert isinstance(event, ContactStated)
    assert event.record.fields["name"] == "ab\ufffdc"
    assert event.notes == ("nul_removed", "surrogate_replaced")


def test_a_name_of_a_mebibyte_is_read() -> None:
    assert contact_fields({**BASE, "name": "x" * 1_048_576})["name"] == "x" * 1_048_576


# -- envelopes


def test_livemode_false_is_test_mode_unless_allowed() -> None:
    raw = body("contact.created", {"contact": BASE}, livemode=False)
    assert only(raw) == Item("e:evt_1", "contact.created", reason="test_mode", at=MOMENT)
    (allowed,) = parse(raw, accept_test_mode=True)
    assert allowed.change is not None


@pytest.mark.parametrize("kind", ["contact.deleted", "customer.created", "broadcast.sent", "message.revoked"])
def test_an_unknown_type_is_kept_and_not_guessed_at(kind: str) -> None:
    assert only(body(kind, {"anything": 1})) == Item("e:evt_1", kind, reason="unknown_type", at=MOMENT)
    assert isinstance(decode(body(kind, None))[0], UnknownEvent)


@pytest.mark.parametrize("event_id", [None, "", 7, {}, "x" * 300])
def test_without_a_usable_id_the_body_is_its_own_identity(event_id: Any) -> None:
    raw = body("contact.created", {"contact": BASE}, id=event_id)
    item = only(raw)
    assert item.key == f"b:{hashlib.sha256(raw).hexdigest()}:0"
    assert item.change is not None


def test_the_third_envelope_of_one_page_is_kept_as_unknown() -> None:
    raw = json.dumps({"id": "wbd_1", "event": "message.received", "delivered_at": AT, "data": {"message": {}}})
    assert only(raw.encode()) == Item("e:wbd_1", "message.received", reason="unknown_type")


# -- conversations


ASSIGNED = {"user_id": "usr_1", "team_id": "tem_1", "previous_user_id": None}
OPEN = {"id": CONVERSATION, "object": "conversation", "status": "open"}


@pytest.mark.parametrize(
    ("data", "user_id"),
    [
        ({"conversation": OPEN, "assignee": ASSIGNED}, "usr_1"),
        ({"conversation": OPEN, "assignee": {**ASSIGNED, "user_id": "k3jd92kd01ab"}}, "k3jd92kd01ab"),
        ({"conversation": OPEN, "assignee": {"id": "usr_1", "name": "A", "email": "a@b.c"}}, "usr_1"),
        ({"conversation": {**OPEN, "assigned_to": "usr_1"}}, "usr_1"),
        ({"conversation": {**OPEN, "assignee": ASSIGNED}}, "usr_1"),
        ({"conversation": OPEN, "assignee": {**ASSIGNED, "user_id": None}}, None),
        ({"conversation": OPEN, "assignee": {"team_id": "tem_1"}}, None),
        ({"conversation": OPEN, "assignee": None}, None),
        ({"conversation": {**OPEN, "assigned_to": None}}, None),
    ],
)
def test_an_assignment_is_read_in_every_shape(data: dict[str, Any], user_id: str | None) -> None:
    raw = body("conversation.assigned", data, livemode=True)
    (event,) = decode(raw)
    assert isinstance(event, ConversationAssigned)
    assert (event.conversation_id, event.status, event.user_id) == (CONVERSATION, "open", user_id)
    assert only(raw) == Item("e:evt_1", "conversation.assigned", reason="not_mapped", at=MOMENT)


def test_an_assignment_says_whom_it_was_taken_from() -> None:
    assignee = {**ASSIGNED, "previous_user_id": "usr_0"}
    (event,) = decode(body("conversation.assigned", {"conversation": OPEN, "assignee": assignee}))
    assert isinstance(event, ConversationAssigned)
    assert (event.previous_user_id, event.team_id) == ("usr_0", "tem_1")


def test_a_conversation_may_name_its_contact_and_number() -> None:
    conversation = {**OPEN, "contact": {"id": CONTACT}, "phone_number_id": "106540352242922", "assigned_to": None}
    (event,) = decode(body("conversation.assigned", {"conversation": conversation}))
    assert isinstance(event, ConversationAssigned)
    assert (event.contact_id, event.phone_number_id) == (CONTACT, "106540352242922")


@pytest.mark.parametrize("closer", ["usr_1", None])
def test_a_closing_is_read(closer: str | None) -> None:
    data = {"conversation": {**OPEN, "status": "resolved", "closed_by_user_id": closer}}
    (event,) = decode(body("conversation.closed", data))
    assert isinstance(event, ConversationClosed)
    assert (event.conversation_id, event.status, event.closed_by_user_id) == (CONVERSATION, "resolved", closer)
    assert only(body("conversation.closed", data)).reason == "not_mapped"


# -- messages


def test_an_accepted_message_is_read() -> None:
    message = {
        "id": "msg_8",
        "object": "message",
        "whatsapp_account_id": "wba_1",
        "phone_number_id": "106540352242922",
        "to": "628111111111",
        "type": "text",
        "status": "queued",
        "conversation_id": CONVERSATION,
        "created_at": AT,
    }
    (event,) = decode(body("message.created", {"message": message}, livemode=True))
    assert event == MessageCreated(
        key="e:evt_1",
        type="message.created",
        at=MOMENT,
        live=True,
        message_id="msg_8",
        to="628111111111",
        message_type="text",
        status="queued",
        conversation_id=CONVERSATION,
        phone_number_id="106540352242922",
        whatsapp_account_id="wba_1",
    )


def test_a_sent_message_is_read_as_production_was_seen_to_send_it() -> None:
    data = {
        "session": "s1",
        "message": {
            "id": "msg_8",
            "provider_id": WAMID,
            "to": "628111111111",
            "type": "text",
            "body": "Hi",
            "source": "app",
        },
        "contact": {"phone_number": "+628111111111"},
        "meta": {"phone_number_id": "106540352242922"},
        "timestamp": AT,
    }
    (event,) = decode(body("message.sent", data))
    assert event == MessageSent(
        key="e:evt_1",
        type="message.sent",
        at=MOMENT,
        message_id="msg_8",
        provider_id=WAMID,
        to="628111111111",
        message_type="text",
        text="Hi",
        source="app",
        contact_phone="+628111111111",
        phone_number_id="106540352242922",
    )
    assert only(body("message.sent", data)).origin == "app"


def test_a_received_message_is_read() -> None:
    (event,) = decode(meta(value(contacts=PEOPLE, messages=[TEXT])))
    assert event == MessageReceived(
        key=f"m:{WAMID}",
        type="message.received",
        at=datetime(2024, 5, 23, 16, tzinfo=UTC),
        message_id=WAMID,
        message_type="text",
        sender="628111111111",
        text="Halo",
        content={"body": "Halo"},
        profile_name="John Doe",
        phone_number_id="106540352242922",
    )
    assert only(meta(value(messages=[TEXT]))).message is not None


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ({"type": "image", "image": {"caption": "Bukti", "id": "1"}}, "Bukti"),
        ({"type": "image", "image": {"id": "1"}}, None),
        ({"type": "button", "button": {"text": "Yes", "payload": "y"}}, "Yes"),
        ({"type": "reaction", "reaction": {"message_id": "wamid.0", "emoji": "😮"}}, "😮"),
        ({"type": "reaction", "reaction": {"message_id": "wamid.0"}}, None),
        ({"type": "location", "location": {"latitude": 1.5, "longitude": 2, "name": "HQ"}}, "HQ"),
        (
            {"type": "interactive", "interactive": {"type": "list_reply", "list_reply": {"id": "1", "title": "B"}}},
            "B",
        ),
        ({"type": "interactive", "interactive": {"type": "nfm_reply", "nfm_reply": {"body": "Sent"}}}, "Sent"),
        ({"type": "interactive"}, None),
        ({"type": "contacts", "contacts": [{"name": {"formatted_name": "C"}}]}, None),
        ({"type": "unsupported", "errors": [{"code": 131051}]}, None),
        ({}, None),
    ],
)
def test_every_type_of_message_is_read(message: dict[str, Any], shown: str | None) -> None:
    (event,) = decode(meta(value(messages=[{"from": "62811", "id": WAMID, "timestamp": "1716480000", **message}])))
    assert isinstance(event, MessageReceived)
    assert event.text == shown
    assert event.message_type == message.get("type", "unknown")


def test_kirims_own_ids_are_taken_from_its_block() -> None:
    block = {
        "contact": {"name": "John", "phone_number": "+628111111111"},
        "message_id": "msg_8",
        "conversation_id": CONVERSATION,
        "phone_number_id": "222222222",
        "media_url": "https://cdn.example/1",
        "media_status": "ready",
    }
    bare = {"messages": [TEXT]}
    (event,) = decode(meta(bare, kirim=block))
    assert isinstance(event, MessageReceived)
    assert (event.kirim_message_id, event.conversation_id, event.phone_number_id, event.media_url) == (
        "msg_8",
        CONVERSATION,
        "222222222",
        "https://cdn.example/1",
    )
    several = decode(meta({"messages": [TEXT, {**TEXT, "id": "wamid.2"}]}, kirim=block))
    assert [event.kirim_message_id for event in several if isinstance(event, MessageReceived)] == [None, None]


def test_every_status_of_a_message_is_a_thing_of_its_own() -> None:
    words = ["sent", "delivered", "read", "failed", "deleted", "warning", "played"]
    items = parse(meta(value(statuses=[status(word) for word in words])))
    assert [item.key for item in items] == [f"s:{WAMID}:{word}" for word in words]
    assert {item.type for item in items} == {"message.status"}


def test_the_same_status_twice_in_a_body_is_one() -> None:
    assert len(parse(meta(value(statuses=[status("read"), status("read")])))) == 1


def test_a_failed_status_carries_its_reasons() -> None:
    errors = [{"code": 131047, "title": "Re-engagement message"}, {"title": "no code"}, None]
    pricing = {"billable": True, "pricing_model": "CBP", "category": "utility"}
    (event,) = decode(meta(value(statuses=[status("failed", errors=errors, pricing=pricing)])))
    assert isinstance(event, MessageStatus)
    assert event.errors == (MessageError(code="131047", title="Re-engagement message"),)
    assert (event.pricing_category, event.recipient) == ("utility", "628111111111")


@pytest.mark.parametrize("kind", ["message.status", "message.status_updated"])
def test_a_status_in_an_envelope_has_the_identity_it_has_in_metas_words(kind: str) -> None:
    wrapped = body(kind, value(statuses=[status("delivered")]))
    whole = body(kind, json.loads(meta(value(statuses=[status("delivered")]))))
    plain = body(kind, {"message": {"id": "msg_8", "provider_id": WAMID, "status": "delivered"}})
    assert [only(raw).key for raw in (wrapped, whole, plain)] == [f"s:{WAMID}:delivered"] * 3
    assert {only(raw).type for raw in (wrapped, whole, plain)} == {"message.status"}


def test_a_wrapped_body_of_meta_keeps_its_test_mode() -> None:
    assert only(body("message.received", value(messages=[TEXT]), livemode=False)).reason == "test_mode"
    assert only(body("message.received", value(messages=[TEXT]))).key == f"m:{WAMID}"


def test_three_entries_of_five_changes_of_twenty_things_are_split() -> None:
    def change(entry: int, number: int) -> dict[str, Any]:
        messages = [{**TEXT, "id": f"wamid.{entry}.{number}.{one}"} for one in range(10)]
        statuses = [{**status("read"), "id": f"wamid.{entry}.{number}.{one}"} for one in range(10)]
        return {"field": "messages", "value": value(messages=messages, statuses=statuses)}

    entries = [{"id": str(entry), "changes": [change(entry, number) for number in range(5)]} for entry in range(3)]
    items = parse(json.dumps({"object": "whatsapp_business_account", "entry": entries}).encode())
    assert len(items) == 3 * 5 * 20
    assert len({item.key for item in items}) == len(items)


@pytest.mark.parametrize("bad", [None, [], "x", 7, {}, {"id": {}}, {"id": ""}, {"id": True, "type": "text"}])
def test_one_bad_message_does_not_harm_its_neighbours(bad: Any) -> None:
    raw = meta(value(messages=[TEXT, bad, {**TEXT, "id": "wamid.2"}], statuses=[bad, status("read")]))
    items = parse(raw)
    assert [(item.reason, item.type) for item in items] == [
        ("", "message.received"),
        ("schema", "message.received"),
        ("", "message.received"),
        ("schema", "message.status"),
        ("", "message.status"),
    ]
    assert len({item.key for item in items}) == 5
    assert [event.problem for event in decode(raw) if isinstance(event, BrokenEvent)] == [
        "schema: messages[].id",
        "schema: statuses[].id",
    ]


@pytest.mark.parametrize("entry", [None, 7, {}, {"changes": {}}, {"changes": [None]}, {"changes": [{"value": []}]}])
def test_one_bad_entry_does_not_harm_its_neighbours(entry: Any) -> None:
    good = {"changes": [{"field": "messages", "value": value(messages=[TEXT])}]}
    raw = json.dumps({"object": "whatsapp_business_account", "entry": [entry, good, entry]}).encode()
    items = parse(raw)
    assert [item.reason for item in items] == ["schema", "", "schema"]
    assert len({item.key for item in items}) == 3


def test_changes_that_say_nothing_about_messages_are_unknown() -> None:
    changes = [
        {"field": "account_update", "value": {"event": "DISABLED_UPDATE"}},
        {"field": "smb_message_echoes", "value": {"message_echoes": [TEXT]}},
        {"field": "messages", "value": {"errors": [{"code": 131000}]}},
    ]
    items = parse(json.dumps({"object": "whatsapp_business_account", "entry": [{"changes": changes}]}).encode())
    assert [(item.type, item.reason) for item in items] == [
        ("meta.account_update", "unknown_type"),
        ("meta.smb_message_echoes", "unknown_type"),
        ("meta.messages", "unknown_type"),
    ]


@pytest.mark.parametrize("raw", [b'{"object":"whatsapp_business_account","entry":[]}', b'{"entry":[]}'])
def test_a_body_of_meta_without_entries_is_empty(raw: bytes) -> None:
    (event,) = decode(raw)
    assert isinstance(event, EmptyEvent)
    assert only(raw) == Item(f"b:{hashlib.sha256(raw).hexdigest()}:0", "meta", reason="empty")


def test_a_record_and_its_change_are_equal_when_the_same_body_is_read_twice() -> None:
    raw = body("contact.created", {"contact": SECOND_SHAPE})
    assert parse(raw) == parse(raw)
    change = only(body("contact.created", {"contact": {"id": CONTACT, "name": "x"}})).change
    assert change == Change(Kind.CONTACT, CONTACT, Record(Kind.CONTACT, CONTACT, {"name": "x"}, None, CONTACT))
