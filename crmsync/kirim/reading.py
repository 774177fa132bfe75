"""Reads JSON that came from outside: strictly as a document, tolerantly as values.

Whatever is wrong ends in `BadPayload` with a short constant reason; `schema` is followed by the path that was
expected, which comes from the code and never from the payload. Knows nothing of Kirim's events.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

from crmsync.errors import BadPayload

DEEPEST = 64
LONGEST_NUMBER = 1000
LONGEST_ID = 255
EARLIEST = datetime(2009, 1, 1, tzinfo=UTC)
"""WhatsApp's first year: nothing that Kirim holds can be older."""

_BOM = b"\xef\xbb\xbf"
_UNIX_SECONDS = re.compile(r"[0-9]{9,11}").fullmatch
_SURROGATE = re.compile("[\ud800-\udfff]")


def read_object(body: bytes) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The JSON object that a body is, and notes on what had to be repaired in its strings.

    NUL is removed and lone surrogates become U+FFFD, in keys and values alike: neither survives storage.
    """
    value = _parse(_text(body))
    if not isinstance(value, dict):
        raise BadPayload("not_object")
    notes: set[str] = set()
    return _clean(value, notes, 0), tuple(sorted(notes))


def broken(path: str) -> BadPayload:
    """To be raised: what should be at `path` is missing or of another type."""
    return BadPayload(f"schema: {path}")


def section(holder: Mapping[str, Any], name: str, path: str = "") -> Mapping[str, Any]:
    """An object that has to be there."""
    value = holder.get(name)
    if not isinstance(value, dict):
        raise broken(path + name)
    return value


def optional_section(holder: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object that may be absent, null or something else: then it is empty."""
    value = holder.get(name)
    return value if isinstance(value, dict) else {}


def rows(holder: Mapping[str, Any], name: str) -> Sequence[Any]:
    """An array that may be absent, null or something else: then it is empty."""
    value = holder.get(name)
    return value if isinstance(value, list) else ()


def text(holder: Mapping[str, Any], name: str, path: str = "") -> str | None:
    """A text or None. A number counts as text: ids are strings here, whatever a platform makes of them."""
    value = holder.get(name)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise broken(path + name)


def hint(holder: Mapping[str, Any], name: str) -> str | None:
    """A text that nothing depends on: None if it is absent or of another type."""
    value = holder.get(name)
    return value if isinstance(value, str) and value else None


def identity(holder: Mapping[str, Any], name: str, path: str = "") -> str:
    """An id that has to be there: not empty and not endless."""
    value = text(holder, name, path)
    if not value or len(value) > LONGEST_ID:
        raise broken(path + name)
    return value


def moment(value: object, horizon: datetime | None = None) -> datetime | None:
    """A point in time that may be relied on: ISO 8601 with a zone, or Unix seconds as Meta writes them.

    None for anything else: no zone, a leap second, a year before WhatsApp existed, a time after `horizon`.
    """
    found = _unix(value) or _iso(value)
    if found is None or found < EARLIEST or (horizon is not None and found > horizon):
        return None
    return found


def clean(value: Any) -> Any:
    """A parsed value without NUL and lone surrogates. Raises `BadPayload` if it is nested beyond reason."""
    return _clean(value, set(), 0)


def _unix(value: object) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, int | str) or not _UNIX_SECONDS(str(value)):
        return None
    return datetime.fromtimestamp(int(value), UTC)


def _iso(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value)
        return None if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _text(body: bytes) -> str:
    if not body.strip():
        raise BadPayload("empty_body")
    if b"\0" in body[:4]:  # UTF-16 and UTF-32 of ASCII are valid UTF-8 with NULs between
        raise BadPayload("not_utf8")
    try:
        return body.removeprefix(_BOM).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadPayload("not_utf8") from error


def _parse(document: str) -> Any:
    try:
        return json.loads(
            document,
            object_pairs_hook=_pairs,
            parse_constant=_constant,
            parse_float=_finite,
            parse_int=_integer,
        )
    except json.JSONDecodeError as error:
        raise BadPayload("bad_json") from error
    except RecursionError as error:
        raise BadPayload("too_deep") from error


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadPayload("duplicate_key")
    return found


def _constant(_name: str) -> NoReturn:
    raise BadPayload("non_finite")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise BadPayload("non_finite")
    return value


def _integer(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise BadPayload("number_too_long")
    return int(digits)


def _clean(value: Any, notes: set[str], depth: int) -> Any:
    if depth > DEEPEST:
        raise BadPayload("too_deep")
    if isinstance(value, str):
        return _clean_text(value, notes)
    if isinstance(value, list):
        return [_clean(entry, notes, depth + 1) for entry in value]
    if isinstance(value, dict):
        return _pairs([(_clean_text(key, notes), _clean(entry, notes, depth + 1)) for key, entry in value.items()])
    return value


def _clean_text(value: str, notes: set[str]) -> str:
    if "\0" in value:
        notes.add("nul_removed")
        value = value.replace("\0", "")
    repaired = _SURROGATE.sub("\ufffd", value)
    if repaired != value:
        notes.add("surrogate_replaced")
    return repaired
