"""Posts small bodies over connections that are kept open, at a few hundred a second on a fraction of a core.

A client for the sandbox's own webhooks and nothing else: it reads the status and the headers of an answer, follows
no redirect and repeats nothing.
"""

from __future__ import annotations

import asyncio
import select
import ssl
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import httptools

LONGEST_IDLE = 2.0
"""Servers close idle connections after a few seconds; one that idled longer than this is not used again."""

Origin = tuple[str, str, int]


class NoAnswer(Exception):
    """The request may or may not have arrived."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; header names are lower case."""

    status: int
    headers: Mapping[str, str]

    @property
    def is_success(self) -> bool:
        """Whether the status is a 2xx."""
        return 200 <= self.status < 300


class _Connection(asyncio.Protocol):
    """One connection, one exchange at a time. The `on_…` methods are called by the parser."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._headers: dict[str, str] = {}
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[Answer] | None = None
        self.usable = False
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self.usable = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        self._fail("the connection was closed")

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail("the answer is not HTTP")
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_message_complete(self) -> None:
        self.usable = self.usable and self._parser.should_keep_alive()
        self.idle_since = self._loop.time()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(Answer(self._parser.get_status_code(), self._headers))

    async def exchange(self, request: bytes) -> Answer:
        """Sends a request and waits for its answer."""
        if self._transport is None:
            raise NoAnswer("not connected")
        self._answer, self._headers = self._loop.create_future(), {}
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(request)
        return await self._answer

    def ended(self) -> bool:
        """Whether the server closed it while it idled, though the loop may not have come to notice."""
        if self._transport is None or self._transport.is_closing():
            return True
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket"), select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Ends the connection."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    def _fail(self, reason: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(NoAnswer(reason))


class Poster:
    """A pool of connections on one event loop."""

    def __init__(self) -> None:
        self._idle: dict[Origin, list[_Connection]] = defaultdict(list)
        self._tls: ssl.SSLContext | None = None

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, timeout: float) -> Answer:
        """Posts once. Raises `NoAnswer` if no whole answer came within `timeout` seconds."""
        parts = urlsplit(url)
        origin = (parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
        request = _request(
            parts.netloc, f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}", headers, body
        )
        connection: _Connection | None = None
        try:
            async with asyncio.timeout(timeout):
                connection = self._reusable(origin) or await self._connect(origin)
                answer = await connection.exchange(request)
        except (OSError, TimeoutError) as error:
            raise NoAnswer(type(error).__name__) from error
        finally:
            # An exchange that did not end leaves the connection in no state for another.
            if connection is not None and not (connection.usable and connection.idle_since):
                connection.close()
        if connection.usable:
            self._idle[origin].append(connection)
        return answer

    def close(self) -> None:
        """Closes the connections that are idle."""
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()

    def _reusable(self, origin: Origin) -> _Connection | None:
        oldest = asyncio.get_running_loop().time() - LONGEST_IDLE
        idle = self._idle[origin]
        while idle:
            connection = idle.pop()
            if connection.usable and connection.idle_since > oldest and not connection.ended():
                connection.idle_since = 0.0
                return connection
            connection.close()
        return None

    async def _connect(self, origin: Origin) -> _Connection:
        scheme, host, port = origin
        if scheme == "https" and self._tls is None:
            self._tls = ssl.create_default_context()
        tls = self._tls if scheme == "https" else None
        _, connection = await asyncio.get_running_loop().create_connection(_Connection, host, port, ssl=tls)
        return connection


def _request(host: str, target: str, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = [f"POST {target} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
