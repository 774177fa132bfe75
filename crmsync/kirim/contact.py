"""A Kirim contact, as events and answers show it, becomes a record; and fields become the body of a PATCH.

Only keys that are present become fields: absent is unknown. Every documented shape is read, with
`whatsapp_account` or with `whatsapp_account_id` and `phone_number_id`, with labels or without.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from crmsync.kirim.reading import broken, hint, identity, moment, text
from crmsync.model import FieldInfo, Fields, FieldType, Kind, Record, Value

METADATA = "metadata."
_SHOWN = frozenset({"phone_number", "name", "email", "created_at", "updated_at"})
SOURCES = ("ctwa_ad", "ctwa_post", "organic", "import", "manual")

SCHEMA: tuple[FieldInfo, ...] = (
    FieldInfo("phone_number", FieldType.PHONE, "WhatsApp number", writable=False),
    FieldInfo("name", FieldType.TEXT, "Name"),
    FieldInfo("email", FieldType.EMAIL, "E-mail"),
    FieldInfo("acquisition_source", FieldType.CHOICE, "Acquisition source", writable=False, options=SOURCES),
    FieldInfo("labels", FieldType.SET, "Labels", writable=False),
    FieldInfo("whatsapp_account", FieldType.PHONE, "Own WhatsApp number", writable=False),
    FieldInfo("whatsapp_account_id", FieldType.TEXT, "Own WhatsApp account", writable=False),
    FieldInfo("phone_number_id", FieldType.TEXT, "Own number's id", writable=False),
    FieldInfo("created_at", FieldType.DATETIME, "Created", writable=False),
    FieldInfo("updated_at", FieldType.DATETIME, "Updated", writable=False),
)

_PLAIN = (
    "phone_number",
    "name",
    "email",
    "acquisition_source",
    "whatsapp_account_id",
    "phone_number_id",
    "created_at",
    "updated_at",
)
_WIDEST_INTEGER = 2**63


def contact_record(
    contact: Mapping[str, Any],
    wanted: frozenset[str] = frozenset(),
    horizon: datetime | None = None,
    path: str = "",
) -> Record:
    """The record that a contact object states. Raises `BadPayload` for a schema that cannot be meant.

    Where the metadata object is shown it is shown whole, so each `wanted` key it lacks is empty, not unknown.
    """
    contact_id = identity(contact, "id", path)
    fields: dict[str, Value] = {name: text(contact, name, path) for name in _PLAIN if name in contact}
    fields |= _account(contact, path)
    fields |= _labels(contact)
    fields |= _metadata(contact, wanted, path)
    return Record(
        Kind.CONTACT,
        contact_id,
        fields,
        version=moment(contact.get("updated_at"), horizon),
        external_id=contact_id,
        told_only=frozenset(name for name in fields if not readable(name)),
    )


def readable(name: str) -> bool:
    """Whether Kirim's API shows this field; labels and the source are known from events alone."""
    return name in _SHOWN or name.startswith(METADATA)


def flat(value: Any) -> Value:
    """A metadata value as a field's value; what a field cannot hold becomes JSON in one fixed spelling."""
    if isinstance(value, int) and not -_WIDEST_INTEGER <= value < _WIDEST_INTEGER:
        return str(value)  # no store keeps it as a number
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return tuple(value)
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def same(one: Value, other: Value) -> bool:
    """Whether two values are the same to Kirim; unlike in Python, true is not 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def patch_body(contact: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    """What has to be sent so that the contact holds `fields`; empty if it does already.

    Nothing says whether PATCH merges metadata or replaces it, so the whole object is sent: what others keep
    in it survives either reading. For the same reason a key is cleared by null and not by leaving it out:
    that empties it under both, and no other key is touched. The nulls of others are `crmsync.kirim.nulls`' business.
    """
    body: dict[str, Any] = {
        name: _plain(value)
        for name, value in fields.items()
        if not name.startswith(METADATA) and not (name in contact and same(flat(contact[name]), value))
    }
    metadata = metadata_of(contact)
    changed = {
        name.removeprefix(METADATA): _plain(value)
        for name, value in fields.items()
        if name.startswith(METADATA) and not same(flat(metadata.get(name.removeprefix(METADATA))), value)
    }
    if changed:
        body["metadata"] = metadata | changed
    return body


def metadata_of(contact: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata object; empty where there is none."""
    held = contact.get("metadata")
    return dict(held) if isinstance(held, dict) else {}


def _plain(value: Value) -> Any:
    return list(value) if isinstance(value, tuple) else flat(value)


def _account(contact: Mapping[str, Any], path: str) -> dict[str, Value]:
    if "whatsapp_account" not in contact:
        return {}
    account = contact["whatsapp_account"]
    if account is None or isinstance(account, str):
        return {"whatsapp_account": account}
    if not isinstance(account, dict):
        raise broken(f"{path}whatsapp_account")
    if "phone_number" not in account:
        return {}
    return {"whatsapp_account": text(account, "phone_number", f"{path}whatsapp_account.")}


def _labels(contact: Mapping[str, Any]) -> dict[str, Value]:
    """Every label's name, or nothing: an incomplete set would remove labels elsewhere."""
    labels = contact.get("labels")
    if not isinstance(labels, list):
        return {}
    names = _names(labels)
    return {} if names is None else {"labels": names}


def _names(labels: Sequence[Any]) -> tuple[str, ...] | None:
    names = [label if isinstance(label, str) else _label_name(label) for label in labels]
    known = [name for name in names if name]
    return tuple(dict.fromkeys(known)) if len(known) == len(names) else None


def _label_name(label: Any) -> str | None:
    return hint(label, "name") if isinstance(label, dict) else None


def _metadata(contact: Mapping[str, Any], wanted: frozenset[str], path: str) -> dict[str, Value]:
    if "metadata" not in contact:
        return {}
    held = {} if contact["metadata"] is None else contact["metadata"]
    if not isinstance(held, dict):
        raise broken(f"{path}metadata")
    empty: dict[str, Value] = {name: None for name in wanted if name.startswith(METADATA)}
    return empty | {f"{METADATA}{key}": flat(value) for key, value in held.items()}
