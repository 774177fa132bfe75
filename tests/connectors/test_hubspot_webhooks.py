"""HubSpot's webhooks: only what HubSpot signed is believed, and any body at all is understood or refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.hubspot import HubSpot
from crmsync.connector import Surroundings
from crmsync.errors import BadPayload, BadSignature, Doubt
from crmsync.http import Unlimited
from crmsync.model import CONTACT_LINK, Change, Item, Kind, WebhookRequest

URL = "https://sync.example.com/hooks/acme/hubspot"
PATH = "/hooks/acme/hubspot"
SECRET, NEXT_SECRET = "client-secret-0000", "client-secret-1111"
WANTED = frozenset({"email", "phone"})
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
STAMP = b"1795176000000"
EVENT: dict[str, Any] = {
    "subscriptionId": 25,
    "portalId": 777,
    "occurredAt": 1795168800123,
    "subscriptionType": "contact.propertyChange",
    "attemptNumber": 0,
    "objectId": 3000000007,
    "propertyName": "email",
    "propertyValue": "ana@example.com",
    "changeSource": "INTEGRATION",
    "sourceId": "4242",
}


def connector(**settings: Any) -> HubSpot:
    given_settings = HubSpot.Settings(**{"access_token": "t", "client_secrets": [SECRET], **settings})
    return HubSpot(given_settings, Surroundings("acme", "hubspot", URL, Unlimited(), {Kind.CONTACT: WANTED}))


HUBSPOT = connector()
LABEL = hashlib.sha256(b"crmsync client secret\0" + SECRET.encode()).hexdigest()[:8]


def mac(signed: bytes, secret: str = SECRET) -> bytes:
    return base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest())


def request(
    body: bytes = b"[]", *, path: str = PATH, address: str = URL, stamp: bytes = STAMP, secret: str = SECRET
) -> WebhookRequest:
    """A request signed for `address`."""
    signature = mac(b"POST" + address.encode() + body + stamp, secret)
    return with_headers(body, signature, stamp, path)


def with_headers(body: bytes, signature: bytes, stamp: bytes = STAMP, path: str = PATH) -> WebhookRequest:
    headers = ((b"x-hubspot-signature-v3", signature), (b"x-hubspot-request-timestamp", stamp))
    return WebhookRequest("POST", path, headers, body, NOW)


def doubt(asked: WebhookRequest, hubspot: HubSpot = HUBSPOT) -> Doubt:
    with pytest.raises(BadSignature) as refused:
        hubspot.verify(asked)
    return refused.value.doubt


# -- signatures


def test_the_timestamp_of_these_tests_is_now() -> None:
    assert datetime.fromtimestamp(int(STAMP) / 1000, UTC) == NOW


def test_a_signed_request_is_believed() -> None:
    assert HUBSPOT.verify(request()) == LABEL


def test_either_secret_is_believed_while_one_replaces_the_other_and_told_apart() -> None:
    both = connector(client_secrets=[NEXT_SECRET, SECRET])

    assert both.verify(request()) == LABEL
    assert both.verify(request(secret=NEXT_SECRET)) not in (LABEL, NEXT_SECRET)
    assert doubt(request(secret=NEXT_SECRET)) is Doubt.MISMATCH


def test_the_public_address_counts_and_not_the_path_behind_a_proxy() -> None:
    assert HUBSPOT.verify(request(path="/internal/acme")) == LABEL
    assert doubt(request(address="https://evil.example.com/hooks/acme/hubspot")) is Doubt.MISMATCH


def test_a_query_is_part_of_the_address() -> None:
    assert HUBSPOT.verify(request(path=f"{PATH}?a=1&b=2", address=f"{URL}?a=1&b=2")) == LABEL
    assert doubt(request(path=f"{PATH}?a=1", address=URL)) is Doubt.MISMATCH


def test_the_twelve_escapes_are_undone_and_no_others() -> None:
    sent = "%3A%2F%3F%40%21%24%27%28%29%2A%2C%3B%2f%20%26%25"
    signed = ":/?@!$'()*,;/%20%26%25"
    assert HUBSPOT.verify(request(path=f"{PATH}?q={sent}", address=f"{URL}?q={signed}")) == LABEL
    assert doubt(request(path=f"{PATH}?q=%20", address=f"{URL}?q= ")) is Doubt.MISMATCH


@pytest.mark.parametrize(("seconds", "expected"), [(-299, None), (299, None), (-301, Doubt.STALE), (301, Doubt.FUTURE)])
def test_five_minutes_either_way_are_tolerated(seconds: int, expected: Doubt | None) -> None:
    stamp = str(int(STAMP) + seconds * 1000).encode()
    if expected is None:
        assert HUBSPOT.verify(request(stamp=stamp)) == LABEL
    else:
        assert doubt(request(stamp=stamp)) is expected
        assert doubt(request(stamp=stamp, secret="another")) is Doubt.MISMATCH  # age only of what is authentic


@pytest.mark.parametrize(
    "stamp", [b"", b"now", b"1795176000", b"17951760000000000", b" 1795176000000", b"1795176000000\n", "１７".encode()]
)
def test_a_stamp_that_is_no_milliseconds_is_malformed(stamp: bytes) -> None:
    assert doubt(request(stamp=stamp)) is Doubt.MALFORMED


@pytest.mark.parametrize("signature", [b"", b"x", mac(b"")[:-1], mac(b"") + b"\n", b"\xff" * 44, b"=" * 44])
def test_a_signature_of_another_form_is_malformed(signature: bytes) -> None:
    assert doubt(with_headers(b"[]", signature)) is Doubt.MALFORMED


def version_1(body: bytes = b"[]", secret: str = SECRET, signature: bytes | None = None) -> WebhookRequest:
    """A request as legacy private apps send it."""
    signed = hashlib.sha256(secret.encode() + body).hexdigest().encode()
    return WebhookRequest("POST", PATH, ((b"x-hubspot-signature", signature or signed),), body, NOW)


def test_older_signature_versions_are_no_signature() -> None:
    assert doubt(version_1()) is Doubt.MISSING


def test_version_1_is_believed_where_the_settings_say_so() -> None:
    hubspot = connector(signature_v1=True, client_secrets=[SECRET, NEXT_SECRET])

    assert hubspot.verify(version_1(secret=NEXT_SECRET)) != hubspot.verify(version_1()) == LABEL
    assert hubspot.verify(request()) == LABEL
    assert doubt(version_1(secret="another"), hubspot) is Doubt.MISMATCH
    assert doubt(version_1(signature=b"A" * 64), hubspot) is Doubt.MALFORMED
    assert doubt(WebhookRequest("POST", PATH, (), b"[]", NOW), hubspot) is Doubt.MISSING


def test_a_wrong_version_3_is_not_saved_by_version_1() -> None:
    hubspot = connector(signature_v1=True)
    headers = (*request(secret="another").headers, *version_1().headers)

    assert doubt(WebhookRequest("POST", PATH, headers, b"[]", NOW), hubspot) is Doubt.MISMATCH


def test_a_header_that_comes_twice_is_malformed() -> None:
    good = request()
    twice = WebhookRequest("POST", PATH, (*good.headers, good.headers[0]), good.body, NOW)
    assert doubt(twice) is Doubt.MALFORMED


def test_without_a_secret_nothing_is_believed() -> None:
    """Not even what is signed with an empty one."""
    assert doubt(request(secret=""), connector(client_secrets=[])) is Doubt.MISMATCH


@given(st.binary(max_size=200), st.binary(max_size=60), st.binary(max_size=20), st.text(max_size=60))
def test_nothing_is_believed_by_accident(body: bytes, signature: bytes, stamp: bytes, path: str) -> None:
    assert doubt(with_headers(body, signature, stamp, path)) in set(Doubt)


@given(st.binary(min_size=32, max_size=32), st.text(max_size=60), st.binary(max_size=99))
def test_no_well_formed_signature_is_believed_that_is_not_the_one(raw: bytes, path: str, body: bytes) -> None:
    assert doubt(with_headers(body, base64.b64encode(raw), STAMP, path)) is Doubt.MISMATCH


# -- bodies


def one(event: object, hubspot: HubSpot = HUBSPOT) -> Item:
    """The one item of a body with one event."""
    (item,) = hubspot.parse(json.dumps([event]).encode())
    return item


def test_a_property_change_is_a_hint_with_what_was_seen() -> None:
    item = one(EVENT)

    assert item.change == Change(Kind.CONTACT, "3000000007", seen={"email": "ana@example.com"})
    assert (item.type, item.origin) == ("contact.propertyChange", "INTEGRATION:4242")
    assert item.at == datetime(2026, 11, 20, 10, 0, 0, 123_000, tzinfo=UTC)


def test_the_value_does_not_show_in_the_key() -> None:
    assert "ana" not in one(EVENT).key


@pytest.mark.parametrize("name", ["a\0b", "a\nb", "é", "x" * 300])
def test_a_key_is_plain_text_that_any_database_takes(name: str) -> None:
    key = one({**EVENT, "propertyName": name}).key

    assert key.isascii()
    assert key.isprintable()
    assert len(key) <= 220


def test_a_delivery_that_is_repeated_has_the_same_keys() -> None:
    assert one(EVENT).key == one({**EVENT, "attemptNumber": 3, "eventId": 9}).key


@pytest.mark.parametrize(
    "other",
    [{"objectId": 8}, {"occurredAt": 1}, {"propertyName": "phone"}, {"propertyValue": ""}, {"subscriptionId": 26}],
)
def test_another_event_has_another_key(other: dict[str, Any]) -> None:
    assert one(EVENT).key != one({**EVENT, **other}).key


def test_an_event_of_another_account_is_ignored() -> None:
    mine = connector(portal_id="777")
    assert one(EVENT, mine).change is not None
    for foreign in ({**EVENT, "portalId": 778}, {k: v for k, v in EVENT.items() if k != "portalId"}):
        item = one(foreign, mine)
        assert (item.change, item.reason) == (None, "foreign_portal")


def test_a_creation_hints_that_the_record_exists() -> None:
    item = one({**EVENT, "subscriptionType": "contact.creation"})

    assert item.change == Change(Kind.CONTACT, "3000000007", created=True)


def test_a_change_of_a_property_that_is_not_kept_in_step_is_ignored() -> None:
    items = {name: one({**EVENT, "propertyName": name}) for name in ("phone", "kirim_contact_id", "hs_lead_status")}

    assert {name: item.reason for name, item in items.items()} == {
        "phone": "",
        "kirim_contact_id": "",
        "hs_lead_status": "unmapped_field",
    }
    assert items["hs_lead_status"].change is None


def test_a_change_that_does_not_say_of_what_is_a_hint() -> None:
    item = one({name: value for name, value in EVENT.items() if name not in ("propertyName", "propertyValue")})

    assert item.change == Change(Kind.CONTACT, "3000000007")


@pytest.mark.parametrize("kind", ["ticket.creation", "object.creation", "contact.associationChange", "contact.x", "x"])
def test_other_events_concern_no_record(kind: str) -> None:
    item = one({**EVENT, "subscriptionType": kind, "objectTypeId": "0-5"})
    assert (item.change, item.reason) == (None, "unmapped_type")


def tickets(*wanted: str) -> HubSpot:
    """A connector that keeps tickets."""
    given_settings = HubSpot.Settings.model_validate({"access_token": "t", "client_secrets": [SECRET]})
    kept = {Kind.CONVERSATION: frozenset(wanted)}
    return HubSpot(given_settings, Surroundings("acme", "hubspot", URL, Unlimited(), kept))


LINKED: dict[str, Any] = {
    "subscriptionId": 31,
    "occurredAt": 1795168800123,
    "associationType": "TICKET_TO_CONTACT",
    "fromObjectId": 555,
    "toObjectId": 7,
    "associationRemoved": False,
}


@pytest.mark.parametrize(
    "said",
    [
        {"subscriptionType": "ticket.associationChange"},
        {"subscriptionType": "contact.associationChange"},
        {"subscriptionType": "object.associationChange", "objectTypeId": "0-1"},
        {
            "subscriptionType": "object.associationChange",
            "associationType": "CONTACT_TO_TICKET",
            "fromObjectId": 7,
            "toObjectId": 555,
        },
        {
            "subscriptionType": "object.associationChange",
            "associationType": None,
            "fromObjectTypeId": "0-1",
            "toObjectTypeId": "0-5",
            "fromObjectId": 7,
            "toObjectId": 555,
        },
        {"subscriptionType": "ticket.associationChange", "associationType": None},
    ],
)
def test_an_association_hints_at_its_ticket_from_whichever_end(said: dict[str, Any]) -> None:
    item = one({**LINKED, **said}, tickets(CONTACT_LINK))

    assert item.change == Change(Kind.CONVERSATION, "555")


def test_associations_matter_only_where_they_are_kept() -> None:
    event = {**LINKED, "subscriptionType": "ticket.associationChange"}

    assert one(event, tickets("subject")).reason == "unmapped_field"
    assert one({**event, "associationType": "TICKET_TO_COMPANY"}, tickets(CONTACT_LINK)).reason == "unmapped_type"


def test_making_and_removing_an_association_are_two_events() -> None:
    event = {**LINKED, "subscriptionType": "ticket.associationChange"}
    others = [{**event, "associationRemoved": True}, {**event, "toObjectId": 8}, {**event, "fromObjectId": 556}]

    assert len({one(each, tickets(CONTACT_LINK)).key for each in (event, *others)}) == 4


@pytest.mark.parametrize("type_id", [[], {}, None, 7, "0-2"])
def test_an_object_of_no_kind_we_know_is_no_ticket(type_id: object) -> None:
    for verb in ("creation", "associationChange"):
        event = {**EVENT, "subscriptionType": f"object.{verb}", "objectTypeId": type_id, "fromObjectTypeId": type_id}

        assert one(event, tickets(CONTACT_LINK)).reason == "unmapped_type"


def test_tickets_are_told_from_contacts() -> None:
    hubspot = tickets("subject")
    event = {**EVENT, "subscriptionType": "object.propertyChange", "propertyName": "subject", "objectTypeId": "0-5"}

    change = one(event, hubspot).change
    assert change == Change(Kind.CONVERSATION, "3000000007", seen={"subject": "ana@example.com"})
    assert one({**event, "objectTypeId": "0-1"}, hubspot).reason == "unmapped_field"
    assert one({**event, "subscriptionType": "ticket.deletion"}, hubspot).change == Change(
        Kind.CONVERSATION, "3000000007", deleted=True
    )


@pytest.mark.parametrize(
    "broken",
    [
        None,
        7,
        [],
        {},
        {**EVENT, "objectId": None},
        {**EVENT, "objectId": True},
        {**EVENT, "objectId": "12; DROP"},
        {**EVENT, "occurredAt": "yesterday"},
        {**EVENT, "occurredAt": 10**18},
        {**EVENT, "subscriptionType": ["contact.creation"]},
    ],
)
def test_a_broken_event_harms_no_other(broken: object) -> None:
    items = HUBSPOT.parse(json.dumps([broken, EVENT, broken]).encode())

    assert [item.reason for item in items] == ["schema", "", "schema"]
    assert items[1] == one(EVENT)


def test_a_merge_hints_at_everyone_who_took_part_the_survivor_first() -> None:
    merge = {
        **EVENT,
        "subscriptionType": "contact.merge",
        "objectId": 1,
        "primaryObjectId": 1,
        "mergedObjectIds": [2, 3],
        "newObjectId": 4,
    }
    items = HUBSPOT.parse(json.dumps([merge]).encode())

    assert [item.change and item.change.id for item in items] == ["4", "1", "2", "3"]
    assert len({item.key for item in items}) == 4


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty_body"),
        (b" \r\n", "empty_body"),
        ("[]".encode("utf-16-le"), "not_utf8"),
        (b"[" * 70 + b"]" * 70, "too_deep"),
        (b"\xff\xfe[\x00]\x00", "not_utf8"),
        (b"[", "bad_json"),
        (b"[] []", "bad_json"),
        (b"null", "not_list"),
        (b"{}", "not_list"),
        (b'[{"a":1,"a":2}]', "duplicate_key"),
        (b"[NaN]", "non_finite"),
        (b"[1e999]", "non_finite"),
        (b"[" + b"9" * 5000 + b"]", "number_too_long"),
        (b"[" * 100_000, "too_deep"),
    ],
)
def test_an_unreadable_body_says_why_in_one_word(body: bytes, reason: str) -> None:
    with pytest.raises(BadPayload, match=f"^{reason}$"):
        HUBSPOT.parse(body)


def test_a_byte_order_mark_is_tolerated() -> None:
    assert HUBSPOT.parse(b"\xef\xbb\xbf[]") == []


def test_a_hundred_events_are_a_hundred_items() -> None:
    events = [{**EVENT, "objectId": number} for number in range(1, 101)]
    items = HUBSPOT.parse(json.dumps(events).encode())

    assert [item.change and item.change.id for item in items] == [str(number) for number in range(1, 101)]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
EVENTS = st.fixed_dictionaries(
    {},
    optional={name: VALUES | st.just(value) for name, value in EVENT.items()}
    | {name: VALUES for name in ("newObjectId", "primaryObjectId", "mergedObjectIds", "objectTypeId")}
    | {"subscriptionType": VALUES | st.sampled_from(["contact.merge", "object.creation", "contact.restore"])},
)


@given(st.binary(max_size=100) | st.lists(EVENTS | VALUES, max_size=4).map(lambda it: json.dumps(it).encode()))
def test_any_body_is_items_or_a_bad_payload(body: bytes) -> None:
    try:
        items = connector(portal_id=None).parse(body)
    except BadPayload:
        return
    assert all(item.key and (item.change is None) == bool(item.reason) for item in items)
    assert [item.key for item in items] == [item.key for item in HUBSPOT.parse(body)]
