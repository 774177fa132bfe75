"""What Kirim's events say of messages, in the words that everybody uses."""

from __future__ import annotations

from typing import Any

from crmsync.kirim.event_types import Event, MessageCreated, MessageReceived, MessageSent, MessageStatus
from crmsync.model import Direction, Message
from crmsync.model import MessageStatus as Status

STATUSES = {status.value: status for status in Status if status is not Status.RECEIVED}
KIRIM_ID = "msg_"


def told_of(event: Event) -> Message | None:
    """What an event says of one message; None where it is about none."""
    match event:
        case MessageReceived():
            return _received(event)
        case MessageStatus():
            return _reported(event)
        case MessageCreated():
            return Message(
                kirim_id=event.message_id,
                direction=Direction.OUTBOUND,
                phone=_phone(event.to),
                conversation_id=event.conversation_id,
                number_id=event.phone_number_id,
                at=event.at,
                type=event.message_type,
                status=Status.QUEUED,
                status_at=event.at,
            )
        case MessageSent():
            return Message(
                id=event.provider_id,
                kirim_id=event.message_id,
                direction=Direction.OUTBOUND,
                phone=_phone(event.contact_phone or event.to),
                number_id=event.phone_number_id,
                at=event.at,
                type=event.message_type,
                text=event.text,
                status=Status.SENT,
                status_at=event.at,
                sender=event.source,
            )
        case _:
            return None


def _received(event: MessageReceived) -> Message:
    file: Any = event.content.get(event.message_type) if event.content else None
    named = file if isinstance(file, dict) else event.content
    filename = named.get("filename") if isinstance(named.get("filename"), str) else None
    return Message(
        id=event.message_id,
        kirim_id=event.kirim_message_id,
        direction=Direction.INBOUND,
        phone=_phone(event.sender),
        contact_name=event.profile_name,
        conversation_id=event.conversation_id,
        number_id=event.phone_number_id,
        at=event.at,
        type=event.message_type,
        text=event.text,
        media=event.media_url,
        filename=filename,
        status=Status.RECEIVED,
    )


def _reported(event: MessageStatus) -> Message:
    """A status tells nothing of the message itself. What Kirim calls otherwise than we know changes nothing."""
    own = event.message_id.startswith(KIRIM_ID)
    errors = "; ".join(f"{error.code} {error.title or ''}".strip() for error in event.errors)
    status = STATUSES.get(event.status)
    return Message(
        id=None if own else event.message_id,
        kirim_id=event.message_id if own else event.kirim_message_id,
        direction=Direction.OUTBOUND,
        phone=_phone(event.recipient),
        conversation_id=event.conversation_id,
        number_id=event.phone_number_id,
        status=status,
        status_at=event.at if status else None,
        error=errors or None,
    )


def _phone(digits: str | None) -> str | None:
    """Meta writes numbers without a plus."""
    return None if not digits else digits if digits.startswith("+") else f"+{digits}"
