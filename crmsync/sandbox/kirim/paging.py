"""Kirim's lists: limits, and opaque cursors that are bound to the filters they were made with."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, TypeVar

import orjson

from crmsync.sandbox.emulator import Call, Refusal, Reply

DEFAULT_LIMIT = 25
LARGEST_LIMIT = 100

T = TypeVar("T")


def refuse(
    status: int, code: str, message: str, *, param: str | None = None, headers: dict[str, str] | None = None
) -> Refusal:
    """An error in Kirim's envelope; the request id is added on the way out."""
    error = {"type": _TYPES.get(status, "api_error"), "code": code, "message": message}
    if param is not None:
        error["param"] = param
    return Refusal(Reply(status, {"error": error}, headers or {}))


_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found",
    409: "conflict",
    422: "invalid_request_error",
    429: "rate_limit_error",
}


def limit_of(call: Call) -> int:
    """The page size that was asked for."""
    text = call.param("limit", str(DEFAULT_LIMIT))
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= LARGEST_LIMIT):
        raise refuse(400, "invalid_limit", f"limit must be between 1 and {LARGEST_LIMIT}", param="limit")
    return int(text)


def read_cursor(call: Call, filters: Sequence[str]) -> list[Any] | None:
    """The place that a cursor names, or None for the beginning."""
    text = call.param("cursor")
    if not text:
        return None
    try:
        content = orjson.loads(base64.urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4)))
        place, check = content["at"], content["c"]
    except (ValueError, KeyError, TypeError):
        raise refuse(400, "invalid_cursor", "The cursor is malformed", param="cursor") from None
    if not isinstance(place, list) or check != _check(call, filters, place):
        raise refuse(400, "invalid_cursor", "The cursor does not belong to this request", param="cursor")
    return place


def page(
    call: Call,
    items: Iterable[T],
    filters: Sequence[str],
    place: Callable[[T], list[Any]],
    shown: Callable[[T], dict[str, Any]],
) -> Reply:
    """One page of `items`, which begin where the cursor points."""
    limit = limit_of(call)
    rows = list(islice(items, limit + 1))
    cursor = None
    if len(rows) > limit:
        at = place(rows[limit - 1])
        content = orjson.dumps({"at": at, "c": _check(call, filters, at)})
        cursor = base64.urlsafe_b64encode(content).decode().rstrip("=")
    body = {"data": [shown(row) for row in rows[:limit]], "has_more": cursor is not None, "next_cursor": cursor}
    return Reply(200, body)


def _check(call: Call, filters: Sequence[str], place: list[Any]) -> str:
    """Ties a cursor to the route, the filters and its own content, so that an altered one is noticed."""
    bound = [call.path, *((name, call.param(name)) for name in filters), place]
    return hashlib.sha256(orjson.dumps(bound)).hexdigest()[:16]
