"""What is known of a message, and what of it goes onto a timeline. In whatever order events come, they end the same.

Values only: no store, no platform, no clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, datetime, timedelta, tzinfo
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from crmsync.model import Direction, Message, MessageStatus

LONGEST = 60_000
"""Characters of one entry: what every platform's notes hold. What does not fit is counted, not dropped in silence."""
SETTLING = timedelta(seconds=2)
"""How long an outbound message may gather what its several events say before it is logged."""
CHURN = timedelta(seconds=10)
"""How long news of an entry that stands already may gather: sent, delivered and read often come at once."""


class Log(StrEnum):
    """What of the messages goes to a CRM."""

    OFF = "off"
    EACH = "each"  # one entry for every message
    DIGEST = "digest"  # one entry for a conversation and a day


@dataclass(frozen=True, slots=True)
class Logging:
    """How messages are logged on one connection. `zone` says when a day begins; without `bodies` no text is kept."""

    log: Log
    zone: tzinfo
    bodies: bool = True


RANK: Mapping[MessageStatus, int] = MappingProxyType(
    {
        MessageStatus.QUEUED: 0,
        MessageStatus.SENT: 1,
        MessageStatus.DELIVERED: 2,
        MessageStatus.READ: 3,
        MessageStatus.FAILED: 4,
        MessageStatus.RECEIVED: 5,
    }
)
"""A status only ever moves up. `FAILED` is terminal; `RECEIVED` is what an inbound message is from the start."""

_WORDS: Mapping[Direction | None, str] = MappingProxyType(
    {Direction.INBOUND: "Customer", Direction.OUTBOUND: "Agent", None: "Message"}
)


def merge(known: Message, told: Message) -> Message:
    """What is known after one more event. Associative, commutative, and the same event again changes nothing."""
    merged: dict[str, Any] = {
        each.name: _joined(getattr(known, each.name), getattr(told, each.name)) for each in fields(Message)
    }
    merged["at"] = min((at for at in (known.at, told.at) if at), default=None)
    winner = max((known, told), key=_progress)
    same = known.status == told.status
    moments = [at for at in ((known.status_at, told.status_at) if same else (winner.status_at,)) if at]
    return Message(**{**merged, "status": winner.status, "status_at": min(moments, default=None)})


def _joined(one: object, other: object) -> object:
    """The value that is known; of two that differ always the same one, whichever came first."""
    if one is None or other is None:
        return other if one is None else one
    return max(one, other, key=str)


def _progress(message: Message) -> int:
    return -1 if message.status is None else RANK[message.status]


def without_body(message: Message) -> Message:
    """The message without what was said in it."""
    return replace(message, text=None, media=None, filename=None)


def told_of(message: Message) -> bool:
    """Whether an event said what the message is. A status alone does not: the message itself is told of elsewhere."""
    return message.direction is not None and (message.type is not None or message.text is not None)


def thread(message: Message) -> str:
    """What a message belongs to: its conversation, or while that is unknown the two numbers."""
    return message.conversation_id or f"{message.number_id or ''}:{message.phone or ''}"


def day_of(moment: datetime, zone: tzinfo) -> date:
    """The day on which something was said, where the tenant is."""
    return moment.astimezone(zone).date()


@dataclass(frozen=True, slots=True)
class Text:
    """An entry as people read it."""

    title: str
    body: str

    @property
    def digest(self) -> str:
        """The same for the same text."""
        return hashlib.sha256(f"{self.title}\0{self.body}".encode("utf-8", "replace")).hexdigest()[:32]


def entry(message: Message) -> Text:
    """One message, for a timeline."""
    way = "to" if message.direction is Direction.OUTBOUND else "from"
    title = f"WhatsApp message {way} {message.contact_name or 'the customer'}"
    lines = [f"{_WORDS[message.direction]}: {_said(message)}", *_standing(message)]
    return Text(title, _bounded("\n".join(lines)))


def digest(day: date, messages: Sequence[Message], zone: tzinfo) -> Text:
    """Everything that was said in a conversation on one day, oldest first."""
    ordered = sorted((each for each in messages if each.at and told_of(each)), key=_order)
    name = next((each.contact_name for each in reversed(ordered) if each.contact_name), "the customer")
    lines, size, left = [], 0, 0
    for each in ordered:
        clock = each.at.astimezone(zone).strftime("%H:%M") if each.at else ""
        standing = f" ({'; '.join(_standing(each))})" if _standing(each) else ""
        line = f"{clock} {_WORDS[each.direction]}: {_said(each)}{standing}"
        if left or size + len(line) + 1 > LONGEST:
            left += 1
            continue
        lines.append(line)
        size += len(line) + 1
    if left:
        lines.append(f"… and {left} more, which do not fit here")
    count = "1 message" if len(ordered) == 1 else f"{len(ordered)} messages"
    return Text(f"WhatsApp with {name} on {day.isoformat()}: {count}", "\n".join(lines))


def _order(message: Message) -> tuple[str, str]:
    return (message.at.isoformat() if message.at else "", message.id or message.kirim_id or "")


def _said(message: Message) -> str:
    """The words and the file, or what kind of message it is where neither is kept."""
    file = " ".join(part for part in (message.filename, message.media) if part)
    words = [message.text or "", f"[{message.type or 'file'}] {file}" if file else ""]
    return "\n".join(word for word in words if word) or f"[{message.type or 'message'}]"


def _standing(message: Message) -> list[str]:
    """How far an outbound message came. What is on its way as it should be needs no word."""
    if message.status is MessageStatus.FAILED:
        return [f"Not delivered: {message.error}" if message.error else "Not delivered"]
    shown = (MessageStatus.SENT, MessageStatus.DELIVERED, MessageStatus.READ)
    return [f"Status: {message.status}"] if message.status in shown else []


def _bounded(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 60]}\n… {len(text) - LONGEST + 60} more characters"


def due_at(message: Message, first_at: datetime, *, stands: bool, now: datetime) -> datetime | None:
    """When an entry for a message may be sent, None while nothing said what the message is."""
    if not told_of(message):
        return None
    if stands:
        return now + CHURN
    return first_at + SETTLING if message.direction is Direction.OUTBOUND else now
