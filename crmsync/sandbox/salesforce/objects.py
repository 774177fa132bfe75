"""The objects of an emulated org: their fields as `describe` tells them, and the form of Salesforce's ids."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SYSTEM = frozenset({"Id", "IsDeleted", "CreatedDate", "LastModifiedDate", "SystemModstamp", "LastModifiedById"})


@dataclass(frozen=True, slots=True)
class Field:
    """One field. `options` are the active values of a picklist, `to` the object that a reference names."""

    name: str
    type: str = "string"
    length: int = 255
    label: str = ""
    writable: bool = True
    required: bool = False
    unique: bool = False
    external_id: bool = False
    options: tuple[str, ...] = ()
    restricted: bool = False
    to: tuple[str, ...] = ()
    default: Any = None

    @property
    def filterable(self) -> bool:
        """Whether a query may ask for values of it."""
        return self.type not in ("textarea", "address")

    def describe(self) -> dict[str, Any]:
        """As `describe` tells it."""
        return {
            "name": self.name,
            "label": self.label or self.name,
            "type": self.type,
            "length": self.length if self.type in ("string", "textarea", "email", "phone", "picklist") else 0,
            "createable": self.writable,
            "updateable": self.writable,
            "nillable": not self.required,
            "defaultedOnCreate": self.default is not None,
            "unique": self.unique,
            "caseSensitive": self.unique,
            "externalId": self.external_id,
            "idLookup": self.external_id or self.name == "Id",
            "filterable": self.filterable,
            "restrictedPicklist": self.restricted,
            "picklistValues": [{"value": one, "label": one, "active": True} for one in self.options],
            "referenceTo": list(self.to),
            "relationshipName": self.name.removesuffix("Id") if self.to else None,
        }


@dataclass(slots=True)
class SObject:
    """An object with its fields by name. `prefix` begins the ids of its records."""

    name: str
    prefix: str
    fields: dict[str, Field] = field(default_factory=dict)

    def define(self, *fields: Field) -> None:
        """An administrator adds fields, or puts others in their place."""
        self.fields.update((each.name, each) for each in fields)

    def find(self, name: str) -> Field | None:
        """A field by its name, in whatever case, as Salesforce takes it."""
        known = self.fields.get(name)
        return known or next((each for key, each in self.fields.items() if key.casefold() == name.casefold()), None)


class _Form:
    """What every org makes an object of."""

    def __init__(self, name: str, prefix: str, *fields: Field, mergeable: bool = False) -> None:
        self.name = name
        self._prefix = prefix
        self._fields = fields
        self._mergeable = mergeable

    def made(self) -> SObject:
        """The object, with the fields that Salesforce keeps itself."""
        merged = (Field("MasterRecordId", "reference", writable=False, to=(self.name,)),) if self._mergeable else ()
        made = SObject(self.name, self._prefix)
        made.define(*_KEPT, *merged, *self._fields)
        return made


_KEPT = (
    Field("Id", "id", 18, writable=False),
    Field("IsDeleted", "boolean", writable=False),
    Field("CreatedDate", "datetime", writable=False),
    Field("LastModifiedDate", "datetime", writable=False),
    Field("SystemModstamp", "datetime", writable=False),
    Field("LastModifiedById", "reference", writable=False, to=("User",)),
)


def _person(*more: Field) -> tuple[Field, ...]:
    return (
        Field("FirstName", length=40),
        Field("LastName", length=80, required=True),
        Field("Name", length=121, writable=False),
        Field("Email", "email", 80),
        Field("Phone", "phone", 40),
        Field("MobilePhone", "phone", 40),
        Field("Title", length=128),
        Field("Description", "textarea", 32_000),
        Field("HasOptedOutOfEmail", "boolean", default=False),
        Field("OwnerId", "reference", to=("User", "Group"), default=""),
        *more,
    )


_FORMS = (
    _Form(
        "Contact",
        "003",
        *_person(
            Field("HomePhone", "phone", 40),
            Field("OtherPhone", "phone", 40),
            Field("Department", length=80),
            Field("MailingCity", length=40),
            Field("MailingAddress", "address", writable=False),
            Field("Birthdate", "date"),
            Field("LeadSource", "picklist", options=("Web", "Phone Inquiry", "Other")),
        ),
        mergeable=True,
    ),
    _Form(
        "Lead",
        "00Q",
        *_person(
            Field("Company", length=255, required=True),
            Field("City", length=40),
            Field("IsConverted", "boolean", writable=False, default=False),
            Field("Status", "picklist", options=("Open", "Working", "Closed"), restricted=True, default="Open"),
        ),
        mergeable=True,
    ),
    _Form(
        "Case",
        "500",
        Field("CaseNumber", length=30, writable=False),
        Field("Subject", length=255),
        Field("Description", "textarea", 32_000),
        Field("Status", "picklist", options=("New", "Working", "Escalated", "Closed"), restricted=True, default="New"),
        Field("IsClosed", "boolean", writable=False, default=False),
        Field("Priority", "picklist", options=("High", "Medium", "Low"), restricted=True, default="Medium"),
        Field("Origin", "picklist", options=("Phone", "Email", "Web"), restricted=True),
        Field("ContactId", "reference", to=("Contact",)),
        Field("SuppliedEmail", "email", 80),
        Field("OwnerId", "reference", to=("User", "Group"), default=""),
        mergeable=True,
    ),
    _Form(
        "Task",
        "00T",
        Field("Subject", length=255),
        Field("Description", "textarea", 32_000),
        Field("Status", "picklist", options=("Not Started", "In Progress", "Completed"), default="Not Started"),
        Field("Priority", "picklist", options=("High", "Normal", "Low"), default="Normal"),
        Field("ActivityDate", "date"),
        Field("WhoId", "reference", to=("Contact", "Lead")),
        Field("WhatId", "reference", to=("Case",)),
        Field("OwnerId", "reference", to=("User",), default=""),
    ),
    _Form(
        "User",
        "005",
        Field("Name", length=121),
        Field("Email", "email", 128),
        Field("Username", length=80),
        Field("IsActive", "boolean", default=True),
        Field("UserType", "picklist", options=("Standard", "PowerPartner", "Guest"), default="Standard"),
    ),
    _Form("Campaign", "701", Field("Name", length=80, required=True), Field("NumberOfContacts", "int", default=0)),
    _Form(
        "CampaignMember",
        "00v",
        Field("CampaignId", "reference", to=("Campaign",)),
        Field("ContactId", "reference", to=("Contact",)),
        Field("LeadId", "reference", to=("Lead",)),
        Field("Status", "picklist", default="Sent"),
    ),
)


def objects() -> dict[str, SObject]:
    """A fresh org's objects."""
    return {form.name: form.made() for form in _FORMS}


def external_id(name: str, length: int = 64) -> Field:
    """A field for another system's ids, as an administrator makes it."""
    return Field(name, length=length, unique=True, external_id=True)


def record_id(prefix: str, number: int) -> str:
    """An id of 18 characters: 15 that tell upper from lower case, and three that say which are upper."""
    digits = ""
    while number or len(digits) < 9:
        number, rest = divmod(number, 62)
        digits = _DIGITS[rest] + digits
    short = f"{prefix}5g0{digits}"
    return short + "".join(
        _ALPHABET[sum(short[start + place].isupper() << place for place in range(5))] for start in (0, 5, 10)
    )
