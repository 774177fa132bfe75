"""Splits a body that Meta wrote and Kirim passed on into messages and statuses, each with its own end.

A body may carry several entries, each several changes, each several messages and statuses. One that cannot be
read becomes a `BrokenEvent` and leaves its neighbours alone. Kirim may add a block `kirim` with its own ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from types import MappingProxyType
from typing import Any

from crmsync.errors import BadPayload
from crmsync.kirim.event_types import (
    BrokenEvent,
    EmptyEvent,
    Event,
    MessageError,
    MessageReceived,
    MessageStatus,
    UnknownEvent,
)
from crmsync.kirim.reading import broken, hint, identity, moment, optional_section, rows, text

_SHOWN = {"text": "body", "button": "text", "reaction": "emoji"}
"""Where the visible text of a message type is kept, unless it is a caption."""

_UNREADABLE: Mapping[str, Any] = {"messages": "unreadable"}


@dataclass(frozen=True, slots=True)
class _Around:
    """What the messages and statuses of one change have in common."""

    phone_number_id: str | None
    names: Mapping[str, str]
    kirim: Mapping[str, Any]
    horizon: datetime | None
    notes: tuple[str, ...]


def is_meta(body: Mapping[str, Any]) -> bool:
    """Whether a body is Meta's and not Kirim's envelope. The headers have no say: they are not signed."""
    return "type" not in body and (body.get("object") == "whatsapp_business_account" or "entry" in body)


def split(
    body: Mapping[str, Any], digest: str, horizon: datetime | None = None, notes: tuple[str, ...] = ()
) -> Sequence[Event]:
    """Every message and status of a Meta body. `digest` identifies what has no id of its own."""
    if not isinstance(body.get("entry", []), list):
        raise broken("entry")
    changes = list(_changes(body))
    block = _kirim_block(body, changes)
    number = count()
    found: dict[str, Event] = {}
    for field, value in changes:
        around = _Around(
            hint(optional_section(value, "metadata"), "phone_number_id") or hint(block, "phone_number_id"),
            _profile_names(value),
            block,
            horizon,
            notes,
        )
        for event in _events(field, value, around, (f"b:{digest}:{n}" for n in number)):
            found.setdefault(event.key, event)
    return tuple(found.values()) or (EmptyEvent(key=f"b:{digest}:0", type="meta", notes=notes),)


def _changes(body: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each change's field and value. Whatever has another shape comes as a value that cannot be read."""
    for entry in rows(body, "entry"):
        changes = entry.get("changes") if isinstance(entry, dict) else None
        for change in changes if isinstance(changes, list) else (None,):
            holder = change if isinstance(change, dict) else {}
            value = holder.get("value")
            yield hint(holder, "field") or "unnamed", value if isinstance(value, dict) else _UNREADABLE


def _kirim_block(body: Mapping[str, Any], changes: Sequence[tuple[str, Mapping[str, Any]]]) -> Mapping[str, Any]:
    """Kirim's addition. Its message ids mean one message, so they are dropped when the body has several."""
    block = optional_section(body, "kirim")
    entries = sum(len(rows(value, name)) for _, value in changes for name in _READERS)
    if entries == 1:
        return block
    return {name: value for name, value in block.items() if name == "phone_number_id"}


def _profile_names(value: Mapping[str, Any]) -> Mapping[str, str]:
    """The names people gave themselves, by WhatsApp id."""
    names: dict[str, str] = {}
    for contact in rows(value, "contacts"):
        if isinstance(contact, dict):
            who, name = hint(contact, "wa_id"), hint(optional_section(contact, "profile"), "name")
            if who and name:
                names[who] = name
    return names


def _events(field: str, value: Mapping[str, Any], around: _Around, own_keys: Iterator[str]) -> Iterator[Event]:
    """The events of one change; a change with neither messages nor statuses is of a kind we do not know."""
    if all(value.get(name) in (None, []) for name in _READERS):
        yield UnknownEvent(key=next(own_keys), type=f"meta.{field}"[:64], notes=around.notes)
    for name, (kind, read) in _READERS.items():
        entries = [] if value.get(name) is None else value[name]
        for entry in entries if isinstance(entries, list) else (None,):
            own_key = next(own_keys)
            try:
                yield read(entry if isinstance(entry, dict) else {}, around)
            except BadPayload as error:
                yield BrokenEvent(key=own_key, type=kind, problem=str(error), notes=around.notes)


def _message(message: Mapping[str, Any], around: _Around) -> MessageReceived:
    message_id = identity(message, "id", "messages[].")
    kind = hint(message, "type") or "unknown"
    sender = text(message, "from", "messages[].")
    content = optional_section(message, kind)
    return MessageReceived(
        key=f"m:{message_id}",
        type="message.received",
        at=moment(message.get("timestamp"), around.horizon),
        notes=around.notes,
        message_id=message_id,
        message_type=kind,
        sender=sender,
        text=_shown(kind, content),
        content=MappingProxyType(dict(content)),
        reply_to=hint(optional_section(message, "context"), "id"),
        profile_name=around.names.get(sender or ""),
        phone_number_id=around.phone_number_id,
        kirim_message_id=hint(around.kirim, "message_id"),
        conversation_id=hint(around.kirim, "conversation_id"),
        media_url=hint(around.kirim, "media_url"),
    )


def _shown(kind: str, content: Mapping[str, Any]) -> str | None:
    if kind == "interactive":
        reply = optional_section(content, hint(content, "type") or "")
        return hint(reply, "title") or hint(reply, "body")
    if kind == "location":
        return hint(content, "name") or hint(content, "address")
    return hint(content, _SHOWN.get(kind, "caption"))


def _status(status: Mapping[str, Any], around: _Around) -> MessageStatus:
    message_id = identity(status, "id", "statuses[].")
    state = identity(status, "status", "statuses[].").lower()
    recipient = text(status, "recipient_id", "statuses[].")
    return MessageStatus(
        key=status_key(message_id, state),
        type="message.status",
        at=moment(status.get("timestamp"), around.horizon),
        notes=around.notes,
        message_id=message_id,
        status=state,
        recipient=recipient,
        errors=message_errors(status),
        pricing_category=hint(optional_section(status, "pricing"), "category"),
        profile_name=around.names.get(recipient or ""),
        phone_number_id=around.phone_number_id,
        kirim_message_id=hint(around.kirim, "message_id"),
        conversation_id=hint(around.kirim, "conversation_id"),
    )


def status_key(message_id: str, status: str) -> str:
    """Sent, delivered and read of one message share one id everywhere else: here they are three things."""
    return f"s:{message_id}:{status}"


def message_errors(status: Mapping[str, Any]) -> tuple[MessageError, ...]:
    """Meta's reasons, as far as they have a code."""
    errors = [error for error in rows(status, "errors") if isinstance(error, dict)]
    return tuple(
        MessageError(code=str(error["code"]), title=hint(error, "title"))
        for error in errors
        if isinstance(error.get("code"), int | str)
    )


_READERS: Mapping[str, tuple[str, Callable[[Mapping[str, Any], _Around], Event]]] = {
    "messages": ("message.received", _message),
    "statuses": ("message.status", _status),
}
