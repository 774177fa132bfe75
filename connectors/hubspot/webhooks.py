"""HubSpot's webhooks: proving where a request comes from, and reading what it says.

Signature version 3 only: the older ones carry no time, so that anyone who has seen a request can repeat it.

https://developers.hubspot.com/docs/apps/developer-platform/build-apps/authentication/request-validation
https://developers.hubspot.com/docs/apps/developer-platform/add-features/configure-webhooks
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from connectors.hubspot.values import EPOCH, Row
from crmsync import strict_json
from crmsync.errors import BadPayload, BadSignature, Doubt
from crmsync.model import Change, Item, Kind, Value, WebhookRequest

TOLERANCE = timedelta(minutes=5)
CONTACT_TYPE = "0-1"
SIGNATURE = re.compile(rb"[A-Za-z0-9+/]{43}=")
MILLISECONDS = re.compile(rb"[0-9]{12,14}")
ESCAPES = re.compile(rb"%(3A|2F|3F|40|21|24|27|28|29|2A|2C|3B)", re.IGNORECASE)


def check_signature(request: WebhookRequest, url: str, secrets: Collection[str]) -> str:
    """The label of the secret with which the request was signed for `url`, lately. Raises `BadSignature`."""
    signatures = request.header(b"x-hubspot-signature-v3")
    stamps = request.header(b"x-hubspot-request-timestamp")
    if not signatures or not stamps:
        raise BadSignature(Doubt.MISSING)
    if len(signatures) > 1 or len(stamps) > 1:
        raise BadSignature(Doubt.MALFORMED)
    if not SIGNATURE.fullmatch(signatures[0]) or not MILLISECONDS.fullmatch(stamps[0]):
        raise BadSignature(Doubt.MALFORMED)
    method = request.method.upper().encode("utf-8", "surrogatepass")
    signed = b"".join((method, _signed_address(url, request.path), request.body, stamps[0]))
    given = base64.b64decode(signatures[0])
    matching = [
        secret for secret in secrets if hmac.compare_digest(hmac.digest(secret.encode(), signed, "sha256"), given)
    ]
    if not matching:
        raise BadSignature(Doubt.MISMATCH)
    age = request.received_at - (EPOCH + timedelta(milliseconds=int(stamps[0])))
    if abs(age) > TOLERANCE:
        raise BadSignature(Doubt.STALE if age > timedelta(0) else Doubt.FUTURE)
    return _label(matching[0])


def _label(secret: str) -> str:
    """Tells a secret from the others, wherever it stands among them, and may be shown."""
    return hashlib.sha256(b"crmsync client secret\0" + secret.encode()).hexdigest()[:8]


def _signed_address(url: str, path: str) -> bytes:
    """The public URL with the query as it was sent. HubSpot signs it with these escapes undone, and no others."""
    _, mark, query = path.partition("?")
    address = f"{url}{mark}{query}".encode("utf-8", "surrogatepass")
    return ESCAPES.sub(lambda escape: bytes.fromhex(escape[1].decode()), address)


def read_events(body: bytes) -> Sequence[Any]:
    """The list in a body. Raises `BadPayload`."""
    events = strict_json.read(body)
    if not isinstance(events, list):
        raise BadPayload("not_list")
    return events


def items(event: Any, portal_id: str | None, kept: Collection[str]) -> Iterator[Item]:
    """What one event says. It is a hint at most: events come in no order, so that the record has to be read.

    A merge says something of each record that took part, and so is several items. `kept` are the properties whose
    changes matter.
    """
    key = _key(event)
    try:
        kind, verb, record_id, at = _essentials(event)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        yield Item(key, _name(event), reason="schema")
        return
    name, origin = _name(event), _origin(event)
    if portal_id is not None and str(event.get("portalId")) != portal_id:
        yield Item(key, name, reason="foreign_portal", at=at, origin=origin)
    elif kind not in ("contact", f"object/{CONTACT_TYPE}") or verb not in VERBS:
        yield Item(key, name, reason="unmapped_type", at=at, origin=origin)
    elif verb == "propertyChange" and _property(event) not in {*kept, None}:
        yield Item(key, name, reason="unmapped_field", at=at, origin=origin)
    elif verb == "merge":
        for id in _merged(event, record_id):
            yield Item(f"{key}:{id}", name, Change(Kind.CONTACT, id), at=at, origin=origin)
    else:
        seen = _seen(event) if verb == "propertyChange" else {}
        change = Change(Kind.CONTACT, record_id, seen=seen, created=verb == "creation", deleted=verb in GONE)
        yield Item(key, name, change, at=at, origin=origin)


GONE = frozenset({"deletion", "privacyDeletion"})
VERBS = GONE | {"creation", "propertyChange", "merge", "restore"}


def _essentials(event: Any) -> tuple[str, str, str, datetime]:
    """Kind of object, what happened, record id and time; raises where one is missing or of the wrong type."""
    kind, _, verb = event["subscriptionType"].partition(".")
    if kind == "object":
        kind = f"object/{event['objectTypeId']}"
    record_id = _id(event["newObjectId"] if event.get("objectId") is None and verb == "merge" else event["objectId"])
    happened = event["occurredAt"]
    if type(happened) is not int:
        raise TypeError
    return kind, verb, record_id, EPOCH + timedelta(milliseconds=happened)


def _id(value: object) -> str:
    if type(value) not in (int, str) or not re.fullmatch(r"[0-9]{1,20}", text := str(value)):
        raise TypeError
    return text


def _merged(event: Row, record_id: str) -> Sequence[str]:
    """The survivor first, then everyone it absorbed."""
    absorbed = event.get("mergedObjectIds")
    named = [event.get("newObjectId"), event.get("primaryObjectId"), record_id]
    named += absorbed if isinstance(absorbed, list) else []
    return list(dict.fromkeys(str(id) for id in named if re.fullmatch(r"[1-9][0-9]{0,19}", str(id))))


def _property(event: Row) -> str | None:
    """The property that changed; None where the event does not say."""
    name = event.get("propertyName")
    return name if isinstance(name, str) else None


def _seen(event: Row) -> dict[str, Value]:
    name, value = _property(event), event.get("propertyValue")
    return {name: value or None} if name is not None and isinstance(value, str) else {}


def _name(event: Any) -> str:
    name = event.get("subscriptionType") if isinstance(event, dict) else None
    return name if isinstance(name, str) and re.fullmatch(r"[\w.]{1,64}", name) else "unknown"


def _origin(event: Row) -> str:
    """Who made the change, in HubSpot's words: "CRM_UI:userId:42"."""
    parts = (event.get("changeSource"), event.get("sourceId"))
    return ":".join(str(part) for part in parts if part)[:200]


def _key(event: Any) -> str:
    """The identity of an event. HubSpot's `eventId` is not unique; `attemptNumber` changes with each delivery."""
    if not isinstance(event, dict):
        return f"hubspot:{_digest(event)}"
    names = ("subscriptionId", "subscriptionType", "objectId", "newObjectId", "occurredAt", "propertyName")
    parts = [event.get(name) for name in names]
    if not all(part is None or type(part) in (int, str) for part in parts) or event.get("occurredAt") is None:
        return f"hubspot:{_digest({**event, 'attemptNumber': None})}"
    value = [_digest(event["propertyValue"])] if "propertyValue" in event else []
    key = ":".join("" if part is None else str(part) for part in [*parts, *value])
    return f"hubspot:{key if len(key) <= 200 and key.isascii() and key.isprintable() else _digest(key)}"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
