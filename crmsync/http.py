"""The one seam to the wire: clients are made here, and what a platform answers becomes one of our errors here.

Redirects are never followed, every request has a deadline, answers are cut at a size, environment proxies and
netrc files are not read. Nothing of a payload reaches an error message.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

import httpx
import orjson

from crmsync.errors import ConnectorError, Reject, Retry, Suspend

TIMEOUT = httpx.Timeout(30, connect=5)
LONGEST_WAIT = timedelta(hours=24)
ANSWER_LIMIT = 16 * 1024 * 1024
PASSING = frozenset({408, 423, 425, 429, 477, 500, 502, 503, 504, 521, 522, 523, 524})
"""Statuses after which the same request may succeed. 423, 477 and 52x are HubSpot's (error-handling page)."""


def wall_clock() -> datetime:
    """The present, where the outside world is met; everything further in is handed a clock."""
    return datetime.now(UTC)


class Budget(Protocol):
    """What may be sent, and when. Shared by every user of one credential."""

    def take(self, bucket: str = "") -> None:
        """Waits for leave to send one request; raises `Retry` rather than wait long.

        `bucket` names a limit of its own within the credential ("search", "read", "write").
        """

    def hold(self, until: timedelta, bucket: str = "") -> None:
        """Sends nothing for that long: the platform named a time. A named bucket is held alone."""

    def observe(self, remaining: int, limit: int, bucket: str = "") -> None:
        """What the platform's headers said after a request."""


class Unlimited:
    """The budget of a test, or of a platform without limits."""

    def take(self, bucket: str = "") -> None:
        """Always at once."""

    def hold(self, until: timedelta, bucket: str = "") -> None:
        """Does not hold."""

    def observe(self, remaining: int, limit: int, bucket: str = "") -> None:
        """Does not matter."""


def retry_after(header: str | None, now: datetime) -> timedelta | None:
    """How long a Retry-After header asks to wait: seconds, or an HTTP date; None if it says nothing usable.

    Capped at 24 hours; a negative wait is none at all.
    """
    if not header:
        return None
    text = header.strip()
    try:
        wait = timedelta(seconds=float(text))
    except OverflowError:
        return LONGEST_WAIT
    except ValueError:
        try:
            wait = parsedate_to_datetime(text) - now
        except (ValueError, TypeError):
            return None
    return min(wait, LONGEST_WAIT) if wait > timedelta(0) else None


def classify(platform: str, status: int, *, detail: str = "", after: timedelta | None = None) -> ConnectorError:
    """The error that an HTTP status means, for platforms that mean what HTTP says. `detail` is a code, no payload."""
    said = f"{platform} answered {status}" + (f" {detail}" if detail else "")
    if status in (401, 403):
        return Suspend(said, after)
    if status in PASSING or status >= 500:
        return Retry(said, after, ambiguous=status >= 500)
    if 300 <= status < 400:
        return Reject(f"{said}: redirects are not followed")
    return Reject(said)


class Http:
    """One JSON API: a base URL, its headers, its budget."""

    def __init__(
        self,
        platform: str,
        base_url: str,
        headers: Mapping[str, str],
        budget: Budget,
        *,
        timeout: httpx.Timeout = TIMEOUT,
    ) -> None:
        self.platform = platform
        self.budget = budget
        self._client = httpx.Client(
            base_url=base_url,
            headers={"Accept": "application/json", **headers},
            timeout=timeout,
            follow_redirects=False,
            trust_env=False,
        )

    def close(self) -> None:
        """Closes the connection pool."""
        self._client.close()

    def send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        bucket: str = "",
    ) -> httpx.Response:
        """Sends one request once and returns whatever was answered.

        Raises `Retry` when no whole answer came: `ambiguous` unless the connection was never made.
        """
        self.budget.take(bucket)
        request = self._client.build_request(
            method,
            path,
            params=params,
            content=None if body is None else orjson.dumps(body),
            headers={**({} if body is None else {"Content-Type": "application/json"}), **(headers or {})},
        )
        try:
            response = self._client.send(request, stream=True)
            try:
                response._content = self._read(response)
            finally:
                response.close()
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise Retry(f"{self.platform} could not be reached ({type(error).__name__})") from error
        except httpx.HTTPError as error:
            raise Retry(f"{self.platform} did not answer ({type(error).__name__})", ambiguous=True) from error
        wait = retry_after(response.headers.get("Retry-After"), wall_clock())
        if wait is not None and response.status_code in PASSING:
            self.budget.hold(wait)
        return response

    def _read(self, response: httpx.Response) -> bytes:
        """The whole body, unless it is larger than anything a platform sends on purpose."""
        parts: list[bytes] = []
        size = 0
        for part in response.iter_bytes():
            size += len(part)
            if size > ANSWER_LIMIT:
                raise Retry(f"{self.platform} answered with more than {ANSWER_LIMIT >> 20} MiB", ambiguous=True)
            parts.append(part)
        return b"".join(parts)

    def json(self, response: httpx.Response) -> Any:
        """The body of an answer as JSON. Raises `Retry` for HTML, truncation, or anything else that is not JSON."""
        try:
            return orjson.loads(response.content)
        except orjson.JSONDecodeError as error:
            raise Retry(
                f"{self.platform} answered {response.status_code} with something that is not JSON", ambiguous=True
            ) from error
