"""How one call to Kirim travels: budget, idempotency key, limits from headers, paging, and errors as ours.

Knows the envelope `{data, has_more, next_cursor, error}` and no resource. Nothing is repeated except a GET
for which no connection could be made.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

import httpx
import orjson
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from crmsync.errors import ConnectorError, Reject, Retry
from crmsync.http import Budget, Http, classify, retry_after
from crmsync.outbound import PUBLIC, Reach

PLATFORM = "kirim"
PAGE_LIMIT = 100
READ, WRITE = "read", "write"

Row = Mapping[str, Any]

_CODE = re.compile(r"[A-Za-z0-9_]{1,64}").fullmatch
_PARAM = re.compile(r"[A-Za-z0-9_.\-/\[\]]{1,100}").fullmatch
_WHOLE = re.compile(r"[0-9]{1,9}").fullmatch


@dataclass(frozen=True, slots=True)
class Listing:
    """One page: its rows, and the cursor of the next page or None after the last."""

    rows: tuple[Row, ...]
    next_cursor: str | None


class Wire:
    """One API key at one address. Safe to use from several threads."""

    def __init__(
        self,
        base_url: str,
        api_key: str,
        budget: Budget,
        clock: Callable[[], datetime],
        patience: float,
        reach: Reach = PUBLIC,
    ) -> None:
        timeout = httpx.Timeout(patience, connect=min(5, patience))
        headers = {"Authorization": f"Bearer {api_key}"}
        self._http = Http(PLATFORM, base_url, headers, budget, timeout=timeout, reach=reach)
        self._clock = clock

    def close(self) -> None:
        """Lets go of the connections."""
        self._http.close()

    def page(self, path: str, params: Row, cursor: str | None, *, limit: int | None = PAGE_LIMIT) -> Listing:
        """One page of a list. Whoever promises more has to say where, and not where we have just been."""
        answer = self.answer("GET", path, params={**params, **given(limit=limit, cursor=cursor)})
        rows = answer.get("data")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            _unreadable()
        following = answer.get("next_cursor") if answer.get("has_more") else None
        if answer.get("has_more") and (not isinstance(following, str) or following in ("", cursor)):
            raise Retry(f"{PLATFORM} says that there are more rows but not where")
        return Listing(tuple(rows), following)

    def walk(self, page: Callable[[str | None], Listing]) -> Iterator[Row]:
        """Page after page. A cursor that comes back a second time would go in circles for ever."""
        cursor: str | None = None
        seen: set[str | None] = set()
        while cursor not in seen:
            seen.add(cursor)
            listing = page(cursor)
            yield from listing.rows
            if listing.next_cursor is None:
                return
            cursor = listing.next_cursor
        raise Retry(f"{PLATFORM} repeats a cursor")

    def find(
        self, path: str, method: str = "GET", body: Row | None = None, *, absent: Sequence[int] = (404,)
    ) -> Row | None:
        """One resource by id, or None if there is none."""
        answer = self.answer(method, path, body=body, absent=absent)
        return None if answer is _ABSENT else _data(answer)

    def one(self, method: str, path: str, body: Row | None = None, idempotency_key: str | None = None) -> Row:
        """The resource that a call returns."""
        return _data(self.answer(method, path, body=body, idempotency_key=idempotency_key))

    def answer(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        body: Row | None = None,
        idempotency_key: str | None = None,
        absent: Sequence[int] = (),
    ) -> Row:
        """The body of a successful answer; `_ABSENT` for a status that says so."""
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex} if method == "POST" else {}
        content = None if body is None else _fragment(body)
        response = self._exchange(method, path, params, content, headers)
        self._note_limits(response, method)
        if response.status_code in absent:
            return _ABSENT
        if not response.is_success:
            raise error_of(response, self._clock())
        return _read(response)

    def _exchange(
        self,
        method: str,
        path: str,
        params: Mapping[str, str | int] | None,
        content: object,
        headers: Mapping[str, str],
    ) -> httpx.Response:
        """One request. A GET for which no connection could be made is tried twice more: nothing was sent."""
        bucket = READ if method == "GET" else WRITE

        def send() -> httpx.Response:
            return self._http.send(method, path, params=params, body=content, headers=headers, bucket=bucket)

        if method != "GET":
            return send()
        return Retrying(
            retry=retry_if_exception(_no_connection),
            stop=stop_after_attempt(3),
            wait=wait_random_exponential(multiplier=0.1, max=1),
            reraise=True,
        )(send)

    def _note_limits(self, response: httpx.Response, method: str) -> None:
        """Tells the budget what the headers say. They are on every success and every 4xx."""
        limit = response.headers.get("X-RateLimit-Limit", "")
        remaining = response.headers.get("X-RateLimit-Remaining", "")
        if _WHOLE(limit) and _WHOLE(remaining):
            self._http.budget.observe(int(remaining), int(limit), READ if method == "GET" else WRITE)


_ABSENT: Row = {}


def error_of(response: httpx.Response, now: datetime) -> ConnectorError:
    """The error that an answer of Kirim means. Only its code and the name of the field are taken from it."""
    stated = _stated(response)
    code = str(stated.get("code", ""))
    detail = code if _CODE(code) else ""
    after = retry_after(response.headers.get("Retry-After"), now)
    status = response.status_code
    said = f"{PLATFORM} answered {status}" + (f" {detail}" if detail else "")
    if status == 409 and code == "idempotency_in_progress":
        return Retry(said, after)
    if status == 500 and _WHOLE(code):  # WhatsApp's own refusal, passed on as if the server had failed
        return Reject(said)
    found = classify(PLATFORM, status, detail=detail, after=after)
    return Reject(str(found), fields=_guilty(stated)) if isinstance(found, Reject) else found


def _stated(response: httpx.Response) -> Row:
    """The error object of an answer; empty for anything that is none, such as a proxy's page."""
    try:
        body = json.loads(response.content)
    except (ValueError, RecursionError):
        return {}
    error = body.get("error") if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {}


def _guilty(error: Row) -> Sequence[str]:
    """The field an error points at, as `metadata.key` whether it was written with dots or slashes."""
    param = error.get("param")
    if not isinstance(param, str) or not _PARAM(param):
        return ()
    name = param.strip("/").replace("/", ".")
    return (name,) if name else ()


def _no_connection(error: BaseException) -> bool:
    """Whether the platform was not reached at all; our own budget's refusal has no cause on the wire."""
    return isinstance(error, Retry) and isinstance(error.__cause__, httpx.ConnectError)


def _read(response: httpx.Response) -> Row:
    """The JSON object of a successful answer; an answer without a body is an empty one.

    The standard parser is used because it reads what Kirim's customers may have stored: lone surrogates, and
    integers of any length.
    """
    if not response.content:
        return {}
    try:
        body = json.loads(response.content, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Retry(f"{PLATFORM} answered with something that is not JSON", ambiguous=True) from error
    if not isinstance(body, dict):
        _unreadable()
    return body


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _data(answer: Row) -> Row:
    """The resource in an answer; empty where a success has no body."""
    data = answer.get("data", {})
    if not isinstance(data, dict):
        _unreadable()
    return data


def _unreadable() -> NoReturn:
    raise Retry(f"{PLATFORM} answered with JSON of another shape", ambiguous=True)


def _fragment(body: Row) -> orjson.Fragment:
    """The body, spelled by the standard encoder: it can send back whatever `_read` was given."""
    try:
        return orjson.Fragment(json.dumps(body, allow_nan=False, separators=(",", ":")))
    except ValueError as error:
        raise Reject("a value cannot be written as JSON") from error


def given(**values: Any) -> dict[str, Any]:
    """The arguments that were given."""
    return {name: value for name, value in values.items() if value is not None}
