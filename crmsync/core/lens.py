"""How a rule looks at one side: it reads one *middle* value out of the side's fields, and writes one back into them.

The two sides of a rule meet in middle values: they are compared, agreed on and told about. Everything that may be lost
on the way is in this file. For every lens `read(write(v))` is again what `write` was given, or becomes so the second
time: `settles` tries it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol

import phonenumbers

from crmsync.core.canonical import canonical, phone, text
from crmsync.model import NOTHING, Fields, FieldType, Value


class Unknown:
    """Stands for a value that was never seen, or that a rule has no word for: it decides nothing."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = Unknown()


class Lens(Protocol):
    """`names` are the fields it looks at; without `writes` it only ever reads."""

    @property
    def names(self) -> tuple[str, ...]:
        """The side's own names of the fields."""

    @property
    def writes(self) -> bool:
        """Whether it can write at all."""

    def read(self, fields: Fields) -> Value | Unknown:
        """The middle value that these fields hold."""

    def write(self, value: Value, held: Fields = NOTHING) -> Fields | None:
        """The fields that hold a middle value; None where there is no word for it. `held` is what they hold now."""


@dataclass(frozen=True, slots=True)
class Plain:
    """One field as it is."""

    name: str
    writes: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def read(self, fields: Fields) -> Value | Unknown:
        return fields.get(self.name, UNKNOWN)

    def write(self, value: Value, held: Fields = NOTHING) -> Fields | None:
        return {self.name: value}


@dataclass(frozen=True, slots=True)
class Joined:
    """Several fields that are one text, such as a first and a last name. The last word goes into the last field."""

    names: tuple[str, ...]
    writes: bool = True

    def read(self, fields: Fields) -> Value | Unknown:
        if any(name not in fields for name in self.names):
            return UNKNOWN
        parts = [text(fields[name]) for name in self.names if fields[name] not in (None, "")]
        return " ".join(part for part in parts if part) or None

    def write(self, value: Value, held: Fields = NOTHING) -> Fields | None:
        words = text(value).split() if value is not None else []
        spare = len(words) - len(self.names) + 1
        if spare > 1:
            words = [" ".join(words[:spare]), *words[spare:]]
        return {name: words[at] if at < len(words) else None for at, name in enumerate(self.names)}


@dataclass(frozen=True, slots=True)
class Constant:
    """No field at all: always the same value."""

    value: Value

    @property
    def names(self) -> tuple[str, ...]:
        return ()

    @property
    def writes(self) -> bool:
        return False

    def read(self, fields: Fields) -> Value | Unknown:
        return self.value

    def write(self, value: Value, held: Fields = NOTHING) -> Fields | None:
        return None


class Strangers(StrEnum):
    """What happens to a value that a map does not name."""

    IGNORE = "ignore"  # it decides nothing, and is left where it is
    KEEP = "keep"  # it is passed on as it is


@dataclass(frozen=True, slots=True)
class Chosen:
    """A field whose words are others: each middle word has one or more of the side's, the first of which is written.

    `fallback` is the side's word that is written for every middle word that has none.
    """

    inner: Lens
    words: Mapping[str, tuple[str, ...]]
    strangers: Strangers = Strangers.IGNORE
    fallback: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return self.inner.names

    @property
    def writes(self) -> bool:
        return self.inner.writes

    def read(self, fields: Fields) -> Value | Unknown:
        held = self.inner.read(fields)
        if isinstance(held, Unknown) or held in (None, "", ()):
            return held
        back = {_folded(theirs): middle for middle, several in self.words.items() for theirs in several}
        return _each(held, lambda word: back.get(_folded(word)), keep=self.strangers is Strangers.KEEP)

    def write(self, value: Value, held: Fields = NOTHING) -> Fields | None:
        if value in (None, "", ()):
            return self.inner.write(value, held)
        forth = {_folded(middle): several[0] for middle, several in self.words.items()}
        keep = self.strangers is Strangers.KEEP
        found = _each(value, lambda word: forth.get(_folded(word), self.fallback), keep=keep)
        if isinstance(found, Unknown):
            return None
        return self.inner.write((*found, *self._strangers(held)) if isinstance(found, tuple) else found, held)

    def _strangers(self, held: Fields) -> tuple[str, ...]:
        """Members that no word means: they are not seen, and stay where they are."""
        before = self.inner.read(held)
        if self.strangers is Strangers.KEEP or not isinstance(before, tuple):
            return ()
        known = {_folded(theirs) for several in self.words.values() for theirs in several}
        return tuple(member for member in before if _folded(member) not in known)


@dataclass(frozen=True, slots=True)
class Assigned:
    """A field that names a user of the CRM, where Kirim names one of its own. `book` has the CRM's id of Kirim's.

    A user of the CRM whom Kirim does not know decides nothing; one of Kirim's whom the CRM does not know is written as
    `fallback`, or not at all.
    """

    inner: Lens
    book: Mapping[str, str]
    fallback: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return self.inner.names

    @property
    def writes(self) -> bool:
        return self.inner.writes

    def read(self, fields: Fields) -> Value | Unknown:
        held = self.inner.read(fields)
        if isinstance(held, Unknown) or held in (None, ""):
            return held
        return next((kirim for kirim, crm in self.book.items() if crm == held), UNKNOWN)

    def write(self, value: Value, held: Fields = NOTHING) -> Fields | None:
        if value in (None, ""):
            return self.inner.write(None, held)
        found = self.book.get(str(value), self.fallback)
        return None if found is None else self.inner.write(found, held)


@dataclass(frozen=True, slots=True)
class Listed:
    """A set that is kept as one text with a separator."""

    inner: Lens
    separator: str

    @property
    def names(self) -> tuple[str, ...]:
        return self.inner.names

    @property
    def writes(self) -> bool:
        return self.inner.writes

    def read(self, fields: Fields) -> Value | Unknown:
        held = self.inner.read(fields)
        if isinstance(held, (Unknown, tuple)) or held is None:
            return held
        return tuple(dict.fromkeys(part for each in text(held).split(self.separator) if (part := each.strip())))

    def write(self, value: Value, held: Fields = NOTHING) -> Fields | None:
        if value is None:
            return self.inner.write(None, held)
        members = value if isinstance(value, tuple) else (text(value),)
        kept = [text(member).replace(self.separator, " ").strip() for member in members]
        return self.inner.write(self.separator.join(sorted(dict.fromkeys(kept))) or None, held)


@dataclass(frozen=True, slots=True)
class Without:
    """A set of which some members are somebody else's: they are not seen, and stay where they are."""

    inner: Lens
    others: frozenset[str]

    @property
    def names(self) -> tuple[str, ...]:
        return self.inner.names

    @property
    def writes(self) -> bool:
        return self.inner.writes

    def read(self, fields: Fields) -> Value | Unknown:
        held = self.inner.read(fields)
        if isinstance(held, Unknown) or held is None:
            return held
        return tuple(member for member in _members(held) if member not in self.others)

    def write(self, value: Value, held: Fields = NOTHING) -> Fields | None:
        before = self.inner.read(held)
        theirs = [] if isinstance(before, Unknown) else [each for each in _members(before) if each in self.others]
        ours = [member for member in _members(value) if member not in self.others]
        return self.inner.write((*ours, *theirs), held)


class PhoneFormat(StrEnum):
    """How a telephone number is written."""

    AS_IS = "as_is"
    E164 = "e164"  # +6281234567890
    INTERNATIONAL = "international"  # +62 812-3456-7890
    NATIONAL = "national"  # 0812-3456-7890


_FORMATS: Mapping[PhoneFormat, int] = MappingProxyType(
    {
        PhoneFormat.E164: phonenumbers.PhoneNumberFormat.E164,
        PhoneFormat.INTERNATIONAL: phonenumbers.PhoneNumberFormat.INTERNATIONAL,
        PhoneFormat.NATIONAL: phonenumbers.PhoneNumberFormat.NATIONAL,
    }
)


@dataclass(frozen=True, slots=True)
class Dialled:
    """A telephone number that is always written in one form; one that is no number is written as it is."""

    inner: Lens
    format: PhoneFormat
    region: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return self.inner.names

    @property
    def writes(self) -> bool:
        return self.inner.writes

    def read(self, fields: Fields) -> Value | Unknown:
        return self.inner.read(fields)

    def write(self, value: Value, held: Fields = NOTHING) -> Fields | None:
        number = phone(text(value), self.region) if value is not None else ""
        if number.startswith("+") and self.format in _FORMATS:
            parsed = phonenumbers.parse(number, None)
            value = phonenumbers.format_number(parsed, _FORMATS[self.format])
        return self.inner.write(value, held)


@dataclass(frozen=True, slots=True)
class Day:
    """A day; a point in time is taken for the day it is on where the tenant is. Written as 2026-11-20."""

    inner: Lens
    zone: tzinfo = UTC

    @property
    def names(self) -> tuple[str, ...]:
        return self.inner.names

    @property
    def writes(self) -> bool:
        return self.inner.writes

    def read(self, fields: Fields) -> Value | Unknown:
        held = self.inner.read(fields)
        return held if isinstance(held, Unknown) or held is None else self._day(held)

    def write(self, value: Value, held: Fields = NOTHING) -> Fields | None:
        return self.inner.write(None if value is None else self._day(value), held)

    def _day(self, value: Value) -> Value:
        written = text(value)
        try:
            return date.fromisoformat(written).isoformat()
        except ValueError:
            pass
        moment = canonical(FieldType.DATETIME, value)
        if not isinstance(moment, int):
            return value
        try:
            return datetime.fromtimestamp(moment / 1000, UTC).astimezone(self.zone).date().isoformat()
        except (OverflowError, OSError, ValueError):
            return value


def settles(lens: Lens, kind: FieldType, samples: Iterable[Value], region: str | None = None) -> Value | Unknown:
    """A sample that changes for ever when it goes there and back; `UNKNOWN` if all come to rest."""
    for sample in samples:
        value: Value | Unknown = sample
        seen = []
        for _ in range(3):
            written = None if isinstance(value, Unknown) else lens.write(value)
            if written is None:
                break
            value = lens.read(written)
            if isinstance(value, Unknown):
                break
            seen.append(canonical(kind, value, region))
        if len(seen) == 3 and seen[1] != seen[2]:
            return sample
    return UNKNOWN


SAMPLES: Mapping[FieldType, tuple[Value, ...]] = MappingProxyType(
    {
        FieldType.TEXT: (
            "Ana",
            "Ana Maria Lee",
            " x  y ",
            "007",
            "😀 é e\u0301",
            "مرحبا",
            "a;b",
            "x" * 300,
            "+62 812",
            "-",
        ),
        FieldType.EMAIL: ("Ana@Example.com", "a+b@x.y"),
        FieldType.PHONE: ("+6281234567890", "0812-3456-7890", "no number", "112"),
        FieldType.NUMBER: ("007", 7, 7.5, "1e3", "many"),
        FieldType.BOOLEAN: (True, False, "yes", "perhaps"),
        FieldType.DATETIME: ("2026-11-20T17:30:00Z", 1_790_000_000_000, "soon"),
        FieldType.DATE: ("2026-11-20", "2026-11-20T17:30:00Z", 1_790_000_000_000, "soon"),
        FieldType.CHOICE: ("hot", "a stranger", "😀"),
        FieldType.SET: ((), ("a",), ("b", "a"), ("a;b", "c,d"), ("😀",)),
    }
)
"""Values of each type that are hard on a rule."""


def _members(value: Value) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    return value if isinstance(value, tuple) else (text(value),)


def _folded(word: Value) -> str:
    return text(word).casefold()


def _each(value: Value, find: Callable[[str], str | None], *, keep: bool) -> Value | Unknown:
    """Every word by its other name. A set loses those that have none; a single one is unknown then."""
    if isinstance(value, tuple):
        found = [find(member) or (member if keep else None) for member in value]
        return tuple(dict.fromkeys(member for member in found if member is not None))
    word = find(text(value))
    return word if word is not None else value if keep else UNKNOWN
