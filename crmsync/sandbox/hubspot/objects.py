"""The kinds of objects in an emulated HubSpot account: what each is called, what it has, and what a new one needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from crmsync.sandbox.hubspot.properties import Property

_LIFECYCLE = ("subscriber", "lead", "marketingqualifiedlead", "salesqualifiedlead", "opportunity", "customer", "other")
_PRIORITIES = ("LOW", "MEDIUM", "HIGH", "URGENT")
_CHANNELS = ("WHATS_APP", "LINKEDIN_MESSAGE", "SMS")


@dataclass(frozen=True, slots=True)
class ObjectType:
    """`needs` are properties of every new record, `needs_one_of` those of which it has at least one,
    `defaults` what HubSpot gives it."""

    name: str
    path: str
    id: str
    modified: str
    group: str
    first_id: int
    built_in: tuple[Property, ...]
    shown: tuple[str, ...]
    needs: tuple[str, ...] = ()
    needs_one_of: tuple[str, ...] = ()
    defaults: tuple[tuple[str, str], ...] = ()
    created: str = "hs_createdate"

    @property
    def always_shown(self) -> tuple[str, ...]:
        """What every answer has."""
        return (self.created, "hs_object_id", self.modified)

    @property
    def derived(self) -> frozenset[str]:
        """What HubSpot itself keeps."""
        return frozenset({*self.always_shown, "hs_merged_object_ids"})


def _kept(created: str, modified: str) -> tuple[Property, ...]:
    return (
        Property("hubspot_owner_id", "Owner", "enumeration", "select", external=True),
        Property(created, "Create date", "datetime", "date", read_only=True),
        Property(modified, "Last modified date", "datetime", "date", read_only=True),
        Property("hs_object_id", "Record ID", "number", "number", unique=True, read_only=True),
        Property("hs_merged_object_ids", "Merged record IDs", read_only=True),
    )


CONTACTS = ObjectType(
    name="contact",
    path="contacts",
    id="0-1",
    created="createdate",
    modified="lastmodifieddate",
    group="contactinformation",
    first_id=1001,
    needs_one_of=("email", "firstname", "lastname"),
    shown=("email", "firstname", "lastname"),
    built_in=(
        Property("email", "Email", unique=True),
        Property("firstname", "First Name"),
        Property("lastname", "Last Name"),
        Property("phone", "Phone Number", field_type="phonenumber"),
        Property("mobilephone", "Mobile Phone Number", field_type="phonenumber"),
        Property("hs_whatsapp_phone_number", "WhatsApp Phone Number", field_type="phonenumber"),
        Property("company", "Company Name"),
        Property("jobtitle", "Job Title"),
        Property("city", "City"),
        Property("country", "Country/Region"),
        Property("website", "Website URL"),
        Property("lifecyclestage", "Lifecycle Stage", "enumeration", "radio", options=_LIFECYCLE),
        *_kept("createdate", "lastmodifieddate"),
    ),
)
TICKETS = ObjectType(
    name="ticket",
    path="tickets",
    id="0-5",
    created="createdate",
    modified="hs_lastmodifieddate",
    group="ticketinformation",
    first_id=10_000_001,
    needs=("subject", "hs_pipeline_stage"),
    defaults=(("hs_pipeline", "0"),),
    shown=("content", "hs_pipeline", "hs_pipeline_stage", "subject"),
    built_in=(
        Property("subject", "Ticket name", group="ticketinformation"),
        Property("content", "Ticket description", field_type="textarea", group="ticketinformation"),
        Property("hs_pipeline", "Pipeline", "enumeration", "select", group="ticketinformation", external=True),
        Property("hs_pipeline_stage", "Ticket status", "enumeration", "radio", "ticketinformation", external=True),
        Property("hs_ticket_priority", "Priority", "enumeration", "select", "ticketinformation", options=_PRIORITIES),
        Property("source_type", "Source", "enumeration", "select", "ticketinformation", options=("CHAT", "EMAIL")),
        *_kept("createdate", "hs_lastmodifieddate"),
    ),
)
COMMUNICATIONS = ObjectType(
    name="communication",
    path="communications",
    id="0-18",
    modified="hs_lastmodifieddate",
    group="communication",
    first_id=20_000_001,
    needs=("hs_communication_channel_type", "hs_communication_logged_from", "hs_timestamp"),
    shown=(),
    built_in=(
        Property("hs_communication_body", "Body", field_type="textarea", group="communication"),
        Property("hs_communication_channel_type", "Channel", "enumeration", "select", options=_CHANNELS),
        Property("hs_communication_logged_from", "Logged from", "enumeration", "select", options=("CRM",)),
        Property("hs_timestamp", "Activity date", "datetime", "date"),
        *_kept("hs_createdate", "hs_lastmodifieddate"),
    ),
)
NOTES = ObjectType(
    name="note",
    path="notes",
    id="0-46",
    modified="hs_lastmodifieddate",
    group="note",
    first_id=30_000_001,
    needs=("hs_timestamp",),
    shown=(),
    built_in=(
        Property("hs_note_body", "Note body", field_type="html", group="note"),
        Property("hs_timestamp", "Activity date", "datetime", "date"),
        *_kept("hs_createdate", "hs_lastmodifieddate"),
    ),
)

OBJECTS = (CONTACTS, TICKETS, COMMUNICATIONS, NOTES)
BY_NAME: Mapping[str, ObjectType] = {name: each for each in OBJECTS for name in (each.name, each.path, each.id)}
LINK_TYPES: Mapping[tuple[str, str], int] = {
    ("ticket", "contact"): 16,
    ("contact", "ticket"): 15,
    ("note", "contact"): 202,
    ("contact", "note"): 201,
    ("note", "ticket"): 228,
    ("ticket", "note"): 227,
    ("communication", "contact"): 81,
    ("contact", "communication"): 82,
    ("communication", "ticket"): 83,
    ("ticket", "communication"): 84,
}
"""The default associations: which of them exist, and by which number."""
