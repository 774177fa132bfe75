"""The words of the CRM in memory: its schema, how it spells, what it answers, what it writes into its ledger."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from crmsync.model import CONTACT_LINK, NOTHING, FieldInfo, Fields, FieldType, Kind, Record, Value
from crmsync.testing.fake import Trouble

Spelling = Callable[[FieldInfo, Value], Value]

CONTACT = (
    FieldInfo("name", FieldType.TEXT),
    FieldInfo("email", FieldType.EMAIL),
    FieldInfo("phone", FieldType.PHONE),
    FieldInfo("company", FieldType.TEXT),
    FieldInfo("note", FieldType.TEXT),
    FieldInfo("score", FieldType.NUMBER),
    FieldInfo("vip", FieldType.BOOLEAN),
    FieldInfo("stage", FieldType.CHOICE, options=("lead", "customer", "lost")),
    FieldInfo("tags", FieldType.SET),
    FieldInfo("created_at", FieldType.DATETIME, writable=False),
)
CONVERSATION = (
    FieldInfo("subject", FieldType.TEXT),
    FieldInfo("assignee", FieldType.TEXT),
    FieldInfo("status", FieldType.CHOICE, options=("open", "closed")),
    FieldInfo(CONTACT_LINK, FieldType.SET, label="Contacts"),
    FieldInfo("created_at", FieldType.DATETIME, writable=False),
)
SCHEMA: Mapping[Kind, Sequence[FieldInfo]] = MappingProxyType({Kind.CONTACT: CONTACT, Kind.CONVERSATION: CONVERSATION})


class Refused(Exception):
    """The platform answered with a status that is not a success."""

    def __init__(self, status: int, retry_after: str | None = None) -> None:
        super().__init__(str(status))
        self.status = status
        self.retry_after = retry_after


class Silent(Exception):
    """No whole answer came."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.value)
        self.trouble = trouble


@dataclass(frozen=True, slots=True)
class Respelling:
    """How the platform rewrites what it is given. Every rule is idempotent."""

    trim: bool = False
    lower_email: bool = False
    cut_at: int | None = None
    spaced_phone: bool = False

    def __call__(self, info: FieldInfo, value: Value) -> Value:
        """The value as it is stored."""
        if not isinstance(value, str):
            return value
        if self.trim:
            value = value.strip()
        if self.lower_email and info.type is FieldType.EMAIL:
            value = value.lower()
        if self.spaced_phone and info.type is FieldType.PHONE and value.startswith("+"):
            digits = re.sub(r"\D", "", value)
            value = "+" + " ".join(digits[start : start + 4] for start in range(0, len(digits), 4))
        return value if self.cut_at is None else value[: self.cut_at]


AS_SENT = Respelling()


@dataclass(frozen=True, slots=True)
class Effect:
    """One thing that was really done to a record, whoever did it and whatever was answered.

    `before` is None for a creation; `after` of a deletion is archived.
    """

    at: datetime
    operation: str  # create, update, merge, delete, restore
    before: Record | None
    after: Record
    by_api: bool

    @property
    def id(self) -> str:
        """Whom it happened to."""
        return self.after.id

    @property
    def changed(self) -> Fields:
        """The fields whose value moved, with the new one. A write that changed nothing has none."""
        old = self.before.fields if self.before else NOTHING
        return {name: value for name, value in self.after.fields.items() if old.get(name) != value}


@dataclass(frozen=True, slots=True)
class Answer:
    """The platform's verdict on one row of a batch, told by the row's external id."""

    external_id: str
    status: int = 200
    record: Record | None = None
    created: bool = False
    refused: Mapping[str, str] = field(default_factory=dict)
    guilty: tuple[str, ...] = ()
    candidate: str | None = None


@dataclass(frozen=True, slots=True)
class Entered:
    """The platform's verdict on one entry of a timeline, told by the entry's key."""

    key: str
    status: int
    id: str = ""
    created: bool = False
