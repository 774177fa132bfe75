"""A value that a person typed, read as the type of its field. What cannot be meant is refused in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal, InvalidOperation

from crmsync.core.canonical import FALSE, TRUE, phone
from crmsync.model import FieldType, Value


class NotTyped(ValueError):
    """This is no value of the type."""


def typed(kind: FieldType, written: str, region: str | None = None) -> Value:
    """The value. An empty text is an empty field; several members of a set stand between commas."""
    plain = written.strip()
    if not plain:
        return None
    if kind is FieldType.PHONE:
        return _phone(plain, region)
    read = READ.get(kind)
    return read(plain) if read else written


def _phone(written: str, region: str | None) -> str:
    found = phone(written, region)
    if not found.startswith("+") or not found[1:].isdigit():
        raise NotTyped(f"“{written}” is no telephone number; write it as +6281234567890")
    return found


def _email(written: str) -> str:
    if "@" not in written.strip("@"):
        raise NotTyped(f"“{written}” is no e-mail address")
    return written


def _number(written: str) -> Value:
    try:
        number = Decimal(written)
    except InvalidOperation:
        raise NotTyped(f"“{written}” is no number") from None
    if not number.is_finite():
        raise NotTyped(f"“{written}” is no number")
    whole = number.as_tuple().exponent == 0
    return int(number) if whole else written


def _boolean(written: str) -> bool:
    word = written.casefold()
    if word not in TRUE | FALSE:
        raise NotTyped(f"“{written}” is neither yes nor no")
    return word in TRUE


def _date(written: str) -> str:
    try:
        return date.fromisoformat(written).isoformat()
    except ValueError:
        raise NotTyped(f"“{written}” is no day; write it as 2026-11-20") from None


def _moment(written: str) -> str:
    try:
        moment = datetime.fromisoformat(written)
    except ValueError:
        raise NotTyped(f"“{written}” is no time; write it as 2026-11-20T09:30:00Z") from None
    if moment.tzinfo is None:
        raise NotTyped(f"“{written}” has no time zone; write it as 2026-11-20T09:30:00Z")
    return moment.isoformat()


def _set(written: str) -> tuple[str, ...]:
    return tuple(member for part in written.split(",") if (member := part.strip()))


READ: Mapping[FieldType, Callable[[str], Value]] = {
    FieldType.EMAIL: _email,
    FieldType.NUMBER: _number,
    FieldType.BOOLEAN: _boolean,
    FieldType.DATE: _date,
    FieldType.DATETIME: _moment,
    FieldType.SET: _set,
}
