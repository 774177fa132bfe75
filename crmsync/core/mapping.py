"""Which Kirim field meets which CRM field, who owns it, and how its values are compared. Facts, no branches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from types import MappingProxyType

from crmsync.core.lens import Lens, Plain
from crmsync.core.matching import MatchRule
from crmsync.model import FieldType, Kind


class Owner(StrEnum):
    """Whose value wins."""

    KIRIM = "kirim"
    CRM = "crm"
    LATEST = "latest"  # who changed it later, as far as that is certain; the CRM's else
    UNION = "union"  # of sets: what either side adds or takes away


class OnDrift(StrEnum):
    """What happens when the side that does not own a field changed it."""

    RESTORE = "restore"  # the owner's value is written back
    REPORT = "report"  # it is recorded and left alone


class OnCrmDelete(StrEnum):
    """What happens when somebody deletes a record in the CRM. The other side's is never deleted."""

    UNLINK = "unlink"  # the two part; should it be restored, or another be given the Kirim id, they are linked again
    RECREATE = "recreate"  # another is made


_plain = cache(Plain)  # asked for several times a record


@dataclass(frozen=True, slots=True)
class FieldRule:
    """One value that both sides are to agree on: by default one Kirim field and one CRM field of that name.

    `kirim` and `crm` are what the sides are called for people; where a lens is given it says which fields they are.
    `kirim_writable` and `crm_writable` say whether the side can be written at all; a side that cannot is never
    seeded nor restored. `key` is the name under which it is remembered, unique among the rules of a kind.
    """

    kirim: str
    crm: str
    owner: Owner
    type: FieldType = FieldType.TEXT
    on_drift: OnDrift = OnDrift.RESTORE
    kirim_writable: bool = True
    crm_writable: bool = True
    kirim_lens: Lens | None = None
    crm_lens: Lens | None = None
    key: str = ""

    @property
    def name(self) -> str:
        """What it is remembered by."""
        return self.key or self.kirim

    @property
    def left(self) -> Lens:
        """How it looks at Kirim's fields."""
        return self.kirim_lens or _plain(self.kirim)

    @property
    def right(self) -> Lens:
        """How it looks at the CRM's fields."""
        return self.crm_lens or _plain(self.crm)

    def __str__(self) -> str:
        return f"{self.kirim} ↔ {self.crm}"


@dataclass(frozen=True, slots=True)
class Rules:
    """The mapping of one kind of record on one connection.

    `region` is the two-letter country used to read phone numbers written without a country code.
    `creates` says whether a Kirim record that the CRM does not have is created there, `match` by what one that others
    made is recognised before. `initial` are CRM fields that a new record is made with, and nobody looks at afterwards:
    texts in which `{name}` stands for a field of Kirim's.
    """

    kind: Kind
    fields: tuple[FieldRule, ...]
    region: str | None = None
    creates: bool = True
    match: tuple[MatchRule, ...] = ()
    initial: tuple[tuple[str, str], ...] = ()
    on_crm_delete: OnCrmDelete = OnCrmDelete.UNLINK


METADATA = "metadata."


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What Kirim's records of a kind hold, which of it can be written, and what is Kirim's own by default."""

    noun: str
    example: str
    fields: Mapping[str, FieldType]
    writes: frozenset[str]
    own: frozenset[str]
    metadata: bool = False

    def type(self, name: str) -> FieldType:
        """The type of a field; `metadata.<key>` is text unless the mapping says otherwise."""
        return self.fields.get(name, FieldType.TEXT)

    def writable(self, name: str) -> bool:
        """Whether Kirim's API takes this field."""
        return name in self.writes or (self.metadata and name.startswith(METADATA))

    def owner(self, name: str) -> Owner:
        """Whose a field is when the mapping does not say."""
        return Owner.KIRIM if name in self.own or not self.writable(name) else Owner.CRM


CONTACTS = Vocabulary(
    "a Kirim contact",
    "phone_number: phone",
    MappingProxyType(
        {
            "phone_number": FieldType.PHONE,
            "name": FieldType.TEXT,
            "email": FieldType.EMAIL,
            "acquisition_source": FieldType.CHOICE,
            "labels": FieldType.SET,
            "created_at": FieldType.DATETIME,
            "updated_at": FieldType.DATETIME,
        }
    ),
    frozenset({"name", "email", "labels"}),
    frozenset({"phone_number", "acquisition_source", "labels", "created_at", "updated_at"}),
    metadata=True,
)
"""Facts: contact resource, contact.created event, PATCH and the label routes. Nothing lets a number be changed."""

CONVERSATIONS = Vocabulary(
    "a Kirim conversation",
    "status: { crm: …, map: { open: …, pending: …, resolved: … } }",
    MappingProxyType(
        {
            "status": FieldType.CHOICE,
            "assignee": FieldType.TEXT,
            "assignee_email": FieldType.EMAIL,
            "assignee_name": FieldType.TEXT,
            "contact_phone": FieldType.PHONE,
            "contact_name": FieldType.TEXT,
            "phone_number_id": FieldType.TEXT,
            "last_message_at": FieldType.DATETIME,
            "last_inbound_at": FieldType.DATETIME,
            "closed_at": FieldType.DATETIME,
            "closed_by": FieldType.TEXT,
            "created_at": FieldType.DATETIME,
            "updated_at": FieldType.DATETIME,
        }
    ),
    frozenset({"status", "assignee"}),
    frozenset({"status", "assignee"}),
)
"""Facts: conversation resource, PATCH, and the conversation events."""

VOCABULARIES: Mapping[Kind, Vocabulary] = MappingProxyType({Kind.CONTACT: CONTACTS, Kind.CONVERSATION: CONVERSATIONS})


def kirim_writable(kirim_field: str) -> bool:
    """Whether Kirim's API takes this field of a contact."""
    return CONTACTS.writable(kirim_field)
