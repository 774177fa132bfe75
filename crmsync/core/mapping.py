"""Which Kirim field meets which CRM field, who owns it, and how its values are compared. Facts, no branches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from crmsync.model import FieldType, Kind


class Owner(StrEnum):
    """Whose value wins."""

    KIRIM = "kirim"
    CRM = "crm"


class OnDrift(StrEnum):
    """What happens when the side that does not own a field changed it."""

    RESTORE = "restore"  # the owner's value is written back
    REPORT = "report"  # it is recorded and left alone


@dataclass(frozen=True, slots=True)
class FieldRule:
    """One Kirim field and one CRM field that are to agree.

    `kirim_writable` and `crm_writable` say whether the side can be written at all; a side that cannot is never
    seeded nor restored.
    """

    kirim: str
    crm: str
    owner: Owner
    type: FieldType = FieldType.TEXT
    on_drift: OnDrift = OnDrift.RESTORE
    kirim_writable: bool = True
    crm_writable: bool = True

    def __str__(self) -> str:
        return f"{self.kirim} ↔ {self.crm}"


@dataclass(frozen=True, slots=True)
class Rules:
    """The mapping of one kind of record on one connection.

    `region` is the two-letter country used to read phone numbers written without a country code.
    `creates` says whether a Kirim record that the CRM does not have is created there.
    """

    kind: Kind
    fields: tuple[FieldRule, ...]
    region: str | None = None
    creates: bool = True


KIRIM_CONTACT_FIELDS: Mapping[str, FieldType] = MappingProxyType(
    {
        "phone_number": FieldType.PHONE,
        "name": FieldType.TEXT,
        "email": FieldType.EMAIL,
        "acquisition_source": FieldType.CHOICE,
        "created_at": FieldType.DATETIME,
        "updated_at": FieldType.DATETIME,
    }
)
"""What a Kirim contact has besides `metadata.<key>` (facts: contact resource and contact.created event)."""

KIRIM_WRITABLE = frozenset({"name", "email"})
"""What PATCH takes, besides any `metadata.<key>`. Nothing documented lets a number be changed."""

CHANNEL_FACTS = frozenset({"phone_number", "acquisition_source", "created_at", "updated_at", "labels"})
"""Kirim's own when the mapping names no owner; everything else then belongs to the CRM."""


def default_owner(kirim_field: str) -> Owner:
    """Whose a field is when the mapping does not say: channel facts are Kirim's, the rest is the CRM's."""
    return Owner.KIRIM if kirim_field in CHANNEL_FACTS else Owner.CRM


def kirim_type(kirim_field: str) -> FieldType:
    """The type of a Kirim field; `metadata.<key>` is text unless the mapping says otherwise."""
    return KIRIM_CONTACT_FIELDS.get(kirim_field, FieldType.TEXT)


def kirim_writable(kirim_field: str) -> bool:
    """Whether Kirim's API takes this field."""
    return kirim_field in KIRIM_WRITABLE or kirim_field.startswith("metadata.")
