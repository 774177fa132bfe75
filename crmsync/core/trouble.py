"""Why work on a record or a delivery came to a dead end: the words that are stored, and what an operator may do.

Knows no values: what is kept of a refused write are the names of its fields and a digest to know it again by.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import orjson

from crmsync.model import Write


class Reason(StrEnum):
    """Why a pair is parked, or a record read no more. Deliveries have these and the parsers' own words."""

    REFUSED = "refused"  # the platform will not take this version of it
    DUPLICATE = "duplicate"  # another record stands in the way
    DELETED = "deleted"  # its CRM record is gone
    SHARED = "shared"  # its CRM record belongs to another contact
    UNCLEAR = "unclear"  # several CRM records may be it
    UNANSWERED = "unanswered"  # passing trouble that never passed
    EXHAUSTED = "attempts_exhausted"  # it was begun several times, and the process ended each time


ADVICE: Mapping[str, str] = MappingProxyType(
    {
        Reason.REFUSED: "Correct the value, or the field in the platform that refuses it: a new value is tried by"
        " itself, after a change of the platform's settings retry.",
        Reason.DUPLICATE: "Another record holds the same unique value. Merge the two in the platform, or correct the"
        " value on one of them, then retry.",
        Reason.DELETED: "The record was deleted in the CRM, and is not made again unless `on_crm_delete: recreate`"
        " says so. Restore it there, and it is linked again.",
        Reason.SHARED: "Two contacts lead to one CRM record. Merge the contacts, or take the external id off the"
        " record that should not have it, then retry.",
        Reason.UNCLEAR: "Several records of the CRM may be this contact. Choose with `crmsync match list`, then"
        " `crmsync match accept` or `refuse`; refuse all, and a new record is made.",
        Reason.UNANSWERED: "The platform answers others and fails for this record each time. Look at the record there,"
        " tell the platform's support the answer below, then retry.",
        Reason.EXHAUSTED: "The process ended each time that this was begun. Look for a crash in the logs, upgrade"
        " crmsync, then retry.",
        "schema": "It was signed by the platform but does not look as documented. Upgrade crmsync, then retry; if it"
        " stays, report it with the type and the masked payload.",
        "unrouted": "It belongs to no phone number of this tenant. Add the number to the configuration, then retry;"
        " or drop it.",
    }
)
UNREADABLE = (
    "The body was signed but cannot be read. Look for a proxy that changes bodies, or upgrade crmsync, then retry;"
    " what was sent is shown with --unmask."
)


def advice(reason: str) -> str:
    """What to do about it, in one or two sentences."""
    return ADVICE.get(reason, UNREADABLE)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that one side will not take: the names of the fields that were sent, what was answered, and a digest.

    `guilty` are the fields that the platform named, `candidate` the record that stands in the way.
    """

    sent: tuple[str, ...]
    answer: str
    guilty: tuple[str, ...] = ()
    candidate: str | None = None
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is remembered of a pair's refusals, by side. `dropped`: the reason that nobody wants to hear of again."""

    refusals: Mapping[str, Refusal]
    dropped: str = ""

    def document(self) -> dict[str, Any]:
        """As it is stored."""
        return {"refusals": {side: asdict(one) for side, one in self.refusals.items()}, "dropped": self.dropped}

    @classmethod
    def of(cls, document: Mapping[str, Any] | None) -> Trouble:
        """What was stored."""
        if not document:
            return NONE
        refusals = {
            side: Refusal(
                tuple(one["sent"]), one["answer"], tuple(one["guilty"]), one["candidate"], one.get("digest", "")
            )
            for side, one in document["refusals"].items()
        }
        return cls(refusals, document["dropped"])

    def remembers(self, side: str, digest: str) -> Refusal | None:
        """The refusal of exactly this request."""
        known = self.refusals.get(side)
        return known if known is not None and digest and known.digest == digest else None


NONE = Trouble(MappingProxyType({}))
LOOKUP = "lookup"
"""The key of a refusal to be asked about a record at all."""


def digest(write: Write) -> str:
    """The same for two writes that ask for the same, whatever the order of their fields."""
    asked = [write.external_id, write.id, sorted(write.fields.items())]
    return hashlib.sha256(orjson.dumps(asked)).hexdigest()[:32]


def digest_of_lookup(kirim_id: str, crm_id: str | None) -> str:
    """The same for two lookups of the same record."""
    return hashlib.sha256(orjson.dumps([kirim_id, crm_id])).hexdigest()[:32]
