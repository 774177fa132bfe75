"""HubSpot's webhooks, read: what each event says of a record that we keep.

https://developers.hubspot.com/docs/apps/developer-platform/add-features/configure-webhooks
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from connectors.hubspot.objects import RECORDS
from connectors.hubspot.values import Row
from crmsync import strict_json
from crmsync.connecting.values import EPOCH
from crmsync.errors import BadPayload
from crmsync.model import CONTACT_LINK, Change, Item, Kind, Value

Kept = Mapping[Kind, Collection[str]]
"""The properties whose changes matter, for each kind of record that is kept."""

KINDS = {name: kind for kind, of in RECORDS.items() for name in (of.name, of.id)}
GONE = frozenset({"deletion", "privacyDeletion"})
LINKED = "associationChange"
VERBS = GONE | {"creation", "propertyChange", "merge", "restore", LINKED}


def read_events(body: bytes) -> Sequence[Any]:
    """The list in a body. Raises `BadPayload`."""
    events = strict_json.read(body)
    if not isinstance(events, list):
        raise BadPayload("not_list")
    return events


def items(event: Any, portal_id: str | None, kept: Kept) -> Iterator[Item]:
    """What one event says. It is a hint at most: events come in no order, so that the record has to be read.

    A merge says something of each record that took part, and so is several items.
    """
    key, name = _key(event), _name(event)
    try:
        subject, verb, record_id, at = _essentials(event)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        yield Item(key, name, reason="schema")
        return
    origin, kind = _origin(event), KINDS.get(subject)
    if portal_id is not None and str(event.get("portalId")) != portal_id:
        yield Item(key, name, reason="foreign_portal", at=at, origin=origin)
    elif kind is None or kind not in kept or verb not in VERBS:
        yield Item(key, name, reason="unmapped_type", at=at, origin=origin)
    elif not _matters(event, verb, kept[kind]):
        yield Item(key, name, reason="unmapped_field", at=at, origin=origin)
    elif verb == "merge":
        for id in _merged(event, record_id):
            yield Item(f"{key}:{id}", name, Change(kind, id), at=at, origin=origin)
    else:
        seen = _seen(event) if verb == "propertyChange" else {}
        change = Change(kind, record_id, seen=seen, created=verb == "creation", deleted=verb in GONE)
        yield Item(key, name, change, at=at, origin=origin)


def _matters(event: Row, verb: str, kept: Collection[str]) -> bool:
    """Whether something changed that is kept."""
    if verb == LINKED:
        return CONTACT_LINK in kept
    return verb != "propertyChange" or _property(event) in {*kept, None}


def _essentials(event: Any) -> tuple[str, str, str, datetime]:
    """Kind of object, what happened, record id and time; raises where one is missing or of the wrong type."""
    subject, _, verb = event["subscriptionType"].partition(".")
    if verb == LINKED:
        subject, record_id = _linked(event, subject)
    else:
        new = event.get("objectId") is None and verb == "merge"
        record_id = _id(event["newObjectId"] if new else event["objectId"])
        subject = str(event["objectTypeId"]) if subject == "object" else subject
    happened = event["occurredAt"]
    if type(happened) is not int:
        raise TypeError
    return subject, verb, record_id, EPOCH + timedelta(milliseconds=happened)


def _linked(event: Row, subject: str) -> tuple[str, str]:
    """The record whose associations changed: the ticket, from whichever end the event looks at it."""
    said = str(event.get("associationType") or "").upper()
    ends: Sequence[Any] = [event.get("fromObjectTypeId"), event.get("toObjectTypeId")]
    if "_TO_" in said:
        ends = said.lower().split("_to_")
    ticket = RECORDS[Kind.CONVERSATION]
    partner = RECORDS[Kind.CONTACT]
    for own, other, id in ((0, 1, "fromObjectId"), (1, 0, "toObjectId")):
        if ends[own] in (ticket.name, ticket.id) and ends[other] in (partner.name, partner.id):
            return ticket.id, _id(event[id])
    if not any(ends) and subject == ticket.name:
        return ticket.id, _id(event["fromObjectId"])
    return "another", ""


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
    if _name(event).endswith(f".{LINKED}"):
        ends = ("associationType", "fromObjectId", "toObjectId")
        parts += [*(event.get(name) for name in ends), str(event.get("associationRemoved"))]
    if not all(part is None or type(part) in (int, str) for part in parts) or event.get("occurredAt") is None:
        return f"hubspot:{_digest({**event, 'attemptNumber': None})}"
    value = [_digest(event["propertyValue"])] if "propertyValue" in event else []
    key = ":".join("" if part is None else str(part) for part in [*parts, *value])
    return f"hubspot:{key if len(key) <= 200 and key.isascii() and key.isprintable() else _digest(key)}"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
