"""The records of an emulated org: what is stored, what is refused row by row, merged, deleted, and seen late."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from crmsync.sandbox.salesforce.behaviour import Behaviour, DuplicateRule
from crmsync.sandbox.salesforce.objects import SYSTEM, Field, SObject, record_id

_EMAIL = re.compile(r"[^@\s,;]+@[^@\s,;]+\.[^@\s,;]+")
_NUMBERS = frozenset({"double", "currency", "percent", "int"})


class RowError(Exception):
    """The refusal of one row. `about` are ids of records that stand in the way."""

    def __init__(self, code: str, message: str, *fields: str, about: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.fields = fields
        self.about = tuple(about)

    def to_json(self, key: str = "statusCode") -> dict[str, Any]:
        """As an answer has it."""
        return {key: self.code, "message": str(self), "fields": list(self.fields)}


@dataclass(slots=True)
class Record:
    """One record. `values` has no empty ones; `master` is the survivor of a record that was merged away."""

    id: str
    values: dict[str, Any]
    created_at: datetime
    stamp: datetime
    by: str
    deleted: bool = False
    master: str | None = None
    purged: bool = False


@dataclass(frozen=True, slots=True)
class Late:
    """A change that others do not see yet: what they see instead, and from when on they see it."""

    before: Record | None
    since: datetime
    until: datetime | None


@dataclass(slots=True)
class Table:
    """Every record of one object by id, in the order of the ids."""

    of: SObject
    by_id: dict[str, Record] = field(default_factory=dict)
    late: dict[str, Late] = field(default_factory=dict)
    last: int = 0


class Org:
    """The tables of an org. `user` is the integration user's id, `people` another's."""

    def __init__(
        self, objects: Mapping[str, SObject], behaviour: Behaviour, now: Callable[[], datetime], user: str, people: str
    ) -> None:
        self.tables = {name: Table(of) for name, of in objects.items()}
        self.behaviour = behaviour
        self.user = user
        self.people = people
        self.locked: set[str] = set()
        self._now = now

    # -- finding

    def find(self, id: str) -> tuple[Table, Record] | None:
        """A record by its id of 15 or 18 characters, in the recycle bin too."""
        for table in self.tables.values():
            if id.startswith(table.of.prefix):
                found = table.by_id.get(id) or next((one for one in table.by_id.values() if one.id[:15] == id), None)
                return None if found is None or found.purged else (table, found)
        return None

    def live(self, id: Any) -> Record | None:
        """A record that is not deleted."""
        found = self.find(id) if isinstance(id, str) else None
        return None if found is None or found[1].deleted else found[1]

    def bearers(self, table: Table, name: str, value: Any) -> list[Record]:
        """The live records that hold this value."""
        return [one for one in table.by_id.values() if not one.deleted and one.values.get(name) == value]

    def seen(self, table: Table, *, deleted: bool) -> list[Record]:
        """The records as others see them by now."""
        now = self._now()
        found: list[Record] = []
        for id, record in table.by_id.items():
            late = table.late.get(id)
            if late is not None and late.until is not None and late.until <= now:
                del table.late[id]
                late = None
            shown = record if late is None else late.before
            if shown is not None and not shown.purged and (deleted or not shown.deleted):
                found.append(shown)
        return found

    def covered(self, table: Table, end: datetime) -> datetime:
        """The latest instant up to which everything is visible."""
        self.seen(table, deleted=True)  # what is no longer late is forgotten
        return min([end, self._now(), *(late.since for late in table.late.values())]).replace(second=0, microsecond=0)

    # -- writing

    def create(self, table: Table, values: Mapping[str, Any], by: str, *, allow: bool = False) -> Record:
        """A new record. Raises `RowError`."""
        stored = self._checked(table, values, None, allow=allow)
        missing = [one.name for one in table.of.fields.values() if one.required and stored.get(one.name) is None]
        if missing:
            said = f"Required fields are missing: [{', '.join(missing)}]"
            raise RowError("REQUIRED_FIELD_MISSING", said, *missing)
        table.last += 1
        now = self._now()
        defaults = {one.name: one.default for one in table.of.fields.values() if one.default is not None}
        if "OwnerId" in defaults:
            defaults["OwnerId"] = by
        record = Record(record_id(table.of.prefix, table.last), {}, now, now, by)
        table.by_id[record.id] = record
        self._store(table, record, {**defaults, **stored}, by, new=True)
        return record

    def update(
        self, table: Table, record: Record, values: Mapping[str, Any], by: str, *, allow: bool = False
    ) -> tuple[str, ...]:
        """Sets fields; None clears. Returns the names that changed. Raises `RowError`."""
        if record.deleted:
            raise RowError("ENTITY_IS_DELETED", "entity is deleted")
        if record.id in self.locked:
            raise RowError("UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access to this record")
        stored = self._checked(table, values, record, allow=allow)
        changed = {name: value for name, value in stored.items() if record.values.get(name) != value}
        emptied = [name for name, value in changed.items() if value is None and table.of.fields[name].required]
        if emptied:
            said = f"Required fields are missing: [{', '.join(emptied)}]"
            raise RowError("REQUIRED_FIELD_MISSING", said, *emptied)
        self._store(table, record, changed, by)
        return tuple(changed)

    def delete(self, table: Table, record: Record, by: str, master: str | None = None) -> None:
        """Puts a record into the recycle bin."""
        self._touch(table, record, by)
        record.deleted, record.master = True, master

    def restore(self, table: Table, record: Record, by: str) -> None:
        """Takes a record out of the recycle bin."""
        self._touch(table, record, by)
        record.deleted = False

    def merge(self, table: Table, winner: Record, loser: Record, by: str) -> None:
        """The winner keeps its id and its values, and takes from the loser what it has not."""
        moved = {
            name: value
            for name, value in loser.values.items()
            if winner.values.get(name) is None and table.of.fields[name].writable and not table.of.fields[name].unique
        }
        self._store(table, winner, moved, by)
        for other in self.tables.values():
            for one in other.by_id.values():
                held = [name for name, value in one.values.items() if value == loser.id]
                self._store(other, one, dict.fromkeys(held, winner.id), by) if held else None
        self.delete(table, loser, by, winner.id)

    # -- inside

    def _touch(self, table: Table, record: Record, by: str, *, new: bool = False) -> None:
        """A change begins: it has its time now, and may be seen later."""
        now = self._now()
        if self.behaviour.commit_lag and by != self.user:
            until = datetime.fromtimestamp(now.timestamp() + self.behaviour.commit_lag, UTC)
            before = table.late[record.id].before if record.id in table.late else None if new else deepcopy(record)
            table.late[record.id] = Late(before, now, until)
        record.stamp, record.by = max(now, record.stamp), by

    def _store(self, table: Table, record: Record, changed: Mapping[str, Any], by: str, *, new: bool = False) -> None:
        self._touch(table, record, by, new=new)
        record.values = {name: value for name, value in {**record.values, **changed}.items() if value is not None}
        if "Name" in table.of.fields and not table.of.fields["Name"].writable:
            record.values["Name"] = " ".join(
                record.values[part] for part in ("FirstName", "LastName") if record.values.get(part)
            )
        if table.of.name == "Case":
            record.values["IsClosed"] = record.values.get("Status") == "Closed"

    def _checked(
        self, table: Table, values: Mapping[str, Any], record: Record | None, *, allow: bool
    ) -> dict[str, Any]:
        """The values as they would be stored. Raises `RowError` for the first that is refused."""
        stored: dict[str, Any] = {}
        for name, value in values.items():
            known = table.of.fields[name]
            if not known.writable or name in SYSTEM:
                said = f"Unable to create/update fields: {name}. Please check the security settings of this field."
                raise RowError("INVALID_FIELD_FOR_INSERT_UPDATE", said, name)
            stored[name] = self._value(known, value)
        if self.behaviour.trigger is not None:
            stored.update(self.behaviour.trigger(table.of.name, stored))
        for name, value in stored.items():
            if value is not None and table.of.fields[name].unique:
                self._refuse_second(table, name, value, record)
        self._apply_duplicate_rule(table, stored, record, allow=allow)
        return stored

    def _value(self, known: Field, value: Any) -> Any:
        """A value as it is stored: texts without space around them, and nothing where nothing is left."""
        if isinstance(value, str) and known.type not in ("boolean", *_NUMBERS):
            value = value.strip() or None
        if value is None:
            if known.type == "boolean":
                raise RowError(
                    "INVALID_TYPE_ON_FIELD_IN_RECORD", f"{known.name}: value not of required type", known.name
                )
            return None
        match known.type:
            case "boolean":
                fits = isinstance(value, bool)
            case "double" | "currency" | "percent" | "int":
                fits = isinstance(value, int | float) and not isinstance(value, bool)
            case "date" | "datetime":
                fits = isinstance(value, str) and _is_moment(value, known.type)
            case _:
                fits = isinstance(value, str)
        if not fits:
            raise _mistyped(known)
        return self._text(known, value) if isinstance(value, str) else value

    def _text(self, known: Field, value: str) -> str:
        if known.type in ("string", "textarea", "email", "phone") and len(value) > known.length:
            said = f"{known.label or known.name}: data value too large: {value} (max length={known.length})"
            raise RowError("STRING_TOO_LONG", said, known.name)
        if known.type == "email" and not _EMAIL.fullmatch(value):
            raise RowError("INVALID_EMAIL_ADDRESS", f"{known.name}: invalid email address: {value}", known.name)
        if known.type in ("picklist", "multipicklist") and known.restricted and self.behaviour.restricted_picklists:
            bad = [one for one in value.split(";") if one not in known.options]
            if bad:
                said = f"{known.name}: bad value for restricted picklist field: {bad[0]}"
                raise RowError("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", said, known.name)
        if known.type == "reference":
            return self._reference(known, value)
        return value

    def _reference(self, known: Field, value: str) -> str:
        target = self.live(value)
        if target is None or not any(
            value.startswith(self.tables[to].of.prefix) for to in known.to if to in self.tables
        ):
            raise RowError("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", known.name)
        if known.name == "OwnerId" and target.values.get("IsActive") is False:
            said = "operation performed with inactive user [x] as owner of record"
            raise RowError("INACTIVE_OWNER_OR_USER", said, known.name)
        return target.id

    def _refuse_second(self, table: Table, name: str, value: Any, record: Record | None) -> None:
        holders = [one for one in self.bearers(table, name, value) if record is None or one.id != record.id]
        if holders:
            said = f"duplicate value found: {name} duplicates value on record with id: {holders[0].id[:15]}"
            raise RowError("DUPLICATE_VALUE", said, name)

    def _apply_duplicate_rule(
        self, table: Table, stored: Mapping[str, Any], record: Record | None, *, allow: bool
    ) -> None:
        rule, email = self.behaviour.duplicate_rule, stored.get("Email")
        if rule is DuplicateRule.NONE or not email or (allow and rule is DuplicateRule.ALERT):
            return
        others = [one.id for one in self.bearers(table, "Email", email) if record is None or one.id != record.id]
        if others:
            said = "Use one of these records?"
            raise RowError("DUPLICATES_DETECTED", said, about=others)


def _mistyped(known: Field) -> RowError:
    return RowError("INVALID_TYPE_ON_FIELD_IN_RECORD", f"{known.name}: value not of required type", known.name)


def shown(moment: datetime) -> str:
    """A time as Salesforce writes it: whole seconds, with milliseconds all the same."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.000+0000"


def value_of(record: Record, name: str) -> Any:
    """What a record holds, system fields included; times as times."""
    match name:
        case "Id":
            return record.id
        case "IsDeleted":
            return record.deleted
        case "MasterRecordId":
            return record.master
        case "CreatedDate":
            return record.created_at
        case "SystemModstamp" | "LastModifiedDate":
            return record.stamp
        case "LastModifiedById":
            return record.by
    return record.values.get(name)


def ordered(records: Iterable[Record], look: Callable[[Record], Any], *, descending: bool) -> list[Record]:
    """Sorted by a value, empty ones first."""
    return sorted(records, key=lambda one: ((held := look(one)) is not None, _comparable(held)), reverse=descending)


def _comparable(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.replace(microsecond=0).timestamp()
    return 0 if value is None else value


def _is_moment(text: str, type: str) -> bool:
    try:
        _ = date.fromisoformat(text) if type == "date" else datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
