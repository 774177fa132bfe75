"""Reads the values of JSON that came from outside, tolerantly; the document itself was read strictly.

Whatever is wrong ends in `BadPayload` with a short constant reason; `schema` is followed by the path that was
expected, which comes from the code and never from the payload. Knows nothing of Kirim's events.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from crmsync import strict_json
from crmsync.errors import BadPayload

LONGEST_ID = 255
EARLIEST = datetime(2009, 1, 1, tzinfo=UTC)
"""WhatsApp's first year: nothing that Kirim holds can be older."""

_UNIX_SECONDS = re.compile(r"[0-9]{9,11}").fullmatch
_SURROGATE = re.compile("[\ud800-\udfff]")


def read_object(body: bytes) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The JSON object that a body is, and notes on what had to be repaired in its strings.

    NUL is removed and lone surrogates become U+FFFD, in keys and values alike: neither survives storage.
    """
    value = strict_json.read(body)
    if not isinstance(value, dict):
        raise BadPayload("not_object")
    if _is_clean(value):
        return value, ()
    notes: set[str] = set()
    return _clean(value, notes), tuple(sorted(notes))


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
    strict_json.check_depth(value)
    return value if _is_clean(value) else _clean(value, set())


def _is_clean(value: Any) -> bool:
    """Whether there is certainly nothing to take out, as in nearly every one: orjson writes no lone surrogate."""
    try:
        return b"\\u0000" not in orjson.dumps(value)
    except TypeError:
        return False


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


def _clean(value: Any, notes: set[str]) -> Any:
    if isinstance(value, str):
        return _clean_text(value, notes)
    if isinstance(value, list):
        return [_clean(entry, notes) for entry in value]
    if isinstance(value, dict):
        return strict_json.unique([(_clean_text(key, notes), _clean(entry, notes)) for key, entry in value.items()])
    return value


def _clean_text(value: str, notes: set[str]) -> str:
    if "\0" in value:
        notes.add("nul_removed")
        value = value.replace("\0", "")
    repaired = _SURROGATE.sub("\ufffd", value)
    if repaired != value:
        notes.add("surrogate_replaced")
    return repaired
