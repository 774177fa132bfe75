"""What strangers can reach, as functions of bytes that a fuzzer hunts. None raises unless a promise is broken."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime

import orjson

from crmsync.core.canonical import storable
from crmsync.errors import BadPayload, BadSignature
from crmsync.kirim.events import parse
from crmsync.kirim.signature import Secret, verify

KEYS = ("whsec_0123456789abcdef0123456789abcdef", "whsec_fedcba9876543210fedcba9876543210")
SECRETS = tuple(Secret.of(key) for key in KEYS)
T = 1_772_366_400
NOW = datetime.fromtimestamp(T, UTC)
WANTED = frozenset({"name", "email", "labels", "metadata.tier"})


def believed(header: bytes, body: bytes) -> bool:
    """Whether a signature header is believed. What is believed has a right MAC in it, found by other means."""
    try:
        label = verify([header], body, SECRETS, NOW)
    except BadSignature:
        return False
    [key] = [key for key, secret in zip(KEYS, SECRETS, strict=True) if secret.label == label]
    parts = [part.strip(b" \t").partition(b"=") for part in header.split(b",")]
    [stamp] = [value for name, _, value in parts if name == b"t"]
    right = hmac.new(key.encode(), stamp + b"." + body, hashlib.sha256).hexdigest().encode()
    assert right in [value.lower() for name, _, value in parts if name == b"v1"], "believed without a right MAC"
    assert abs(int(stamp) - T) <= 300, "believed although it is not fresh"
    return True


def header(data: bytes) -> None:
    """A header and a body, parted by the first line break."""
    value, _, body = data.partition(b"\n")
    believed(value, body)


def body(data: bytes) -> None:
    """A body is understood or refused; what is understood can be stored and read again."""
    try:
        items = parse(data, WANTED, NOW)
    except BadPayload:
        return
    assert items
    for item in items:
        assert item.type
        assert item.key.encode()
        if item.change and item.change.record:
            fields = dict(storable(item.change.record.fields))
            assert orjson.loads(orjson.dumps(fields)).keys() == fields.keys()
    assert [item.key for item in parse(data, WANTED, NOW)] == [item.key for item in items]


def hubspot(data: bytes) -> None:
    """The same for HubSpot's bodies."""
    from connectors.hubspot.webhooks import items, read_events

    try:
        events = read_events(data)
    except BadPayload:
        return
    for event in events:
        for item in items(event, "1", {"email"}):
            assert item.type
            assert item.key.encode()


TARGETS = {"header": header, "body": body, "hubspot": hubspot}
SEEDS = {
    "header": [
        b"t=%d,v1=" % T + hmac.new(KEYS[0].encode(), b"%d.{}" % T, hashlib.sha256).hexdigest().encode() + b"\n{}",
        b"t=%d,v1=%b,v1=%b,v0=x\n{}" % (T, b"0" * 64, b"A" * 64),
    ],
    "body": [
        b'{"id":"evt_1","type":"contact.updated","created_at":"2026-03-01T12:00:00Z","livemode":true,"data":{"contact":'
        b'{"id":"ctc_1","name":"A","email":null,"phone_number":"+628","labels":[{"name":"x"}],"metadata":{"tier":1},'
        b'"whatsapp_account":{"phone_number":"+1"},"updated_at":"2026-03-01T12:00:00.123Z"},"changed_fields":["name"]}}',
        b'{"object":"whatsapp_business_account","entry":[{"changes":[{"field":"messages","value":{"statuses":[{"id":"w",'
        b'"status":"sent","timestamp":"1772366400","errors":[{"code":1}]}],"messages":[{"id":"m","type":"text","text":'
        b'{"body":"hi"},"from":"62"}]}}]}]}',
        b'{"id":"evt_2","type":"conversation.assigned","data":{"conversation":{"id":"cnv_1"},"assignee":{"id":"u"}}}',
        b'{"id":"evt_3","type":"message.sent","data":{"message":{"id":"msg_1","provider_id":"wamid.1","to":"62"}}}',
    ],
    "hubspot": [
        b'[{"eventId":1,"subscriptionId":2,"portalId":1,"occurredAt":1772366400000,"subscriptionType":'
        b'"contact.propertyChange","objectId":123,"propertyName":"email","propertyValue":"a@b","changeSource":"CRM_UI"}]',
        b'[{"subscriptionType":"contact.merge","objectId":1,"mergedObjectIds":[2,3],"occurredAt":1,"portalId":1}]',
    ],
}
