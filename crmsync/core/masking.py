"""What a person may see of a payload without being told to: shape, types, ids and times, and no personal value.

Rather too much is masked than too little: a value is shown only if neither its name nor its look speaks against it.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

_PERSONAL = re.compile(
    r"phone|mobile|msisdn|wa_?id|mail|name|body|text|caption|address|street|city|birth|title|value|content|message|"
    r"profile|note|company|first|last|from|^to$|recipient|sender|url|link|token|secret|key|description|metadata",
    re.IGNORECASE,
)
_PLAIN = frozenset({"propertyname", "message_id", "messageid", "message_type", "phone_number_id", "name_of_event"})
_COUNTED = re.compile(r"(id|at|time|stamp|version|attempt|number|count)$", re.IGNORECASE)
_TELEPHONE = re.compile(r"\+?[\d\s().\-]{7,20}")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_LONGEST = 64


def masked(value: Any, name: str = "") -> Any:
    """The same document with every value that may be personal replaced by how long it is."""
    if isinstance(value, dict):
        return {key: masked(inner, _within(name, str(key))) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked(inner, name) for inner in value]
    if value is None or isinstance(value, bool) or value == "":
        return value
    if isinstance(value, str):
        return f"‹{len(value)} characters›" if _hidden(value, name) else value
    shown = not _named_personal(name) and (abs(value) < 1_000_000 or _COUNTED.search(name))
    return value if shown else "‹number›"


def masked_body(body: bytes) -> Any:
    """A delivery's body: masked if it is JSON, else only how long it is."""
    try:
        return masked(orjson.loads(body))
    except orjson.JSONDecodeError:
        return f"‹{len(body)} bytes that are no JSON›"


def plain_body(body: bytes) -> Any:
    """A delivery's body as it came; bytes that are no text are spelt out."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode("utf-8", "backslashreplace")


def _within(outer: str, name: str) -> str:
    """What is inside `metadata` or `profile` is as personal as that, whatever its name."""
    return outer if _named_personal(outer) and not name.lower().endswith("id") else name


def _named_personal(name: str) -> bool:
    return name.lower() not in _PLAIN and _PERSONAL.search(name) is not None


def _hidden(value: str, name: str) -> bool:
    if _named_personal(name) or len(value) > _LONGEST or "@" in value:
        return True
    if _DAY.match(value) or (name.lower() in _PLAIN):
        return False
    looks = _TELEPHONE.fullmatch(value) is not None and not name.lower().endswith("id")
    return looks or any(letter.isspace() for letter in value)
