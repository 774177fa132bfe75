"""The one seam to the wire: clients are made here, and what a platform answers becomes one of our errors here.

Redirects are never followed, every request has a deadline, answers are cut at a size, environment proxies and
netrc files are not read, and connections go where `outbound.Reach` lets them. Nothing of a payload reaches an error
message.
"""

from __future__ import annotations

import ssl
import zlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

import httpcore
import httpx
import orjson

from crmsync.errors import ConnectorError, Reject, Retry, Suspend
from crmsync.outbound import DEADLINE, LONGEST_REQUEST, PUBLIC, ForbiddenAddress, Reach

TIMEOUT = httpx.Timeout(LONGEST_REQUEST, connect=5)
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


def unanswered(platform: str, error: BaseException, *, sent: bool) -> ConnectorError:
    """The error for a request that got no whole answer; `sent` if it may have reached the platform all the same.

    An address that is not public, or a certificate that proves nothing, is for people to look at.
    """
    for cause in _causes(error):
        if isinstance(cause, ForbiddenAddress):
            return Suspend(f"{platform}: nothing is sent, {cause}")
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Suspend(f"{platform}: nothing is sent, the certificate is not to be trusted ({cause.verify_code})")
    how = "did not answer" if sent else "could not be reached"
    return Retry(f"{platform} {how} ({type(error).__name__})", ambiguous=sent)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what led to it. Libraries keep that in several places."""
    todo, seen = [error], set[int]()
    while todo:
        one = todo.pop()
        if id(one) not in seen:
            seen.add(id(one))
            yield one
            todo += [each for each in (one.__cause__, one.__context__, *one.args) if isinstance(each, BaseException)]


class _Stream(httpcore.NetworkStream):
    """A connection on which nothing outlives the request's deadline."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            return self._inner.read(max_bytes, DEADLINE.clamped(timeout))
        except TimeoutError as error:
            raise httpcore.ReadTimeout(str(error)) from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            self._inner.write(buffer, DEADLINE.clamped(timeout))
        except TimeoutError as error:
            raise httpcore.WriteTimeout(str(error)) from error

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, DEADLINE.clamped(timeout)))

    def close(self) -> None:
        self._inner.close()

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.SyncBackend):
    """Connects to addresses that were judged, not to names."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        trouble: Exception | None = None
        try:
            for address in self._reach.addresses(host, port):
                try:
                    return _Stream(super().connect_tcp(address, port, DEADLINE.clamped(timeout), None, socket_options))
                except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                    trouble = error
        except ForbiddenAddress:
            raise
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ConnectError(type(error).__name__) from error
        raise trouble or httpcore.ConnectError("the name has no address")


class _Transport(httpx.HTTPTransport):
    """httpx's own, with a pool that connects through `_Backend`."""

    def __init__(self, reach: Reach) -> None:
        context = httpx.create_ssl_context(trust_env=False)
        super().__init__(verify=context, trust_env=False)
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=100,
            max_keepalive_connections=20,
            keepalive_expiry=5,
            network_backend=_Backend(reach),
        )


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
        reach: Reach = PUBLIC,
    ) -> None:
        self.platform = platform
        self.budget = budget
        self._patience = timeout.read or LONGEST_REQUEST
        self._client = httpx.Client(
            base_url=base_url,
            headers={"Accept": "application/json", "Accept-Encoding": "gzip", **headers},
            timeout=timeout,
            follow_redirects=False,
            trust_env=False,
            transport=_Transport(reach),
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
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        bucket: str = "",
    ) -> httpx.Response:
        """Sends one request once and returns whatever was answered, all within the patience there is.

        `body` goes as JSON, `content` as it is.

        Raises `Retry` when no whole answer came (`ambiguous` unless the connection was never made), `Suspend` where
        nothing may be sent.
        """
        self.budget.take(bucket)
        request = self._client.build_request(
            method,
            path,
            params=params,
            content=content if body is None else orjson.dumps(body),
            headers={**({} if body is None else {"Content-Type": "application/json"}), **(headers or {})},
        )
        try:
            with DEADLINE.within(self._patience):
                response = self._client.send(request, stream=True)
                try:
                    response._content = self._read(response)
                finally:
                    response.close()
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, ForbiddenAddress) as error:
            raise unanswered(self.platform, error, sent=False) from error
        except (httpx.HTTPError, zlib.error) as error:
            raise unanswered(self.platform, error, sent=True) from error
        wait = retry_after(response.headers.get("Retry-After"), wall_clock())
        if wait is not None and response.status_code in PASSING:
            self.budget.hold(wait)
        return response

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        bucket: str = "",
    ) -> Any:
        """The JSON of a success, for platforms that mean what HTTP says. Raises what the trouble means, like `send`."""
        response = self.send(method, path, params=params, body=body, headers=headers, bucket=bucket)
        if not response.is_success:
            after = retry_after(response.headers.get("Retry-After"), wall_clock())
            raise classify(self.platform, response.status_code, after=after)
        return self.json(response)

    def _read(self, response: httpx.Response) -> bytes:
        """The whole body, unless it is larger than anything a platform sends on purpose."""
        whole = bytearray()
        inflate = None
        if response.headers.get("Content-Encoding", "").strip().lower() in ("gzip", "x-gzip"):
            inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
        for part in response.iter_raw():
            whole += part if inflate is None else inflate.decompress(part, ANSWER_LIMIT + 1 - len(whole))
            if len(whole) > ANSWER_LIMIT:
                raise Retry(f"{self.platform} answered with more than {ANSWER_LIMIT >> 20} MiB", ambiguous=True)
        if inflate is not None and whole and not inflate.eof:
            raise Retry(f"{self.platform} did not answer (cut short)", ambiguous=True)
        return bytes(whole)

    def json(self, response: httpx.Response) -> Any:
        """The body of an answer as JSON. Raises `Retry` for HTML, truncation, or anything else that is not JSON."""
        try:
            return orjson.loads(response.content)
        except orjson.JSONDecodeError as error:
            raise Retry(
                f"{self.platform} answered {response.status_code} with something that is not JSON", ambiguous=True
            ) from error
