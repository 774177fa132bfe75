"""The `fields:` of a kind of record: which Kirim fields meet which CRM fields, as rules the core works by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import tzinfo

from crmsync.config.checks import Found
from crmsync.config.sections import FieldSection
from crmsync.config.source import Broken, Document, KeyPath, Trap
from crmsync.config.words import nearest, wrong_type
from crmsync.core.lens import SAMPLES, Assigned, Chosen, Day, Dialled, Joined, Lens, Listed, Plain, Unknown, settles
from crmsync.core.mapping import METADATA, FieldRule, Owner, Vocabulary
from crmsync.errors import Problem
from crmsync.model import FieldType

LONGEST_NAME = 255
PLUS = " + "
TOWARDS_KIRIM = frozenset({Owner.CRM, Owner.LATEST, Owner.UNION})
"""Owners by which the CRM's value may be written to Kirim."""

ReadSection = Callable[[KeyPath, type[FieldSection]], FieldSection | None]
"""Checks the mapping at a path against a section and collects what is wrong."""


@dataclass(slots=True)
class Mapped:
    """What came of one `fields:` mapping. `owned` are the Kirim fields that the CRM decides."""

    rules: list[FieldRule] = field(default_factory=list)
    owned: list[Found] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FieldReader:
    """Reads the `fields:` of one kind of record in one file."""

    document: Document
    vocabulary: Vocabulary
    read: ReadSection
    region: str | None
    zone: tzinfo

    def mapped(self, path: KeyPath) -> Mapped:
        """The rules of the `fields:` mapping at a path, and everything wrong with it."""
        result = Mapped()
        fields = self.document.at(path)
        if not fields:
            message = f"maps no field; write at least {self.vocabulary.example}"
            result.problems.append(self.document.problem(path, message))
        written: dict[str, KeyPath] = {}
        for name, value in fields.items():
            complaint = self._kirim_problem(name)
            if complaint:
                result.problems.append(self.document.problem((*path, name), complaint))
            entries = list(self._entries((*path, name), value, result))
            for here, entry in entries:
                self._check_target(here, entry, written, result)
            if complaint is None:
                self._rules(name, entries, result)
        return result

    def _entries(self, here: KeyPath, value: object, result: Mapped) -> Iterator[tuple[KeyPath, FieldSection]]:
        """One field in its long form, whichever form it is written in; several where it goes to several fields."""
        if isinstance(value, list) and value:
            for number, one in enumerate(value):
                yield from self._entries((*here, number), one, result)
        elif (entry := self._entry(here, value, result)) is not None:
            yield here, entry

    def _entry(self, here: KeyPath, value: object, result: Mapped) -> FieldSection | None:
        if isinstance(value, Broken):
            return None
        if isinstance(value, dict):
            entry, where = self.read(here, FieldSection), (*here, "crm")
        elif isinstance(value, str):
            entry, where = FieldSection.model_validate({"crm": value}), here
        elif isinstance(value, Trap | bool | int | float):
            result.problems.append(self.document.problem(here, wrong_type(self.document, here, str)))
            return None
        else:
            message = f"must be the CRM's field, or a mapping such as {{ crm: {here[-1]}, owner: crm }}"
            result.problems.append(self.document.problem(here, message))
            return None
        for name in entry.crm.split(PLUS) if entry else ():
            if complaint := crm_field_problem(name):
                result.problems.append(self.document.problem(where, complaint))
                return None
        return entry

    def _check_target(self, here: KeyPath, entry: FieldSection, written: dict[str, KeyPath], result: Mapped) -> None:
        """A CRM field has one rule: two would write it in turns."""
        for name in entry.crm.split(PLUS):
            if name in written:
                line = self.document.line(written[name])
                message = f"the CRM field {name} is already mapped on line {line}"
                result.problems.append(self.document.problem(here, message))
            written.setdefault(name, here)

    def _rules(self, name: str, entries: Sequence[tuple[KeyPath, FieldSection]], result: Mapped) -> None:
        rules = [(here, rule) for here, entry in entries if (rule := self._rule(here, name, entry, result)) is not None]
        deciding = [(here, rule) for here, rule in rules if rule.owner in TOWARDS_KIRIM]
        for here, rule in deciding[1:]:
            first = deciding[0][1]
            message = f"{first.crm} and {rule.crm} would both be written to {name}; write owner: kirim in one of them"
            result.problems.append(self.document.problem(here, message))
        for here, rule in rules:
            if rule.owner in (Owner.CRM, Owner.LATEST):
                result.owned.append(Found(self.document, here, name))
            result.rules.append(replace(rule, key=f"{name} → {rule.crm}") if len(rules) > 1 else rule)

    def _rule(self, here: KeyPath, name: str, entry: FieldSection, result: Mapped) -> FieldRule | None:
        parts = name.split(PLUS)
        owner = entry.owner or (self.vocabulary.owner(parts[0]))
        kind = entry.type or self.vocabulary.type(parts[0])
        writable = all(self.vocabulary.writable(part) for part in parts)
        for key, complaint in self._complaints(name, entry, owner, kind, writable=writable):
            where = (*here, key) if isinstance(self.document.at(here), dict) else here
            result.problems.append(self.document.problem(where, complaint))
            return None
        rule = FieldRule(
            kirim=name,
            crm=entry.crm,
            owner=owner,
            type=kind,
            on_drift=entry.on_drift,
            kirim_writable=writable,
            kirim_lens=self._kirim_lens(parts, kind),
            crm_lens=self._crm_lens(name, entry, kind),
        )
        samples = (*SAMPLES.get(kind, ()), *(entry.map or ()))
        for side, lens in (("Kirim", rule.left), ("the CRM", rule.right)):
            moving = settles(lens, kind, samples, self.region) if lens.writes else Unknown()
            if not isinstance(moving, Unknown):
                message = f"a value such as {moving!r} would change each time that it goes to {side} and back"
                result.problems.append(self.document.problem(here, message))
                return None
        return rule

    def _complaints(
        self, name: str, entry: FieldSection, owner: Owner, kind: FieldType, *, writable: bool
    ) -> Iterator[tuple[str, str]]:
        """What does not go together in one entry, with the key it is about."""
        if owner in TOWARDS_KIRIM and not writable:
            yield "owner", f"Kirim's API does not let {name} be changed, so the CRM cannot own it; write owner: kirim"
        if owner is Owner.UNION and kind is not FieldType.SET:
            yield "owner", f"only sets can be merged; {name} is of type {kind}: write type: set, or another owner"
        if entry.separator and kind is not FieldType.SET:
            yield "separator", f"only sets have members to separate; {name} is of type {kind}"
        if "format" in entry.model_fields_set and kind is not FieldType.PHONE:
            yield "format", f"only telephone numbers have a format; {name} is of type {kind}"
        if entry.users is not None and name != "assignee":
            yield "users", "only assignee names a user"
        if entry.map is not None:
            yield from self._map_complaints(entry.map)
        elif entry.otherwise is not None and name != "assignee":
            yield "otherwise", "says nothing without `map`"

    def _map_complaints(self, words: Mapping[str, str | list[str]]) -> Iterator[tuple[str, str]]:
        seen: dict[str, str] = {}
        for middle, theirs in words.items():
            several = [theirs] if isinstance(theirs, str) else theirs
            if not several:
                yield "map", f"{middle} has no word of the CRM's"
            for word in several:
                if seen.setdefault(word.casefold(), middle) != middle:
                    yield "map", f"{word} means both {seen[word.casefold()]} and {middle}"

    def _kirim_lens(self, parts: Sequence[str], kind: FieldType) -> Lens | None:
        if len(parts) > 1:
            return Joined(tuple(parts))
        return Day(Plain(parts[0]), self.zone) if kind is FieldType.DATE else None

    def _crm_lens(self, name: str, entry: FieldSection, kind: FieldType) -> Lens | None:
        parts = entry.crm.split(PLUS)
        lens: Lens = Joined(tuple(parts)) if len(parts) > 1 else Plain(parts[0])
        if entry.separator:
            lens = Listed(lens, entry.separator)
        if entry.map is not None:
            words = {middle: (its,) if isinstance(its, str) else tuple(its) for middle, its in entry.map.items()}
            lens = Chosen(lens, words, entry.unknown, entry.otherwise)
        if name == "assignee" and "assignee" in self.vocabulary.fields:
            lens = Assigned(lens, dict(entry.users or {}), entry.otherwise)
        if kind is FieldType.PHONE and "format" in entry.model_fields_set:
            lens = Dialled(lens, entry.format, self.region)
        if kind is FieldType.DATE:
            lens = Day(lens, self.zone)
        return None if lens == Plain(entry.crm) else lens

    def _kirim_problem(self, name: str) -> str | None:
        """Why a name is no field of Kirim's, or no sum of several."""
        parts = name.split(PLUS)
        return next((complaint for part in parts if (complaint := kirim_field_problem(part, self.vocabulary))), None)


def kirim_field_problem(name: str, vocabulary: Vocabulary) -> str | None:
    """Why a name is no field of a Kirim record."""
    metadata = vocabulary.metadata and name.startswith(METADATA) and name != METADATA
    if name in vocabulary.fields or (_plain(name) and metadata):
        return None
    head, dot, tail = name.partition(".")
    if vocabulary.metadata and dot and tail and nearest(head, ["metadata"]):
        return f"is no field of {vocabulary.noun}; did you mean {METADATA}{tail}?"
    known = ", ".join(vocabulary.fields)
    meant = nearest(name, vocabulary.fields)
    if meant:
        return f"is no field of {vocabulary.noun}; did you mean {meant}?"
    more = f" and {METADATA}<key>" if vocabulary.metadata else ""
    return f"is no field of {vocabulary.noun}; known are {known}{more}"


def crm_field_problem(name: str) -> str | None:
    """Why a name is no CRM's field. CRMs differ too much (Notion allows blanks) to ask for more."""
    if not name.strip():
        return "the CRM's field is empty"
    if not _plain(name):
        return "the CRM's field begins or ends with white space, or is not plain text"
    return None


def _plain(name: str) -> bool:
    return name.isprintable() and name == name.strip() and len(name) <= LONGEST_NAME
