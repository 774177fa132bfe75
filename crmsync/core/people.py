"""Which user of the CRM is which of Kirim's: by an explicit list, else by e-mail. Values only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from crmsync.core.lens import Assigned
from crmsync.core.mapping import FieldRule, Rules
from crmsync.model import Person


def book(kirim: Iterable[Person], crm: Iterable[Person], explicit: Mapping[str, str]) -> dict[str, str]:
    """The CRM's id of each of Kirim's users. An address that two active users of the CRM share means neither."""
    found: dict[str, str | None] = {}
    for person in crm:
        if person.active and person.email:
            address = person.email.strip().casefold()
            found[address] = None if address in found else person.id
    known = {
        person.id: its
        for person in kirim
        if person.email and (its := found.get(person.email.strip().casefold())) is not None
    }
    return {**known, **explicit}


def unmapped(kirim: Iterable[Person], known: Mapping[str, str]) -> list[Person]:
    """Kirim's users whom the CRM does not know: they fall to the one who is named for everybody else."""
    return sorted((person for person in kirim if person.id not in known), key=lambda person: person.id)


def named(rules: Rules) -> list[Assigned]:
    """How rules look at fields that name a user."""
    return [rule.right for rule in rules.fields if isinstance(rule.right, Assigned)]


def introduce(rules: Rules, kirim: Iterable[Person], crm: Iterable[Person]) -> Rules:
    """The same rules, by which users are known to each other."""
    kirim, crm = list(kirim), list(crm)
    return replace(rules, fields=tuple(_introduced(rule, kirim, crm) for rule in rules.fields))


def _introduced(rule: FieldRule, kirim: list[Person], crm: list[Person]) -> FieldRule:
    lens = rule.right
    if not isinstance(lens, Assigned):
        return rule
    return replace(rule, crm_lens=replace(lens, book=book(kirim, crm, lens.book)))
