"""The `contacts:` part of a connection: which Kirim field meets which CRM field, as rules the core works by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from crmsync.config.checks import Found
from crmsync.config.sections import FieldSection
from crmsync.config.source import Broken, Document, KeyPath, Trap
from crmsync.config.words import nearest, wrong_type
from crmsync.core.mapping import (
    KIRIM_CONTACT_FIELDS,
    FieldRule,
    Owner,
    default_owner,
    kirim_type,
    kirim_writable,
)
from crmsync.errors import Problem

METADATA = "metadata."
LONGEST_NAME = 255

ReadSection = Callable[[KeyPath, type[FieldSection]], FieldSection | None]
"""Checks the mapping at a path against a section and collects what is wrong."""


@dataclass(slots=True)
class Mapped:
    """What came of one `fields:` mapping. `owned` are the Kirim fields that the CRM decides."""

    rules: list[FieldRule] = field(default_factory=list)
    owned: list[Found] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def mapped(document: Document, path: KeyPath, read: ReadSection) -> Mapped:
    """The rules of the `fields:` mapping at a path, and everything wrong with it."""
    result = Mapped()
    targets: dict[str, KeyPath] = {}
    fields = document.at(path)
    if not fields:
        result.problems.append(document.problem(path, "maps no field; write at least phone_number: phone"))
    for name, value in fields.items():
        here = (*path, name)
        complaint = kirim_field_problem(name)
        if complaint:
            result.problems.append(document.problem(here, complaint))
        entry = _entry(document, here, value, read, result)
        if entry is None:
            continue
        if entry.crm in targets:
            line = document.line(targets[entry.crm])
            message = f"the CRM field {entry.crm} is already mapped on line {line}"
            result.problems.append(document.problem(here, message))
        targets.setdefault(entry.crm, here)
        if complaint is None:
            _rule(document, here, name, entry, result)
    return result


def _entry(document: Document, here: KeyPath, value: object, read: ReadSection, result: Mapped) -> FieldSection | None:
    """One field in its long form, whichever form it is written in."""
    if isinstance(value, Broken):
        return None
    if isinstance(value, dict):
        entry = read(here, FieldSection)
        where = (*here, "crm")
    elif isinstance(value, str):
        entry, where = FieldSection.model_validate({"crm": value}), here
    elif isinstance(value, Trap | bool | int | float):
        result.problems.append(document.problem(here, wrong_type(document, here, str)))
        return None
    else:
        message = f"must be the CRM's field, or a mapping such as {{ crm: {here[-1]}, owner: crm }}"
        result.problems.append(document.problem(here, message))
        return None
    if entry and (complaint := crm_field_problem(entry.crm)):
        result.problems.append(document.problem(where, complaint))
        return None
    return entry


def _rule(document: Document, here: KeyPath, name: str, entry: FieldSection, result: Mapped) -> None:
    owner = entry.owner or default_owner(name)
    if owner is Owner.CRM and not kirim_writable(name):
        where = (*here, "owner")
        message = f"Kirim's API does not let {name} be changed, so the CRM cannot own it; write owner: kirim"
        result.problems.append(document.problem(where, message))
        return
    if owner is Owner.CRM:
        result.owned.append(Found(document, here, name))
    result.rules.append(
        FieldRule(
            kirim=name,
            crm=entry.crm,
            owner=owner,
            type=entry.type or kirim_type(name),
            on_drift=entry.on_drift,
            kirim_writable=kirim_writable(name),
        )
    )


def kirim_field_problem(name: str) -> str | None:
    """Why a name is no field of a Kirim contact."""
    if name in KIRIM_CONTACT_FIELDS or (_plain(name) and name.startswith(METADATA) and name != METADATA):
        return None
    head, dot, tail = name.partition(".")
    if dot and tail and nearest(head, ["metadata"]):
        return f"is no field of a Kirim contact; did you mean {METADATA}{tail}?"
    known = ", ".join(KIRIM_CONTACT_FIELDS)
    meant = nearest(name, KIRIM_CONTACT_FIELDS)
    if meant:
        return f"is no field of a Kirim contact; did you mean {meant}?"
    return f"is no field of a Kirim contact; known are {known} and {METADATA}<key>"


def crm_field_problem(name: str) -> str | None:
    """Why a name is no CRM's field. CRMs differ too much (Notion allows blanks) to ask for more."""
    if not name.strip():
        return "the CRM's field is empty"
    if not _plain(name):
        return "the CRM's field begins or ends with white space, or is not plain text"
    return None


def _plain(name: str) -> bool:
    return name.isprintable() and name == name.strip() and len(name) <= LONGEST_NAME
