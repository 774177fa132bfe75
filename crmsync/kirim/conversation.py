"""A Kirim conversation, as answers show it, becomes a record; and fields become the body of a PATCH.

Every documented shape is read: the assignee as an object, null or missing, or as a bare `assigned_to`. When a
conversation was closed Kirim tells nowhere: of a resolved one its last change is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from crmsync.kirim.reading import hint, identity, moment, optional_section, text
from crmsync.model import FieldInfo, Fields, FieldType, Kind, Record, Value

STATUSES = ("open", "pending", "resolved")
CLOSED = "resolved"

SCHEMA: tuple[FieldInfo, ...] = (
    FieldInfo("status", FieldType.CHOICE, "Status", options=STATUSES),
    FieldInfo("assignee", FieldType.TEXT, "Assignee"),
    FieldInfo("assignee_email", FieldType.EMAIL, "Assignee's e-mail", writable=False),
    FieldInfo("assignee_name", FieldType.TEXT, "Assignee's name", writable=False),
    FieldInfo("contact", FieldType.TEXT, "Contact", writable=False),
    FieldInfo("contact_phone", FieldType.PHONE, "Contact's number", writable=False),
    FieldInfo("contact_name", FieldType.TEXT, "Contact's name", writable=False),
    FieldInfo("phone_number_id", FieldType.TEXT, "Own number's id", writable=False),
    FieldInfo("last_message_at", FieldType.DATETIME, "Last message", writable=False),
    FieldInfo("last_inbound_at", FieldType.DATETIME, "Last message of the customer", writable=False),
    FieldInfo("closed_at", FieldType.DATETIME, "Closed", writable=False),
    FieldInfo("closed_by", FieldType.TEXT, "Closed by", writable=False),
    FieldInfo("created_at", FieldType.DATETIME, "Created", writable=False),
    FieldInfo("updated_at", FieldType.DATETIME, "Updated", writable=False),
)
_PLAIN = ("status", "phone_number_id", "last_message_at", "last_inbound_at", "closed_by", "created_at", "updated_at")


def conversation_record(conversation: Mapping[str, Any], horizon: datetime | None = None) -> Record:
    """The record that a conversation object states; only keys that are present become fields."""
    conversation_id = identity(conversation, "id")
    fields: dict[str, Value] = {name: text(conversation, name) for name in _PLAIN if name in conversation}
    fields |= _contact(conversation) | _assignee(conversation)
    if "status" in fields:
        fields["closed_at"] = text(conversation, "updated_at") if fields["status"] == CLOSED else None
    return Record(
        Kind.CONVERSATION,
        conversation_id,
        fields,
        version=moment(conversation.get("updated_at"), horizon),
        external_id=conversation_id,
    )


def conversation_patch(conversation: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    """What has to be sent so that the conversation holds `fields`; empty if it does already."""
    held = conversation_record(conversation).fields
    names = {"status": "status", "assignee": "assigned_to"}
    return {
        names[name]: value for name, value in fields.items() if name in names and held.get(name, ...) != (value or None)
    }


def _contact(conversation: Mapping[str, Any]) -> dict[str, Value]:
    contact = optional_section(conversation, "contact")
    found: dict[str, Value] = {}
    if contact_id := hint(contact, "id") or hint(conversation, "contact_id"):
        found["contact"] = contact_id
    if "phone_number" in contact:
        found["contact_phone"] = text(contact, "phone_number", "contact.")
    if "name" in contact:
        found["contact_name"] = text(contact, "name", "contact.")
    return found


def _assignee(conversation: Mapping[str, Any]) -> dict[str, Value]:
    if "assignee" in conversation:
        who = optional_section(conversation, "assignee")
        found: dict[str, Value] = {"assignee": hint(who, "id") or hint(who, "user_id")}
        if not who or "email" in who:
            found["assignee_email"] = hint(who, "email")
        if not who or "name" in who:
            found["assignee_name"] = hint(who, "name")
        return found
    return {"assignee": hint(conversation, "assigned_to")} if "assigned_to" in conversation else {}
