"""The words everyone uses: values, records and what is said about them. No behaviour beyond that of values.

Times are aware and in UTC everywhere. Ids are strings everywhere, whatever a platform makes of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

Value = str | int | float | bool | tuple[str, ...] | None
"""What one field holds. A set (labels, a multi-select) is a tuple; None is an explicit empty value.
A field that is absent from a mapping is *unknown*, which is not the same as empty."""

Fields = Mapping[str, Value]

NOTHING: Fields = MappingProxyType({})


class Kind(StrEnum):
    """What a record is."""

    CONTACT = "contact"
    CONVERSATION = "conversation"


class Can(StrEnum):
    """What a connector offers beyond reading and writing records."""

    WEBHOOKS = "webhooks"  # verify() and parse()
    CHANGES = "changes"  # changed(): a feed of what was modified
    FIND = "find"  # find(): candidates by a field's value
    NATIVE_UPSERT = "native_upsert"  # the platform itself keeps the external id unique
    CREATE = "create"  # upsert() may create records
    PREPARE = "prepare"  # prepare() tells what is missing in the account, and may be able to make it
    SEGMENTS = "segments"  # segments() and members()
    ACTIVITIES = "activities"  # log()
    PEOPLE = "people"  # people(): the users that records can belong to
    BULK = "bulk"  # load(): thousands of new records in one job of the platform's own


class FieldType(StrEnum):
    """The type of a field, as far as comparing and converting goes."""

    TEXT = "text"
    EMAIL = "email"
    PHONE = "phone"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATETIME = "datetime"
    DATE = "date"
    CHOICE = "choice"
    SET = "set"


CONTACT_LINK = "@contact"
"""The field of a conversation that says whose it is. A CRM's record holds a set of its own contact ids there; writing
adds those that are named and takes none away."""


@dataclass(frozen=True, slots=True)
class FieldInfo:
    """One field of the account's schema."""

    name: str
    type: FieldType
    label: str = ""
    writable: bool = True
    unique: bool = False
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """A record as its platform holds it, in the platform's own spelling.

    `fields` has the fields that were seen; the others are unknown. `version` is the platform's own time of
    last change, None where it tells none. `external_id` is the Kirim id stored on it. `aliases` are ids of
    records merged into this one. `told_only` are fields that events show and no reading does.
    """

    kind: Kind
    id: str
    fields: Fields = field(default_factory=lambda: NOTHING)
    version: datetime | None = None
    external_id: str | None = None
    aliases: tuple[str, ...] = ()
    archived: bool = False
    told_only: frozenset[str] = field(default=frozenset(), compare=False)


@dataclass(frozen=True, slots=True)
class Ref:
    """Names a record by the platform's own id, by its external id, or by both (the own id is tried first)."""

    id: str | None = None
    external_id: str | None = None


@dataclass(frozen=True, slots=True)
class Write:
    """One record to be written. `id` is the platform's own id if it is known; `fields` has only what is to change.

    None as a field's value clears it. `held` is what the record was last seen to hold of these fields, as far as that
    is known: where a platform adds to a set and takes from it one by one, it tells the difference.
    """

    external_id: str
    fields: Fields
    id: str | None = None
    held: Fields = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, slots=True)
class Written:
    """A write that was accepted.

    `record` is the record as the platform now holds it, or None where the answer did not return it.
    `refused` names fields that the platform would not take, with its reason; the others were written.
    """

    record: Record | None
    created: bool = False
    refused: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Change:
    """What a feed says about one record.

    Either it states the record (`record`, possibly with only some of its fields), or it is a hint that the
    record should be read again. `seen` are the values a hint mentions: they serve only to recognise that we
    know them already, and are never applied. `created` hints no more than that the record exists. `partial` says
    that the stated record lacks fields that a reading would have: they may have changed unnoticed.
    """

    kind: Kind
    id: str
    record: Record | None = None
    seen: Fields = field(default_factory=lambda: NOTHING)
    created: bool = False
    deleted: bool = False
    partial: bool = False


class Direction(StrEnum):
    """Which way a message went."""

    INBOUND = "inbound"  # from the customer
    OUTBOUND = "outbound"


class MessageStatus(StrEnum):
    """How far a message came. Inbound messages are `RECEIVED` and stay so."""

    RECEIVED = "received"
    QUEUED = "queued"
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Message:
    """What one event says of one WhatsApp message. What it does not say is None.

    `id` is WhatsApp's id (wamid), `kirim_id` Kirim's (`msg_`): at least one is known, and an event that names both
    tells that they are one message. `phone` is the customer's number in E.164, `number_id` our own number's id.
    `text` is the body or caption as it was written; `media` is where a file can be had, or its id.
    """

    id: str | None = None
    kirim_id: str | None = None
    direction: Direction | None = None
    phone: str | None = None
    contact_id: str | None = None
    contact_name: str | None = None
    conversation_id: str | None = None
    number_id: str | None = None
    at: datetime | None = None
    type: str | None = None
    text: str | None = None
    media: str | None = None
    filename: str | None = None
    status: MessageStatus | None = None
    status_at: datetime | None = None
    sender: str | None = None
    error: str | None = None


class ActivityKind(StrEnum):
    """What is put on the timeline of a CRM record."""

    MESSAGE = "message"  # one message
    DIGEST = "digest"  # what was said in a conversation on one day


@dataclass(frozen=True, slots=True)
class Activity:
    """An entry for the timeline of a contact's record, and of its conversation's where there is one.

    `key` is the same whenever the same entry is sent. `id` is the platform's own id if it is known: the entry is
    changed then, never made anew. `doubtful` says that an earlier attempt may have been applied without an answer:
    the entry is looked for by its key before it is made. `contact`, `conversation` and `owner` are ids of the CRM.
    """

    key: str
    kind: ActivityKind
    at: datetime
    title: str
    body: str
    contact: str
    conversation: str | None = None
    owner: str | None = None
    direction: Direction | None = None
    status: MessageStatus | None = None
    media: tuple[str, ...] = ()
    id: str | None = None
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class Logged:
    """An activity that stands on the timeline. `created` is false where it was found or changed."""

    id: str
    created: bool = True


@dataclass(frozen=True, slots=True)
class Segment:
    """A named set of contact records: a list, filter, campaign, view or query. `size` is None where it is not told."""

    id: str
    name: str
    dynamic: bool = False
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """A record in a segment; `external_id` is the Kirim id it carries, None for one that Kirim does not know."""

    id: str
    external_id: str | None = None


@dataclass(frozen=True, slots=True)
class Members:
    """One page of a segment. `cursor` goes into the next call; `more` is false on the last page."""

    members: tuple[Member, ...]
    cursor: str
    more: bool


@dataclass(frozen=True, slots=True)
class Person:
    """A user that records and conversations can be assigned to."""

    id: str
    email: str | None = None
    name: str | None = None
    active: bool = True


@dataclass(frozen=True, slots=True)
class Item:
    """One thing a delivery says, with its own identity and its own end.

    `key` comes from the signed body. `change` is what it means for a record, `message` what it says of a message;
    `reason` says in one word why there is neither.
    """

    key: str
    type: str
    change: Change | None = None
    reason: str = ""
    at: datetime | None = None
    origin: str = ""
    message: Message | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a feed. `cursor` goes into the next call, also after the last page (`more` is False)."""

    records: tuple[Record, ...]
    cursor: str
    more: bool


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """An inbound request, exactly as it came. Header names are lower case, as in ASGI."""

    method: str
    path: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    received_at: datetime

    def header(self, name: bytes) -> list[bytes]:
        """Every value of a header, in order of arrival."""
        return [value for key, value in self.headers if key == name]


@dataclass(frozen=True, slots=True)
class Rate:
    """A documented limit: `requests` per `seconds`.

    `rolling`: no more than that in whatever stretch of so many seconds. Otherwise a bucket of that size, which may be
    emptied at once and fills again evenly.
    """

    requests: int
    seconds: float
    rolling: bool = False
