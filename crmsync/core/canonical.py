"""When two spellings are the same value. Fields are compared in the canonical form of their type, never as sent.

A value that does not fit its type (a phone field holding words) is compared as text: nothing is guessed.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Hashable
from datetime import UTC, date, datetime
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal, InvalidOperation
from functools import lru_cache

import phonenumbers

from crmsync.model import Fields, FieldType, Value

Canonical = Hashable
"""A comparable form. None is *empty*: an explicit null, an empty text, an empty set."""

TRUE = frozenset({"true", "yes", "1"})
FALSE = frozenset({"false", "no", "0"})
INVISIBLE = {ord(mark): None for mark in "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"}
GROUPED = re.compile(r"\+?[0-9][0-9 .()-]*").fullmatch
GROUPING = {ord(mark): None for mark in " .()-"}
"""What people put between digits, and what means nothing where there is nothing else."""
EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])
"""No digit is rounded away and no exponent is too large: two numbers are the same only if they are."""
MILLISECONDS_FROM = 100_000_000_000  # a number this large counts milliseconds: as seconds it is the year 5138


def canonical(kind: FieldType, value: Value, region: str | None = None) -> Canonical:
    """The form in which values of a type are compared. `region` reads local phone numbers."""
    if value is None or value == "" or value == ():
        return None
    if kind is FieldType.SET:
        return _set(value)
    if isinstance(value, tuple):
        value = ";".join(value)
    if kind is FieldType.NUMBER:
        return _number(value)
    if kind is FieldType.BOOLEAN:
        return _boolean(value)
    if kind is FieldType.DATETIME:
        return _moment(value)
    if kind is FieldType.DATE:
        return _day(value)
    written = text(value)
    if kind is FieldType.EMAIL:
        return written.casefold() or None
    if kind is FieldType.PHONE:
        plain = _ungrouped(written)
        return _e164(plain, region) or plain or None
    return written or None


def same(kind: FieldType, one: Value, other: Value, region: str | None = None) -> bool:
    """Whether two spellings stand for one value."""
    if kind is FieldType.PHONE and isinstance(one, str) and isinstance(other, str):
        ours, theirs = _ungrouped(text(one)), _ungrouped(text(other))
        if ours == theirs:  # there is no need to know what number it is
            return True
    return canonical(kind, one, region) == canonical(kind, other, region)


def text(value: Value) -> str:
    """A scalar as text: composed (NFC), without surrounding space."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return unicodedata.normalize("NFC", str(value)).strip()


def phone(written: str, region: str | None = None) -> str:
    """E.164 if the digits are a possible number of a known country, else the text as it stands.

    Digits without a plus sign are read with `region`, then as if they began with a country code.
    """
    if not written.isascii():
        written = unicodedata.normalize("NFKC", written.translate(INVISIBLE)).strip()
    return _e164(_ungrouped(written), region) or written


def _ungrouped(written: str) -> str:
    """A number without what people put between its digits."""
    if not written.isascii():
        written = unicodedata.normalize("NFKC", written.translate(INVISIBLE)).strip()
    return written.translate(GROUPING) if GROUPED(written) else written


@lru_cache(maxsize=8_192)
def _e164(visible: str, region: str | None) -> str | None:
    for candidate, country in ((visible, region), (f"+{visible.lstrip('+')}", None)):
        if candidate.startswith("+") or country:
            try:
                number = phonenumbers.parse(candidate, country)
            except phonenumbers.NumberParseException:
                continue
            if phonenumbers.is_valid_number(number):
                return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return None


def _set(value: Value) -> Canonical:
    members = value if isinstance(value, tuple) else (str(value),)
    kept = frozenset(text(member) for member in members) - {""}
    return kept or None


def _number(value: Value) -> Canonical:
    if isinstance(value, bool):
        return Decimal(int(value))
    try:
        number = Decimal(text(value))
    except InvalidOperation:
        return text(value) or None
    if not number.is_finite():
        return text(value)
    return number.normalize(EXACT) if number else Decimal(0)


def _boolean(value: Value) -> Canonical:
    written = text(value).casefold()
    if written in TRUE:
        return True
    if written in FALSE:
        return False
    return written or None


def _moment(value: Value) -> Canonical:
    """Milliseconds since 1970. Numbers are seconds or, when that large, milliseconds."""
    written = text(value)
    try:
        number = float(written)
    except ValueError:
        try:
            moment = datetime.fromisoformat(written)
        except ValueError:
            return written or None
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    if not math.isfinite(number):
        return written
    return int(number) if abs(number) >= MILLISECONDS_FROM else int(number * 1000)


def _day(value: Value) -> Canonical:
    """A day as 2026-11-20; of a point in time the day it is on in UTC."""
    written = text(value)
    try:
        return date.fromisoformat(written).isoformat()
    except ValueError:
        moment = _moment(value)
    if not isinstance(moment, int):
        return moment
    try:
        return datetime.fromtimestamp(moment / 1000, UTC).date().isoformat()
    except (OverflowError, OSError, ValueError):
        return written


def storable(fields: Fields) -> Fields:
    """The same fields with every text fit for any store and any platform: NUL dropped, halves of characters joined
    or replaced."""
    if all(map(_is_plain, fields.values())):
        return fields
    fit = {name: _storable(value) for name, value in fields.items()}
    return fields if fit == fields else fit


def _is_plain(value: Value) -> bool:
    """Whether there is nothing to look for in a value, as in nearly every one."""
    return value is None or (type(value) is str and value.isascii() and "\0" not in value)


def _storable(value: Value) -> Value:
    if _is_plain(value):
        return value
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, (tuple, list)):
        return tuple(str(_storable(member)) for member in value)
    return value
