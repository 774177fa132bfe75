"""Which record of the CRM a contact is, before one is made for it: a decision over candidates that were found.

Only records that carry no Kirim id can be adopted. One candidate is taken, of several a person chooses.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import phonenumbers

from crmsync.core.canonical import canonical, text
from crmsync.model import Fields, FieldType, Record, Value


@dataclass(frozen=True, slots=True)
class MatchRule:
    """A Kirim field and a CRM field that are the same for one person, compared as values of a type."""

    kirim: str
    crm: str
    type: FieldType


class Match(StrEnum):
    """What is known about who a contact is."""

    NEW = "new"  # nobody: a record may be made
    FOUND = "found"  # exactly one
    UNCLEAR = "unclear"  # several: a person has to choose


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer, and the records it rests on: each with the rules that it meets."""

    match: Match
    candidates: tuple[tuple[Record, tuple[MatchRule, ...]], ...] = ()

    @property
    def record(self) -> Record | None:
        """The one record, where there is exactly one."""
        return self.candidates[0][0] if self.match is Match.FOUND else None


def spellings(rule: MatchRule, value: Value, region: str | None) -> tuple[str, ...]:
    """The ways in which a CRM may spell a value: it is asked for each. Empty for a value that identifies nobody."""
    held = canonical(rule.type, value, region)
    if held is None:
        return ()
    if rule.type is not FieldType.PHONE:
        return tuple(dict.fromkeys((text(value), str(held))))
    e164 = str(held)
    if not e164.startswith("+"):
        return ()
    number = phonenumbers.parse(e164, None)
    formats = phonenumbers.PhoneNumberFormat
    national = phonenumbers.format_number(number, formats.NATIONAL)
    written = (
        e164,
        e164[1:],
        phonenumbers.format_number(number, formats.INTERNATIONAL),
        national,
        "".join(letter for letter in national if letter.isdigit()),
    )
    return tuple(dict.fromkeys(written))


def find(
    rules: Sequence[MatchRule],
    kirim: Fields,
    found: Iterable[Record],
    *,
    taken: Collection[str] = (),
    refused: Collection[str] = (),
    region: str | None = None,
) -> Finding:
    """Who a contact is, of the records that the CRM named. It is not believed: values are compared here.

    `taken` are the ids of records that belong to other contacts, `refused` those that a person said no to.
    """
    candidates: dict[str, tuple[Record, tuple[MatchRule, ...]]] = {}
    for record in found:
        met = tuple(rule for rule in rules if _meets(rule, kirim, record, region))
        free = not (record.archived or record.external_id or record.id in taken or record.id in refused)
        if met and free:
            candidates[record.id] = (record, met)
    ordered = tuple(candidates[id] for id in sorted(candidates))
    if not ordered:
        return Finding(Match.NEW)
    return Finding(Match.FOUND if len(ordered) == 1 else Match.UNCLEAR, ordered)


def _meets(rule: MatchRule, kirim: Fields, record: Record, region: str | None) -> bool:
    """Whether both hold the same, and anything at all."""
    ours = canonical(rule.type, kirim.get(rule.kirim), region)
    return ours is not None and ours == canonical(rule.type, record.fields.get(rule.crm), region)
