"""Reads JSON that came from outside as a document with one meaning, or refuses it.

Whatever is wrong ends in `BadPayload` with one of a few constant reasons: empty_body, not_utf8, bad_json,
duplicate_key, non_finite, number_too_long, too_deep. What the values ought to be is the caller's business.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any, NoReturn

from crmsync.errors import BadPayload

DEEPEST = 64
LONGEST_NUMBER = 1000

_BOM = b"\xef\xbb\xbf"


def read(body: bytes) -> object:
    """The value that a body is. Raises `BadPayload`."""
    document = _text(body)
    try:
        value = json.loads(
            document, object_pairs_hook=unique, parse_constant=_constant, parse_float=_finite, parse_int=_integer
        )
    except json.JSONDecodeError:
        raise BadPayload("bad_json") from None  # its cause would carry the body
    except RecursionError:
        raise BadPayload("too_deep") from None
    check_depth(value)
    return value


def check_depth(value: object) -> None:
    """Raises `BadPayload` for what is nested so deeply that walking through it is a risk."""
    level: list[Any] = [value]
    for _ in range(DEEPEST):
        level = [inner for outer in level for inner in _inside(outer) if isinstance(inner, (dict, list))]
        if not level:
            return
    raise BadPayload("too_deep")


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs. Raises `BadPayload` where a key comes twice: readers differ on which one counts."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadPayload("duplicate_key")
    return found


def _text(body: bytes) -> str:
    if not body.strip():
        raise BadPayload("empty_body")
    if b"\0" in body[:4]:  # UTF-16 and UTF-32 of ASCII are valid UTF-8 with NULs between
        raise BadPayload("not_utf8")
    try:
        return body.removeprefix(_BOM).decode("utf-8")
    except UnicodeDecodeError:
        raise BadPayload("not_utf8") from None


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


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
