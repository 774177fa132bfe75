"""HubSpot's texts and our values. Every property is a text; sets are joined by semicolons; "" is empty."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from crmsync.connecting.texts import sendable
from crmsync.connecting.values import listed, moment_of
from crmsync.errors import Retry
from crmsync.model import FieldInfo, FieldType, Value

Row = Mapping[str, Any]

TYPES = {
    "number": FieldType.NUMBER,
    "bool": FieldType.BOOLEAN,
    "date": FieldType.DATETIME,
    "datetime": FieldType.DATETIME,
    "enumeration": FieldType.CHOICE,
    "phone_number": FieldType.PHONE,
}


def field_of(definition: Row) -> FieldInfo:
    """A property definition as a field."""
    name = str(definition["name"])
    rights = definition.get("modificationMetadata") or {}
    options = [option for option in listed(definition.get("options")) if isinstance(option, dict)]
    return FieldInfo(
        name,
        _type(name, definition),
        label=str(definition.get("label") or ""),
        writable=not (rights.get("readOnlyValue") or definition.get("calculated")),
        unique=definition.get("hasUniqueValue") is True,
        options=tuple(str(option["value"]) for option in options if option.get("value") is not None),
    )


def _type(name: str, definition: Row) -> FieldType:
    if name == "email":
        return FieldType.EMAIL
    match definition.get("fieldType"):
        case "checkbox":
            return FieldType.SET
        case "phonenumber":
            return FieldType.PHONE
    return TYPES.get(str(definition.get("type")), FieldType.TEXT)


def to_hubspot(value: Value, definition: Row) -> str:
    """The text that is sent for a value; None clears."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, tuple):
        return ";".join(part for part in value if part)  # a leading semicolon would append to what is there
    if isinstance(value, str) and definition.get("type") in ("date", "datetime"):
        return _moment_to_hubspot(value, date_only=definition["type"] == "date")
    return sendable(str(value))


def _moment_to_hubspot(text: str, *, date_only: bool) -> str:
    """UTC, as HubSpot wants it. What is no ISO date (milliseconds, nonsense) is sent as it is."""
    moment = moment_of(text) if re.match(r"\d{4}-\d\d", text) else None
    if moment is None:
        return text
    return f"{moment:%Y-%m-%d}" if date_only else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_hubspot(text: object, definition: Row) -> Value:
    """The value of a property's text. What was cleared comes back as null or as ""."""
    if text is None or text == "":
        return None
    if definition.get("fieldType") == "checkbox":
        return tuple(part for part in str(text).split(";") if part) or None
    return str(text)


def rows(body: Row, *, ambiguous: bool = False) -> Sequence[Row]:
    """The records in an answer. One that cannot be read must not look like one that does not exist."""
    results = body.get("results")
    for row in results if isinstance(results, list) else [None]:
        if not (isinstance(row, dict) and row.get("id") and isinstance(row.get("properties"), dict)):
            raise Retry("HubSpot gave a bad response: no list of records", ambiguous=ambiguous)
    return listed(results)


def next_page(body: Row) -> str | None:
    """Where the next page begins, None after the last."""
    paging = body.get("paging")
    following = paging.get("next") if isinstance(paging, dict) else None
    after = following.get("after") if isinstance(following, dict) else None
    return None if after is None else str(after)
