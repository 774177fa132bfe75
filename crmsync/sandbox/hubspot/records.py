"""The records of an emulated HubSpot account: what they hold, what is refused, and what each write changes.

Knows nothing of HTTP. A refused write raises `Problem` and changes nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from crmsync.sandbox.hubspot.objects import ObjectType
from crmsync.sandbox.hubspot.properties import Properties, Property

LONGEST_VALUE = 65_536
_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")


class Problem(Exception):
    """A write that HubSpot would not take: the status and the parts of its error body."""

    def __init__(
        self,
        status: int,
        category: str,
        message: str,
        *,
        errors: list[dict[str, Any]] | None = None,
        context: dict[str, list[str]] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.category = category
        self.message = message
        self.errors = errors or []
        self.context = context or {}


def invalid(complaints: Iterable[tuple[str, str, str]], portal_id: int) -> Problem:
    """The refusal of property values; each complaint is (property, code, message).

    The message carries the complaints as JSON, as HubSpot's does (hubspot-api-ruby issue 403).
    """
    listed = [
        {"isValid": False, "message": message, "error": code, "name": name, "portalId": portal_id}
        for name, code, message in complaints
    ]
    errors = [
        {"message": item["message"], "code": item["error"], "context": {"propertyName": [item["name"]]}}
        for item in listed
    ]
    return Problem(400, "VALIDATION_ERROR", f"Property values were not valid: {json.dumps(listed)}", errors=errors)


Judge = Callable[[Mapping[str, str], Mapping[str, str]], list[tuple[str, str, str]]]
"""Says what is wrong with a record's values beyond their types, from those it holds and those that are written."""


@dataclass(frozen=True, slots=True)
class Source:
    """Who made a change, in the words of HubSpot's webhooks."""

    change_source: str
    source_id: str


@dataclass(slots=True)
class Record:
    """One record. `history` has every value a property had, newest first."""

    id: int
    properties: dict[str, str]
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None = None
    absorbed: list[int] = field(default_factory=list)
    history: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def archived(self) -> bool:
        """Whether the record is in the recycle bin."""
        return self.archived_at is not None


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that webhooks report."""

    type: str
    of: ObjectType
    record: Record
    source: Source
    at: datetime
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Respelling:
    """How the account rewrites values when they are stored. Everything is off unless switched on."""

    trim: bool = False
    lowercase_email: bool = False
    reformat_phone: bool = False
    cut_at: int | None = None

    def apply(self, name: str, value: str) -> str:
        """The value as it is stored."""
        if self.trim:
            value = value.strip()
        if self.lowercase_email and name == "email":
            value = value.lower()
        if self.reformat_phone and name in ("phone", "mobilephone", "hs_whatsapp_phone_number"):
            value = re.sub(r"^(\+\d{2})(\d{3})(\d{4})(\d+)$", r"\1 \2-\3-\4", value)
        return value if self.cut_at is None else value[: self.cut_at]


def iso(moment: datetime) -> str:
    """A time as HubSpot writes it."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


class Records:
    """Every record of one kind by id, in the order of the ids, with the index that uniqueness needs."""

    def __init__(
        self,
        of: ObjectType,
        properties: Properties,
        respelling: Respelling,
        now: Callable[[], datetime],
        notify: Callable[[Happening], None],
        *,
        judge: Judge,
        portal_id: int = 0,
    ) -> None:
        self.of = of
        self.properties = properties
        self.respelling = respelling
        self.by_id: dict[int, Record] = {}
        self.aliases: dict[int, int] = {}
        self.merge_keeps_primary = False
        self.archived_keeps_unique = False
        self._now = now
        self._notify = notify
        self._judge = judge
        self._next_id = of.first_id
        self._portal_id = portal_id
        self._unique: dict[tuple[str, str], int] = {}
        self._untouched: dict[int, Record | None] | None = None

    # -- finding

    def find(self, key: str, id_property: str | None = None) -> Record | None:
        """A record by id (also one that was merged away), or by a unique property; archived ones too."""
        if id_property in (None, "", "hs_object_id"):
            return self._by_number(key)
        number = self._unique.get((id_property or "", _folded(key)))
        return None if number is None else self.by_id.get(number)

    def _by_number(self, key: str) -> Record | None:
        if not key.isdecimal():
            return None
        number = int(key)
        while number in self.aliases:
            number = self.aliases[number]
        return self.by_id.get(number)

    def live(self) -> list[Record]:
        """Records that are not archived, by id."""
        return [record for record in self.by_id.values() if not record.archived]

    @property
    def rehearsing(self) -> bool:
        """Whether writes are only tried out."""
        return self._untouched is not None

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """Undoes, at its end, every create and update made inside."""
        unique, next_id = dict(self._unique), self._next_id
        self._untouched = {}
        try:
            yield
        finally:
            for number, before in self._untouched.items():
                if before is None:
                    del self.by_id[number]
                else:
                    self.by_id[number] = before
            self._unique, self._next_id, self._untouched = unique, next_id, None

    # -- writing

    def create(self, values: Mapping[str, Any], source: Source) -> Record:
        """A new record. Raises `Problem`."""
        stored = self._checked(values, None)
        self._check_needs(stored)
        now = self._now()
        record = Record(self._new_id(), {}, now, now)
        self.by_id[record.id] = record
        if self._untouched is not None:
            self._untouched[record.id] = None
        self._notify(Happening("creation", self.of, record, source, now, {"changeFlag": "CREATED"}))
        values = {**dict(self.of.defaults), **stored}
        self._store(record, {name: value for name, value in values.items() if value}, source)
        return record

    def update(self, record: Record, values: Mapping[str, Any], source: Source) -> tuple[str, ...]:
        """Sets properties; an empty string clears. Returns the names that changed. Raises `Problem`."""
        stored = self._checked(values, record)
        changed = {name: value for name, value in stored.items() if record.properties.get(name, "") != value}
        self._store(record, changed, source)
        return tuple(changed)

    def archive(self, record: Record, source: Source) -> None:
        """Puts a record into the recycle bin."""
        if record.archived:
            return
        record.archived_at = self._now()
        if not self.archived_keeps_unique:
            self._release(record)
        self._notify(Happening("deletion", self.of, record, source, record.archived_at, {"changeFlag": "DELETED"}))

    def restore(self, record: Record, source: Source) -> None:
        """Takes a record out of the recycle bin."""
        if record.archived:
            record.archived_at = None
            self._claim(record)
            self._notify(Happening("restore", self.of, record, source, self._now(), {"changeFlag": "CREATED"}))

    def erase(self, record: Record, source: Source) -> None:
        """Removes a record for good."""
        self._release(record)
        del self.by_id[record.id]
        self._notify(Happening("privacyDeletion", self.of, record, source, self._now()))

    def merge(self, primary: Record, other: Record, source: Source) -> Record:
        """Merges two records; the primary's values win. By default the survivor gets a new id."""
        moved = {
            name: value
            for name, value in other.properties.items()
            if name not in self.of.derived and not primary.properties.get(name)
        }
        for record in (primary, other):
            self._release(record)
        # The other record's value of a unique property is lost where the primary has one (facts, section 13).
        values = {**primary.properties, **moved}
        now = self._now()
        number = primary.id if self.merge_keeps_primary else self._new_id()
        absorbed = [n for n in (primary.id, other.id, *primary.absorbed, *other.absorbed) if n != number]
        survivor = Record(number, {}, primary.created_at, now, None, absorbed, primary.history)
        for gone in (primary.id, other.id):
            del self.by_id[gone]
            if gone != number:
                self.aliases[gone] = number
        self.by_id[number] = survivor
        if number == primary.id:
            self.by_id = dict(sorted(self.by_id.items()))
        survivor.properties = {name: value for name, value in values.items() if name not in self.of.derived}
        self._claim(survivor)
        self._stamp(survivor)
        self._notify(
            Happening(
                "merge",
                self.of,
                survivor,
                source,
                now,
                {
                    "primaryObjectId": primary.id,
                    "mergedObjectIds": [other.id],
                    "newObjectId": number,
                    "numberOfPropertiesMoved": len(moved),
                },
            )
        )
        return survivor

    # -- inside

    def _check_needs(self, stored: Mapping[str, str]) -> None:
        """A new record has everything that a new record needs. Raises `Problem`."""
        choices = self.of.needs_one_of
        if choices and not any(stored.get(name) for name in choices):
            said = f"At least one of these properties must be set: {', '.join(choices)}"
            raise Problem(400, "VALIDATION_ERROR", said)
        if missing := [name for name in self.of.needs if not stored.get(name)]:
            said = f"Error creating {self.of.name.upper()}. Some required properties were not set."
            raise Problem(400, "VALIDATION_ERROR", said, context={"properties": missing})

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def _checked(self, values: Mapping[str, Any], record: Record | None) -> dict[str, str]:
        """The values as they would be stored. Raises `Problem` for what HubSpot refuses."""
        complaints: list[tuple[str, str, str]] = []
        stored: dict[str, str] = {}
        for name, value in values.items():
            known = self.properties.get(name)
            if complaint := _complaint(name, value, known):
                complaints.append((name, *complaint))
                continue
            stored[name] = self.respelling.apply(name, _text(value))
        complaints += self._judge({} if record is None else record.properties, stored)
        complaints += self._taken(stored, record)
        if complaints:
            raise invalid(complaints, self._portal_id)
        self._refuse_second_email(stored, record)
        return stored

    def _taken(self, stored: Mapping[str, str], record: Record | None) -> list[tuple[str, str, str]]:
        return [
            (name, "CONFLICTING_UNIQUE_VALUE", f"{holder} already has that value.")
            for name, value in stored.items()
            if name != "email" and (holder := self._holder(name, value, record)) is not None
        ]

    def _refuse_second_email(self, stored: Mapping[str, str], record: Record | None) -> None:
        holder = self._holder("email", stored.get("email", ""), record)
        if holder is not None:
            raise Problem(409, "CONFLICT", f"Contact already exists. Existing ID: {holder}")

    def _holder(self, name: str, value: str, record: Record | None) -> int | None:
        """Whose the unique value is already, if it is another record's."""
        if not value or not self.properties.is_unique(name):
            return None
        holder = self._unique.get((name, _folded(value)))
        return None if record is not None and holder == record.id else holder

    def _store(self, record: Record, changed: Mapping[str, str], source: Source) -> None:
        if self._untouched is not None and record.id not in self._untouched:
            self._untouched[record.id] = deepcopy(record)
        self._release(record)
        record.updated_at = max(self._now(), record.updated_at)
        for name, value in changed.items():
            if value:
                record.properties[name] = value
            else:
                record.properties.pop(name, None)
            entry = {"value": value, "timestamp": iso(record.updated_at)}
            who = {"sourceType": source.change_source, "sourceId": source.source_id}
            record.history.setdefault(name, []).insert(0, {**entry, **who})
        self._claim(record)
        self._stamp(record)
        for name, value in changed.items():
            self._notify(
                Happening(
                    "propertyChange",
                    self.of,
                    record,
                    source,
                    record.updated_at,
                    {"propertyName": name, "propertyValue": value},
                )
            )

    def _stamp(self, record: Record) -> None:
        record.properties[self.of.created] = iso(record.created_at)
        record.properties[self.of.modified] = iso(record.updated_at)
        record.properties["hs_object_id"] = str(record.id)
        if record.absorbed:
            record.properties["hs_merged_object_ids"] = ";".join(map(str, record.absorbed))

    def _claim(self, record: Record) -> None:
        for name in self.properties.unique_names():
            if value := record.properties.get(name):
                self._unique[name, _folded(value)] = record.id

    def _release(self, record: Record) -> None:
        for name in self.properties.unique_names():
            key = (name, _folded(record.properties.get(name, "")))
            if self._unique.get(key) == record.id:
                del self._unique[key]


def milliseconds(moment: datetime) -> datetime:
    """A time cut to HubSpot's precision."""
    return moment - timedelta(microseconds=moment.microsecond % 1000)


def _folded(value: str) -> str:
    return value.strip().casefold()


def _text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _complaint(name: str, value: Any, known: Property | None) -> tuple[str, str] | None:
    """Why a value is refused: (code, message); None if it is not."""
    if known is None:
        return "PROPERTY_DOESNT_EXIST", f'Property "{name}" does not exist'
    if known.read_only:
        return "READ_ONLY_VALUE", f'"{name}" is a read only property; its value cannot be set.'
    if value is None or isinstance(value, dict | list):
        return "INVALID_TYPE", f"{name} needs a string"
    text = _text(value)
    if len(text) > LONGEST_VALUE:
        return "PROPERTY_TOO_LONG", f"{name} is longer than {LONGEST_VALUE} characters"
    if name == "email" and text.strip() and not _EMAIL.fullmatch(text.strip()):
        return "INVALID_EMAIL", f"Email address {text} is invalid"
    return known.complaint(text) if text else None
