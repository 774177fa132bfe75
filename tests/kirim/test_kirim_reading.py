"""Bodies of the bad-input catalogue: which are refused as a whole, and with which constant reason."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crmsync.errors import BadPayload
from crmsync.kirim.events import decode, parse
from crmsync.kirim.reading import moment, read_object

ENVELOPE = '{"id":"evt_1","type":"contact.created","data":{"contact":{"id":"ctc_1"}}}'

REFUSED: dict[str, tuple[bytes, str]] = {
    "B1 empty": (b"", "empty_body"),
    "B1 white space": (b" \r\n\t", "empty_body"),
    "B2 truncated": (ENVELOPE[:-3].encode(), "bad_json"),
    "B2 trailing braces": (ENVELOPE.encode() + b"}{", "bad_json"),
    "B2 a raw control character": (b'{"type":"a\x01b"}', "bad_json"),
    "B2 a raw NUL within": (b'{"type":"a\x00b"}', "bad_json"),
    "B2 single quotes": (b"{'type':'x'}", "bad_json"),
    "B3 null": (b"null", "not_object"),
    "B3 array": (b"[]", "not_object"),
    "B3 string": (b'"x"', "not_object"),
    "B3 number": (b"42", "not_object"),
    "B4 duplicate key": (b'{"id":"a","id":"b","type":"x"}', "duplicate_key"),
    "B4 duplicate key deep inside": (b'{"type":"x","data":{"a":[{"b":1,"b":1}]}}', "duplicate_key"),
    "B4 keys that differ by a NUL": (b'{"type":"x","a":1,"a\\u0000":2}', "duplicate_key"),
    "B5 NaN": (b'{"type":"x","a":NaN}', "non_finite"),
    "B5 Infinity": (b'{"type":"x","a":-Infinity}', "non_finite"),
    "B5 overflow": (b'{"type":"x","a":1e999}', "non_finite"),
    "B6 5000 digits": (b'{"type":"x","a":' + b"1" * 5000 + b"}", "number_too_long"),
    "B7 100 000 arrays": (b'{"a":' + b"[" * 100_000, "too_deep"),
    "B7 closed arrays": (b'{"type":"x","a":' + b"[" * 200 + b"]" * 200 + b"}", "too_deep"),
    "B7 objects": (b'{"a":' * 100_000, "too_deep"),
    "B8 UTF-16": (ENVELOPE.encode("utf-16"), "not_utf8"),
    "B8 UTF-16 without mark": (ENVELOPE.encode("utf-16-le"), "not_utf8"),
    "B8 UTF-16 big-endian": (ENVELOPE.encode("utf-16-be"), "not_utf8"),
    "B8 UTF-32": (ENVELOPE.encode("utf-32-le"), "not_utf8"),
    "B9 Latin-1": (b'{"type":"caf\xe9"}', "not_utf8"),
    "B9 an encoded surrogate": (b'{"type":"\xed\xa0\x80"}', "not_utf8"),
    "no type": (b'{"id":"evt_1","data":{}}', "schema: type"),
    "B14 data missing": (b'{"id":"evt_1","type":"contact.created"}', "schema: data"),
    "B14 data of another type": (b'{"id":"evt_1","type":"contact.updated","data":[]}', "schema: data"),
    "B14 contact missing": (
        b'{"id":"evt_1","type":"contact.created","data":{}}',
        "schema: data.contact",
    ),
    "B14 contact without id": (
        b'{"id":"evt_1","type":"contact.created","data":{"contact":{"name":"x"}}}',
        "schema: data.contact.id",
    ),
    "B14 an endless id": (
        json.dumps({"type": "contact.created", "data": {"contact": {"id": "c" * 1000}}}).encode(),
        "schema: data.contact.id",
    ),
    "B14 a name that is an object": (
        b'{"id":"evt_1","type":"contact.created","data":{"contact":{"id":"ctc_1","name":{}}}}',
        "schema: data.contact.name",
    ),
    "B14 metadata that is a list": (
        b'{"id":"evt_1","type":"contact.created","data":{"contact":{"id":"ctc_1","metadata":[]}}}',
        "schema: data.contact.metadata",
    ),
    "B14 an account that is a list": (
        b'{"id":"evt_1","type":"contact.created","data":{"contact":{"id":"ctc_1","whatsapp_account":[]}}}',
        "schema: data.contact.whatsapp_account",
    ),
    "B14 conversation without id": (
        b'{"id":"evt_1","type":"conversation.closed","data":{"conversation":{}}}',
        "schema: data.conversation.id",
    ),
    "B14 nobody named at all": (
        b'{"id":"evt_1","type":"conversation.assigned","data":{"conversation":{"id":"cnv_1"}}}',
        "schema: data.assignee",
    ),
    "B14 message missing": (b'{"id":"evt_1","type":"message.created","data":{}}', "schema: data.message"),
    "entries that are no list": (
        b'{"object":"whatsapp_business_account","entry":{}}',
        "schema: entry",
    ),
}


@pytest.mark.parametrize(("body", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_a_body_that_cannot_be_understood_is_refused_for_one_constant_reason(body: bytes, reason: str) -> None:
    with pytest.raises(BadPayload) as caught:
        decode(body)
    assert str(caught.value) == reason


def test_a_byte_order_mark_is_tolerated() -> None:
    assert decode(b"\xef\xbb\xbf" + ENVELOPE.encode())[0].key == "e:evt_1"


def test_nul_and_lone_surrogates_are_repaired_and_noted() -> None:
    value, notes = read_object(b'{"a\\u0000":"x\\u0000y\\ud800z","b":["\\udc00","\\ud83d\\ude00"]}')
    assert value == {"a": "xy\ufffdz", "b": ["\ufffd", "😀"]}
    assert notes == ("nul_removed", "surrogate_replaced")
    json.dumps(value, ensure_ascii=False).encode()


def test_a_sound_body_has_no_notes() -> None:
    assert read_object(ENVELOPE.encode())[1] == ()


@pytest.mark.parametrize(
    ("stated", "read"),
    [
        ("2026-05-23T10:00:00Z", datetime(2026, 5, 23, 10, tzinfo=UTC)),
        ("2026-05-23T10:00:00.123Z", datetime(2026, 5, 23, 10, 0, 0, 123_000, UTC)),
        ("2026-05-23T17:00:00+07:00", datetime(2026, 5, 23, 10, tzinfo=UTC)),
        ("1716480000", datetime(2024, 5, 23, 16, tzinfo=UTC)),
        (1716480000, datetime(2024, 5, 23, 16, tzinfo=UTC)),
    ],
)
def test_times_are_read_in_either_precision(stated: object, read: datetime) -> None:
    assert moment(stated) == read


@pytest.mark.parametrize(
    "stated",
    [
        "2026-05-23T10:00:00",  # no zone
        "2026-06-30T23:59:60Z",  # a leap second
        "1970-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-12:00",
        "2099-01-01T00:00:00Z",
        "2026-05-23",
        "yesterday",
        "",
        None,
        True,
        12.5,
        {},
        "99999999999",
    ],
)
def test_a_time_that_cannot_be_relied_on_is_no_time(stated: object) -> None:
    assert moment(stated, horizon=datetime(2026, 11, 1, tzinfo=UTC)) is None


UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=12,
)
known_keys = st.sampled_from(
    [
        "id",
        "type",
        "event",
        "data",
        "contact",
        "conversation",
        "message",
        "assignee",
        "object",
        "entry",
        "changes",
        "value",
        "field",
        "messages",
        "statuses",
        "metadata",
        "name",
        "email",
        "phone_number",
        "labels",
        "whatsapp_account",
        "created_at",
        "updated_at",
        "livemode",
        "status",
        "from",
        "text",
        "contacts",
        "kirim",
        "errors",
        "pricing",
        "assigned_to",
        "user_id",
        "changed_fields",
        "timestamp",
        "recipient_id",
    ]
)
kinds = st.sampled_from(
    [
        "contact.created",
        "contact.updated",
        "conversation.assigned",
        "conversation.closed",
        "message.created",
        "message.sent",
        "message.status",
        "message.status_updated",
        "message.received",
        "contact.deleted",
        "whatsapp_business_account",
    ]
)
event_like = st.recursive(
    json_values | kinds,
    lambda inner: st.dictionaries(known_keys, inner, max_size=5) | st.lists(inner, max_size=3),
    max_leaves=25,
)


@UNHURRIED
@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_bad_payload(body: bytes) -> None:
    with contextlib.suppress(BadPayload):
        parse(body)


@UNHURRIED
@given(kinds, event_like, st.dictionaries(known_keys, event_like, max_size=4))
def test_no_json_raises_anything_but_bad_payload(kind: str, data: object, more: dict[str, object]) -> None:
    body = json.dumps({"id": "evt_1", "type": kind, **more, "data": data}).encode()
    try:
        items = parse(body, frozenset({"metadata.x"}))
    except BadPayload:
        return
    assert items
    assert len({item.key for item in items}) == len(items)


@UNHURRIED
@given(event_like, event_like)
def test_no_meta_body_raises_anything_but_bad_payload(value: object, entry: object) -> None:
    changes = [{"field": "messages", "value": value}, {"value": {"messages": [entry], "statuses": [value]}}]
    body = json.dumps({"object": "whatsapp_business_account", "entry": [{"changes": changes}, entry]}).encode()
    try:
        items = parse(body)
    except BadPayload:
        return
    assert items
    assert all(item.reason or item.message for item in items)
