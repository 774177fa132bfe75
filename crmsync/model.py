"""The words everyone uses: values, records and what is said about them. No behaviour beyond that of values.

Times are aware and in UTC everywhere. Ids are strings everywhere, whatever a platform makes of them.
"""

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
    PREPARE = "prepare"  # prepare() can create what is missing in the account
    SEGMENTS = "segments"  # segments() and members()
    ACTIVITIES = "activities"  # log()


class FieldType(StrEnum):
    """The type of a field, as far as comparing and converting goes."""

    TEXT = "text"
    EMAIL = "email"
    PHONE = "phone"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATETIME = "datetime"
    CHOICE = "choice"
    SET = "set"


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
    records merged into this one.
    """

    kind: Kind
    id: str
    fields: Fields = field(default_factory=lambda: NOTHING)
    version: datetime | None = None
    external_id: str | None = None
    aliases: tuple[str, ...] = ()
    archived: bool = False


@dataclass(frozen=True, slots=True)
class Ref:
    """Names a record by the platform's own id, by its external id, or by both (the own id is tried first)."""

    id: str | None = None
    external_id: str | None = None


@dataclass(frozen=True, slots=True)
class Write:
    """One record to be written. `id` is the platform's own id if it is known; `fields` has only what is to change.

    None as a field's value clears it.
    """

    external_id: str
    fields: Fields
    id: str | None = None


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


@dataclass(frozen=True, slots=True)
class Item:
    """One thing a delivery says, with its own identity and its own end.

    `key` comes from the signed body. `change` is None for what is understood but concerns no record we keep;
    `reason` then says why in one word.
    """

    key: str
    type: str
    change: Change | None = None
    reason: str = ""
    at: datetime | None = None
    origin: str = ""


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
