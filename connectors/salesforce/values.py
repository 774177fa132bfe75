"""Salesforce's values and ours, and how a value is written into a query."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from crmsync.connecting.texts import sendable
from crmsync.connecting.values import moment_of
from crmsync.errors import Retry
from crmsync.model import FieldInfo, FieldType, Value

Row = Mapping[str, Any]
ID = re.compile(r"[A-Za-z0-9]{15}(?:[A-Za-z0-9]{3})?")
TYPES = {
    "boolean": FieldType.BOOLEAN,
    "int": FieldType.NUMBER,
    "double": FieldType.NUMBER,
    "currency": FieldType.NUMBER,
    "percent": FieldType.NUMBER,
    "date": FieldType.DATE,
    "datetime": FieldType.DATETIME,
    "email": FieldType.EMAIL,
    "phone": FieldType.PHONE,
    "picklist": FieldType.CHOICE,
    "multipicklist": FieldType.SET,
}
COMPOUND = frozenset({"address", "location", "base64", "complexvalue", "anyType"})
"""Types whose values are none of ours; an address has its parts as fields of their own."""
_ESCAPES = str.maketrans({"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def field_of(definition: Row) -> FieldInfo:
    """A field as `describe` tells it."""
    options = [one for one in definition.get("picklistValues") or () if one.get("active", True)]
    return FieldInfo(
        str(definition["name"]),
        TYPES.get(str(definition.get("type")), FieldType.TEXT),
        label=str(definition.get("label") or ""),
        writable=definition.get("updateable") is True,
        unique=definition.get("unique") is True,
        options=tuple(str(one["value"]) for one in options if definition.get("restrictedPicklist")),
    )


def to_salesforce(value: Value, definition: Row) -> Any:
    """What is sent for a value; null clears."""
    kind = TYPES.get(str(definition.get("type")))
    if isinstance(value, tuple):
        return ";".join(sendable(part) for part in value if part) or None
    if kind in (FieldType.DATE, FieldType.DATETIME) and isinstance(value, str):
        moment = moment_of(value) if re.match(r"\d{4}-\d\d", value) else None
        if moment is not None:
            return f"{moment:%Y-%m-%d}" if kind is FieldType.DATE else stamp(moment)
    if kind is FieldType.NUMBER and isinstance(value, str):
        return _number(value)
    if kind is FieldType.BOOLEAN and isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if isinstance(value, float) and not isfinite(value):
        return str(value)  # for Salesforce to refuse: JSON has no word for it
    if value is None or kind in (FieldType.NUMBER, FieldType.BOOLEAN):
        return value
    return sendable(value if isinstance(value, str) else str(value))


def _number(text: str) -> Any:
    """The number that is written there; what is none is sent as it is."""
    if re.fullmatch(r"-?\d{1,15}", text):
        return int(text)
    return float(text) if re.fullmatch(r"-?\d{1,15}(\.\d{1,15})?(e[+-]?\d{1,2})?", text, re.IGNORECASE) else text


def from_salesforce(value: Any, definition: Row) -> Value:
    """The value of an answer. Empty is always null."""
    if value is None or value == "":
        return None
    if definition.get("type") == "multipicklist":
        return tuple(part for part in str(value).split(";") if part) or None
    return value if isinstance(value, bool | int | float) else str(value)


def stamp(moment: datetime) -> str:
    """A time as queries and records take it."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def quoted(text: str) -> str:
    """A text as a literal of a query."""
    return f"'{sendable(text).translate(_ESCAPES)}'"


def among(name: str, values: Iterable[str]) -> str:
    """The condition that a field has one of these values."""
    return f"{name} IN ({','.join(map(quoted, values))})"


def soql(columns: Sequence[str], of: str, *conditions: str, order: str = "", limit: int = 0) -> str:
    """A query."""
    where = ["WHERE", " AND ".join(conditions)] if conditions else []
    ordered = ["ORDER BY", order] if order else []
    return " ".join(
        ["SELECT", ", ".join(columns), "FROM", of, *where, *ordered, *(["LIMIT", str(limit)] if limit else [])]
    )


def rows(body: Any) -> Sequence[Row]:
    """The records of a query. One that cannot be read must not look like one that does not exist."""
    found = body.get("records") if isinstance(body, dict) else None
    if not isinstance(found, list) or not all(isinstance(row, dict) and row.get("Id") for row in found):
        raise Retry("Salesforce gave a bad response: no list of records")
    return found
