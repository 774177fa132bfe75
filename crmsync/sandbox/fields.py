"""The fields that the demonstration keeps in step: which meets which, whose it is, and when two spellings agree. Their
names in a CRM are HubSpot's; `crmsync.sandbox.crm` has those of the others.

Deliberately not the product's own comparison (`crmsync.core.canonical`): a judge should not borrow the eyes of the
judged.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from crmsync.sandbox.kirim import KirimEmulator

Held = Mapping[str, str | None]
"""One contact on one side, by Kirim's field names, in plain form; None is empty."""


class Side(StrEnum):
    """The two platforms."""

    KIRIM = "kirim"
    CRM = "crm"

    @property
    def other(self) -> Side:
        """The opposite one."""
        return Side.CRM if self is Side.KIRIM else Side.KIRIM


def plain(value: Any) -> str | None:
    """A text as people mean it: composed, without surrounding space."""
    return unicodedata.normalize("NFC", str(value)).strip() or None if value is not None else None


def plain_email(value: Any) -> str | None:
    """An address, in whatever case."""
    written = plain(value)
    return written.casefold() if written else None


def plain_phone(value: Any) -> str | None:
    """An Indonesian number with its country code, however it is grouped."""
    digits = re.sub(r"\D", "", str(value or ""))
    return "+" + re.sub(r"^0", "62", digits) if digits else None


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a contact. `owner` is the side whose value stands; `form` makes spellings comparable."""

    kirim: str
    crm: str
    owner: Side
    form: Callable[[Any], str | None] = plain
    type: str = "text"

    def name(self, side: Side) -> str:
        """What the field is called on a side."""
        return self.kirim if side is Side.KIRIM else self.crm


FIELDS = (
    Field("phone_number", "phone", Side.KIRIM, plain_phone, "phone"),
    Field("email", "email", Side.KIRIM, plain_email, "email"),
    Field("name", "firstname", Side.CRM),
    Field("metadata.company", "company", Side.CRM),
    Field("metadata.city", "city", Side.CRM),
    Field("metadata.title", "jobtitle", Side.CRM),
)
METADATA = "metadata."
EXTERNAL_ID = "kirim_contact_id"


def kirim_values(fields: Mapping[str, Any]) -> Iterator[tuple[Field, Any]]:
    """The fields that are named in a Kirim contact, or in what was sent to change one."""
    metadata = fields.get("metadata")
    for field in FIELDS:
        if not field.kirim.startswith(METADATA):
            if field.kirim in fields:
                yield field, fields[field.kirim]
        elif isinstance(metadata, Mapping) and field.kirim.removeprefix(METADATA) in metadata:
            yield field, metadata[field.kirim.removeprefix(METADATA)]


def in_kirim(kirim: KirimEmulator) -> dict[str, Held]:
    """What Kirim holds now, by contact id."""
    with kirim.lock:
        return {
            one.id: {
                "phone_number": plain_phone(one.phone_number),
                "email": plain_email(one.email),
                "name": plain(one.name),
                **{
                    field.kirim: field.form((one.metadata or {}).get(field.kirim.removeprefix(METADATA)))
                    for field in FIELDS
                    if field.kirim.startswith(METADATA)
                },
            }
            for one in kirim.workspace.contacts.by_id.values()
        }
