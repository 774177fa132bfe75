"""What differs from one kind of HubSpot object to the next: a row for each. Everything else is the same for all.

https://developers.hubspot.com/docs/api-reference/latest/crm/associations/associate-records/guide
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from crmsync.model import Kind


@dataclass(frozen=True, slots=True)
class ObjectType:
    """`modified` is the property with the time of the last change. Properties of ours join the group of `beside`."""

    name: str
    path: str
    id: str
    beside: str
    group: str
    modified: str = "hs_lastmodifieddate"


CONTACTS = ObjectType("contact", "contacts", "0-1", "email", "contactinformation", "lastmodifieddate")
TICKETS = ObjectType("ticket", "tickets", "0-5", "subject", "ticketinformation")
COMMUNICATIONS = ObjectType(
    "communication", "communications", "0-18", "hs_communication_body", "communication_information"
)
NOTES = ObjectType("note", "notes", "0-46", "hs_note_body", "note_information")

RECORDS: Mapping[Kind, ObjectType] = {Kind.CONTACT: CONTACTS, Kind.CONVERSATION: TICKETS}

LINK_TYPES: Mapping[tuple[ObjectType, ObjectType], int] = {
    (COMMUNICATIONS, CONTACTS): 81,
    (COMMUNICATIONS, TICKETS): 83,
    (NOTES, CONTACTS): 202,
    (NOTES, TICKETS): 228,
}
"""HubSpot's numbers for the default associations that are made together with a record."""


@dataclass(frozen=True, slots=True)
class OwnProperty:
    """A text property that crmsync keeps something in. `setting` is where another name can be given to it."""

    name: str
    label: str
    purpose: str
    unique: bool = False
    setting: str = ""

    @property
    def form(self) -> str:
        """What it has to be."""
        return "text with unique values" if self.unique else "text"

    def definition(self, of: ObjectType, group: str) -> dict[str, object]:
        """What HubSpot is asked to make. Web forms must not offer it."""
        return {
            "groupName": group,
            "name": self.name,
            "label": self.label,
            "description": f"Links this {of.name} to Kirim. Written by crmsync; do not edit.",
            "type": "string",
            "fieldType": "text",
            "hasUniqueValue": self.unique,
            "formField": False,
        }
