"""Reads a body that was proved to be Kirim's: into typed events, and into the items that the core works on.

Both of Kirim's shapes are read, its own envelope and Meta's body passed on, in every documented variation.
Only the signed body counts: no header is looked at. Nothing here knows a clock; the caller names the
`horizon` after which a stated time is not believed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from crmsync.kirim.contact import contact_record, readable
from crmsync.kirim.conversation import CLOSED
from crmsync.kirim.event_types import (
    BrokenEvent,
    ContactStated,
    ConversationAssigned,
    ConversationClosed,
    EmptyEvent,
    Event,
    MessageCreated,
    MessageError,
    MessageReceived,
    MessageSent,
    MessageStatus,
    UnknownEvent,
)
from crmsync.kirim.messages import told_of
from crmsync.kirim.meta import is_meta, message_errors, split, status_key
from crmsync.kirim.reading import (
    LONGEST_ID,
    broken,
    hint,
    identity,
    moment,
    optional_section,
    read_object,
    section,
    text,
)
from crmsync.model import Change, Item, Kind

__all__ = [
    "BrokenEvent",
    "ContactStated",
    "ConversationAssigned",
    "ConversationClosed",
    "EmptyEvent",
    "Event",
    "MessageCreated",
    "MessageError",
    "MessageReceived",
    "MessageSent",
    "MessageStatus",
    "UnknownEvent",
    "decode",
    "item",
    "parse",
]

LONGEST_TYPE = 64
_META_PARTS = frozenset({"entry", "messages", "statuses"})


@dataclass(frozen=True, slots=True)
class _Envelope:
    """What every event in Kirim's own envelope has, and what its reader needs."""

    key: str
    type: str
    at: datetime | None
    live: bool | None
    notes: tuple[str, ...]
    data: Mapping[str, Any]
    wanted: frozenset[str]
    horizon: datetime | None

    @property
    def common(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "type": self.type,
            "at": self.at,
            "live": self.live,
            "notes": self.notes,
        }


def parse(
    body: bytes,
    wanted: frozenset[str] = frozenset(),
    horizon: datetime | None = None,
    *,
    accept_test_mode: bool = False,
    numbers: frozenset[str] = frozenset(),
    conversations: bool = False,
) -> Sequence[Item]:
    """The items of a body, in its order. Raises `BadPayload` when the body as a whole is not understood.

    `numbers` are the configured ones, if that matters: a contact of another number is nobody's. `conversations` says
    whether anybody keeps these.
    """
    events = decode(body, wanted, horizon)
    return tuple(
        item(event, accept_test_mode=accept_test_mode, numbers=numbers, conversations=conversations) for event in events
    )


def decode(body: bytes, wanted: frozenset[str] = frozenset(), horizon: datetime | None = None) -> Sequence[Event]:
    """The events of a body, at least one. Raises `BadPayload`.

    `wanted` are the field names somebody maps: a `metadata.<key>` among them that a shown metadata object
    lacks is stated to be empty.
    """
    content, notes = read_object(body)
    digest = hashlib.sha256(body).hexdigest()
    if is_meta(content):
        return split(content, digest, horizon, notes)
    kind = hint(content, "type") or hint(content, "event")
    if kind is None:
        raise broken("type")
    data = content.get("data")
    if kind.startswith("message.") and isinstance(data, dict) and not _META_PARTS.isdisjoint(data):
        live = _live(content)
        return tuple(replace(event, live=live) for event in split(_as_meta(data), digest, horizon, notes))
    return (_read(content, kind, digest, wanted, horizon, notes),)


def _as_meta(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Meta's words in Kirim's envelope, which some pages suggest: a whole body, or one change's value."""
    if "entry" in data:
        return data
    return {"entry": [{"changes": [{"field": "messages", "value": data}]}]}


def item(
    event: Event,
    *,
    accept_test_mode: bool = False,
    numbers: frozenset[str] = frozenset(),
    conversations: bool = False,
) -> Item:
    """What the core makes of an event: a change of a record, what it says of a message, or why there is neither."""
    if event.live is False and not accept_test_mode:
        return Item(event.key, event.type, reason="test_mode", at=event.at)
    if isinstance(event, ContactStated):
        number = event.record.fields.get("phone_number_id")
        if numbers and number is not None and number not in numbers:
            return Item(event.key, event.type, reason="unrouted", at=event.at)
        change = Change(Kind.CONTACT, event.record.id, record=event.record, partial=event.partial)
        return Item(event.key, event.type, change, at=event.at)
    message = told_of(event)
    if message is not None and numbers and message.number_id is not None and message.number_id not in numbers:
        return Item(event.key, event.type, reason="unrouted", at=event.at)
    hint = _conversation_hint(event) if conversations else None
    reason = "" if message is not None or hint is not None else _reason(event)
    return Item(event.key, event.type, hint, reason=reason, at=event.at, origin=_origin(event), message=message)


def _conversation_hint(event: Event) -> Change | None:
    """That a conversation is to be looked at: Kirim's events neither show it whole nor tell of every change.

    A customer who writes opens a conversation that was closed, and no event says so.
    """
    match event:
        case ConversationAssigned():
            return Change(Kind.CONVERSATION, event.conversation_id, seen={"assignee": event.user_id})
        case ConversationClosed():
            return Change(Kind.CONVERSATION, event.conversation_id, seen={"status": event.status or CLOSED})
        case MessageReceived(conversation_id=str(id)):
            return Change(Kind.CONVERSATION, id, seen={"status": "open"}, created=True)
        case MessageCreated(conversation_id=str(id)) | MessageStatus(conversation_id=str(id)):
            return Change(Kind.CONVERSATION, id, created=True)
        case _:
            return None


def _reason(event: Event) -> str:
    match event:
        case UnknownEvent():
            return "unknown_type"
        case BrokenEvent():
            return "schema"
        case EmptyEvent():
            return "empty"
        case _:
            return "not_mapped"


def _origin(event: Event) -> str:
    """Who sent a message, where the event says: `api` is an integration and possibly ourselves."""
    return (event.source or "") if isinstance(event, MessageSent) else ""


def _read(
    content: Mapping[str, Any],
    kind: str,
    digest: str,
    wanted: frozenset[str],
    horizon: datetime | None,
    notes: tuple[str, ...],
) -> Event:
    data = content.get("data")
    envelope = _Envelope(
        _key(content, digest),
        kind[:LONGEST_TYPE],
        moment(content.get("created_at"), horizon),
        _live(content),
        notes,
        data if isinstance(data, dict) else {},
        wanted,
        horizon,
    )
    reader = _READERS.get(kind)
    if reader is None:
        return UnknownEvent(**envelope.common)
    if not isinstance(data, dict):
        raise broken("data")
    return reader(envelope)


def _live(content: Mapping[str, Any]) -> bool | None:
    live = content.get("livemode")
    return live if isinstance(live, bool) else None


def _key(content: Mapping[str, Any], digest: str) -> str:
    """The event's own id; without a usable one the body is its own identity."""
    value = content.get("id")
    if isinstance(value, str) and 0 < len(value) <= LONGEST_ID:
        return f"e:{value}"
    return f"b:{digest}:0"


def _contact(envelope: _Envelope) -> Event:
    contact = dict(section(envelope.data, "contact", "data."))
    if "acquisition_source" in envelope.data:
        contact["acquisition_source"] = envelope.data["acquisition_source"]
    changed = envelope.data.get("changed_fields")
    record = contact_record(contact, envelope.wanted, envelope.horizon, "data.contact.")
    return ContactStated(
        **envelope.common,
        record=record,
        created=envelope.type == "contact.created",
        partial=any(readable(name) and name not in record.fields for name in envelope.wanted),
        changed_fields=tuple(str(name) for name in changed) if isinstance(changed, list) else None,
    )


def _conversation(envelope: _Envelope) -> tuple[Mapping[str, Any], dict[str, Any]]:
    conversation = section(envelope.data, "conversation", "data.")
    contact = optional_section(conversation, "contact") or optional_section(envelope.data, "contact")
    return conversation, {
        **envelope.common,
        "conversation_id": identity(conversation, "id", "data.conversation."),
        "status": hint(conversation, "status"),
        "contact_id": hint(contact, "id") or hint(conversation, "contact_id"),
        "phone_number_id": hint(conversation, "phone_number_id") or hint(envelope.data, "phone_number_id"),
    }


def _assigned(envelope: _Envelope) -> Event:
    """The assignee is beside the conversation, within it, or a bare `assigned_to`; null is nobody."""
    conversation, common = _conversation(envelope)
    for holder in (envelope.data, conversation):
        if "assignee" in holder:
            who = optional_section(holder, "assignee")
            return ConversationAssigned(
                **common,
                user_id=text(who, "user_id", "data.assignee.") or text(who, "id", "data.assignee."),
                team_id=text(who, "team_id", "data.assignee."),
                previous_user_id=text(who, "previous_user_id", "data.assignee."),
            )
        if "assigned_to" in holder:
            return ConversationAssigned(**common, user_id=text(holder, "assigned_to", "data."))
    raise broken("data.assignee")


def _closed(envelope: _Envelope) -> Event:
    conversation, common = _conversation(envelope)
    closer = hint(conversation, "closed_by_user_id") or hint(envelope.data, "closed_by_user_id")
    return ConversationClosed(**common, closed_by_user_id=closer)


def _message_created(envelope: _Envelope) -> Event:
    message = section(envelope.data, "message", "data.")
    return MessageCreated(
        **envelope.common,
        message_id=identity(message, "id", "data.message."),
        to=text(message, "to", "data.message."),
        message_type=hint(message, "type"),
        status=hint(message, "status"),
        conversation_id=hint(message, "conversation_id"),
        phone_number_id=hint(message, "phone_number_id"),
        whatsapp_account_id=hint(message, "whatsapp_account_id"),
    )


def _message_sent(envelope: _Envelope) -> Event:
    message = section(envelope.data, "message", "data.")
    shown = message.get("body")
    own = optional_section(envelope.data, "meta")
    return MessageSent(
        **envelope.common,
        message_id=identity(message, "id", "data.message."),
        provider_id=hint(message, "provider_id"),
        to=text(message, "to", "data.message."),
        message_type=hint(message, "type"),
        text=shown if isinstance(shown, str) else None,
        source=hint(message, "source"),
        contact_phone=hint(optional_section(envelope.data, "contact"), "phone_number"),
        phone_number_id=hint(own, "phone_number_id") or hint(message, "phone_number_id"),
    )


def _message_status(envelope: _Envelope) -> Event:
    """A status in Kirim's envelope, which some pages suggest by the name message.status_updated.

    Its identity is that of the same status in Meta's words, so that either way it happens once.
    """
    status = section(envelope.data, "message", "data.")
    message_id = hint(status, "provider_id") or identity(status, "id", "data.message.")
    state = identity(status, "status", "data.message.").lower()
    return MessageStatus(
        **{**envelope.common, "key": status_key(message_id, state), "type": "message.status"},
        message_id=message_id,
        status=state,
        recipient=text(status, "recipient_id", "data.message.") or text(status, "to", "data.message."),
        errors=message_errors(status),
        phone_number_id=hint(status, "phone_number_id"),
        conversation_id=hint(status, "conversation_id"),
    )


_READERS: Mapping[str, Callable[[_Envelope], Event]] = {
    "contact.created": _contact,
    "contact.updated": _contact,
    "conversation.assigned": _assigned,
    "conversation.closed": _closed,
    "message.created": _message_created,
    "message.sent": _message_sent,
    "message.status": _message_status,
    "message.status_updated": _message_status,
}
