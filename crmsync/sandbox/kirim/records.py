"""What an emulated Kirim organisation holds: accounts, contacts, labels, conversations, users, and their shapes."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

from crmsync.sandbox.kirim.behaviour import Behaviour, Generation

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
COLOURS = (
    *("gray", "red", "orange", "amber", "yellow", "lime", "green"),
    *("emerald", "teal", "sky", "blue", "violet", "pink"),
)


def new_id(random: Random, prefix: str) -> str:
    """An id as production makes them: no ULID, its first character ranges over the whole alphabet."""
    return f"{prefix}_{''.join(random.choices(CROCKFORD, k=26))}"


def stamp(moment: datetime | None, behaviour: Behaviour) -> str | None:
    """A time as the API writes it."""
    if moment is None:
        return None
    text = f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}"
    return f"{text}.{moment.microsecond // 1000:03d}Z" if behaviour.milliseconds else f"{text}Z"


@dataclass(frozen=True, slots=True)
class Account:
    """A connected WhatsApp number."""

    id: str
    phone_number_id: str
    phone_number: str
    name: str = "Sandbox"


@dataclass(frozen=True, slots=True)
class User:
    """Somebody to whom conversations are assigned."""

    id: str
    name: str
    email: str


@dataclass(slots=True)
class Contact:
    """A contact of one number."""

    id: str
    account: Account
    phone_number: str | None
    name: str | None
    email: str | None
    metadata: dict[str, Any] | None
    created_at: datetime
    updated_at: datetime
    labels: set[str] = field(default_factory=set)

    @property
    def place(self) -> tuple[datetime, str]:
        """Where it stands in a list."""
        return self.created_at, self.id

    def shown(self, behaviour: Behaviour) -> dict[str, Any]:
        """The REST resource: the same in both generations, without labels."""
        return {
            "id": self.id,
            "object": "contact",
            "phone_number": self.phone_number,
            "name": self.name,
            "email": self.email,
            "metadata": self.metadata,
            "whatsapp_account": {"phone_number": self.account.phone_number},
            "created_at": stamp(self.created_at, behaviour),
            "updated_at": stamp(self.updated_at, behaviour),
        }

    def in_event(self, behaviour: Behaviour, labels: Mapping[str, Label]) -> dict[str, Any]:
        """The contact inside an event."""
        shown = self.shown(behaviour)
        if behaviour.contact_shape is Generation.G2:
            del shown["whatsapp_account"]
            shown |= {"whatsapp_account_id": self.account.id, "phone_number_id": self.account.phone_number_id}
        if behaviour.labels_in_events:
            shown["labels"] = [{"id": one, "name": labels[one].name} for one in sorted(self.labels)]
        return shown


@dataclass(slots=True)
class Label:
    """A label of the team."""

    id: str
    name: str
    colour: str
    team_id: str
    created_at: datetime
    updated_at: datetime

    def shown(self, behaviour: Behaviour) -> dict[str, Any]:
        """The REST resource."""
        return {
            "id": self.id,
            "object": "label",
            "name": self.name,
            "color": self.colour,
            "team_id": self.team_id,
            "created_at": stamp(self.created_at, behaviour),
            "updated_at": stamp(self.updated_at, behaviour),
        }


@dataclass(slots=True)
class Conversation:
    """A conversation with one contact."""

    id: str
    contact: Contact
    created_at: datetime
    updated_at: datetime
    status: str = "open"
    assignee: User | None = None
    unread_count: int = 0
    last_message_at: datetime | None = None
    last_inbound_at: datetime | None = None

    def shown(self, behaviour: Behaviour) -> dict[str, Any]:
        """The REST resource."""
        person = self.contact
        someone = self.assignee
        return {
            "id": self.id,
            "object": "conversation",
            "status": self.status,
            "contact": {"id": person.id, "phone_number": person.phone_number, "name": person.name},
            "whatsapp_account": {"phone_number": person.account.phone_number},
            "assignee": {"id": someone.id, "name": someone.name, "email": someone.email} if someone else None,
            "unread_count": self.unread_count,
            "last_message_at": stamp(self.last_message_at, behaviour),
            "last_inbound_at": stamp(self.last_inbound_at, behaviour),
            "created_at": stamp(self.created_at, behaviour),
            "updated_at": stamp(self.updated_at, behaviour),
        }


class Contacts:
    """Every contact, by id, by number, and in order of creation."""

    def __init__(self) -> None:
        self.by_id: dict[str, Contact] = {}
        self._by_phone: dict[tuple[str, str], Contact] = {}
        self._ordered: list[tuple[datetime, str]] = []

    def add(self, contact: Contact) -> None:
        """Takes in a new contact."""
        self.by_id[contact.id] = contact
        if contact.phone_number:
            self._by_phone[contact.account.phone_number_id, contact.phone_number] = contact
        bisect.insort(self._ordered, contact.place)

    def renumber(self, contact: Contact, phone_number: str | None) -> None:
        """Gives a contact another number."""
        self._by_phone.pop((contact.account.phone_number_id, contact.phone_number or ""), None)
        contact.phone_number = phone_number
        if phone_number:
            self._by_phone[contact.account.phone_number_id, phone_number] = contact

    def with_phone(self, phone_number_id: str, phone_number: str) -> Contact | None:
        """The contact of one of our numbers that has this number."""
        return self._by_phone.get((phone_number_id, phone_number))

    def newest_first(self, before: tuple[datetime, str] | None = None) -> Iterator[Contact]:
        """Contacts by time of creation, beginning behind a place in the list."""
        end = len(self._ordered) if before is None else bisect.bisect_left(self._ordered, before)
        return (self.by_id[self._ordered[place][1]] for place in range(end - 1, -1, -1))
