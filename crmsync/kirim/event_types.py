"""What Kirim's webhooks say, as typed values. One class per event; no reading and no deciding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from crmsync.model import Record

_NONE: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing a delivery says.

    `key` is its identity, taken from the signed body. `at` is None where the stated time cannot be relied on.
    `live` is None where the envelope does not say. `notes` name what was repaired in the body's strings.
    """

    key: str
    type: str
    at: datetime | None = None
    live: bool | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownEvent(Event):
    """Of a type this version does not know. Kept, never guessed at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenEvent(Event):
    """One unreadable entry of a Meta body whose other entries are fine. `problem` names the path."""

    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EmptyEvent(Event):
    """A Meta body without a single entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactStated(Event):
    """contact.created and contact.updated. `changed_fields` is None where the event does not list them.

    `partial` says that a wanted field which Kirim's API would show is missing.
    """

    record: Record
    created: bool
    partial: bool = False
    changed_fields: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationEvent(Event):
    """What the conversation events share. The documents show neither contact nor number; some bodies may."""

    conversation_id: str
    status: str | None = None
    contact_id: str | None = None
    phone_number_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationAssigned(ConversationEvent):
    """conversation.assigned. `user_id` None means that nobody is responsible any more."""

    user_id: str | None
    team_id: str | None = None
    previous_user_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationClosed(ConversationEvent):
    """conversation.closed."""

    closed_by_user_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageReceived(Event):
    """message.received, in Meta's words plus Kirim's own ids where the body carries them.

    `text` is what a reader would see: text, caption, button title, emoji or address. `content` is the typed
    object as it came.
    """

    message_id: str
    message_type: str
    sender: str | None = None
    text: str | None = None
    content: Mapping[str, Any] = field(default_factory=lambda: _NONE)
    reply_to: str | None = None
    profile_name: str | None = None
    phone_number_id: str | None = None
    kirim_message_id: str | None = None
    conversation_id: str | None = None
    media_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageError:
    """Why a message failed, by Meta's number."""

    code: str
    title: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageStatus(Event):
    """message.status (also spelled message.status_updated): where an outbound message has got to."""

    message_id: str
    status: str
    recipient: str | None = None
    errors: tuple[MessageError, ...] = ()
    pricing_category: str | None = None
    profile_name: str | None = None
    phone_number_id: str | None = None
    kirim_message_id: str | None = None
    conversation_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageCreated(Event):
    """message.created: an outbound message was accepted and waits to be sent."""

    message_id: str
    to: str | None = None
    message_type: str | None = None
    status: str | None = None
    conversation_id: str | None = None
    phone_number_id: str | None = None
    whatsapp_account_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageSent(Event):
    """message.sent: an outbound message left, by whichever way (`source` is api, dashboard or app)."""

    message_id: str
    provider_id: str | None = None
    to: str | None = None
    message_type: str | None = None
    text: str | None = None
    source: str | None = None
    contact_phone: str | None = None
    phone_number_id: str | None = None
