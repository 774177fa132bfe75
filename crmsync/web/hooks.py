"""The webhook path: a small ASGI function in front of everything else. It reads bytes, and asks the intake.

`POST /hooks/{tenant}/{source}`. Whatever is not under /hooks/ goes to the application behind.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from datetime import datetime
from typing import Any

from crmsync import crash
from crmsync.flows.intake import Answer, Intake
from crmsync.model import WebhookRequest

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

PREFIX = "/hooks/"
BODY_LIMIT = 8 * 1024 * 1024
MEMORY_LIMIT = 128 * 1024 * 1024
"""Bytes of bodies that may be in memory at the same time; a body counts when it grows beyond its first message."""

WORDS = {
    200: b"ok",
    401: b"unauthorized",
    404: b"not_found",
    405: b"method_not_allowed",
    413: b"too_large",
    429: b"slow_down",
    503: b"unavailable",
}


class TooLarge(Exception):
    """The body is over its limit."""


class Overloaded(Exception):
    """All bodies together are over their limit."""


class Gone(Exception):
    """The sender hung up, or was cut off for being too slow."""


class Hooks:
    """Answers what is under `/hooks/`, and hands everything else to `rest`."""

    def __init__(
        self, intake: Intake, rest: Application, clock: Callable[[], datetime], *, body_limit: int = BODY_LIMIT
    ) -> None:
        self._intake = intake
        self._rest = rest
        self._clock = clock
        self._body_limit = body_limit
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the application's life span."""
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self._rest(scope, receive, send)
            return
        try:
            answer, whole = await self._answer(scope, receive)
        except Gone:
            return
        crash.point("hook.answer")
        await reply(send, answer, close=not whole)
        crash.point("hook.answered")

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[Answer, bool]:
        """The answer, and whether the request was read to its end."""
        tenant, _, name = scope["path"][len(PREFIX) :].partition("/")
        source = self._intake.find(tenant, name)
        headers = scope["headers"]
        if source is None:
            return self._intake.unknown_path(headers, address_of(scope)), False
        if scope["method"] == "GET" and b"hub.challenge" in scope["query_string"]:
            return self._intake.not_offered(source), False
        crash.point("hook.head")
        early = self._intake.before_body(source, scope["method"], headers)
        if early is not None:
            return early, False
        try:
            body = await self._body(headers, receive)
        except TooLarge:
            return self._intake.too_large(source, headers), False
        except Overloaded:
            return self._intake.overloaded(source), False
        crash.point("hook.body")
        return await self._intake.receive(source, self._request(scope, body)), True

    def _request(self, scope: Scope, body: bytes) -> WebhookRequest:
        path = scope["raw_path"].decode("ascii", "replace")
        return WebhookRequest(scope["method"], path, tuple(scope["headers"]), body, self._clock())

    async def _body(self, headers: list[tuple[bytes, bytes]], receive: Receive) -> bytes:
        """The raw bytes. The server sets the deadline; here is the limit of size and of memory."""
        if _announced(headers) > self._body_limit:
            raise TooLarge
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            body: bytes = message["body"]  # nearly always: all of it came with the head
            if len(body) > self._body_limit:
                raise TooLarge
            return body
        return await self._long_body(message, receive)

    async def _long_body(self, message: Message, receive: Receive) -> bytes:
        parts = bytearray()
        try:
            while True:
                if message["type"] != "http.request":
                    raise Gone
                part = message["body"]
                parts += part
                self._held += len(part)
                if len(parts) > self._body_limit:
                    raise TooLarge
                if self._held > MEMORY_LIMIT:
                    raise Overloaded
                if not message.get("more_body"):
                    return bytes(parts)
                message = await receive()
        finally:
            self._held -= len(parts)


def address_of(scope: Scope) -> str:
    """Who is at the other end. Behind a proxy all are one: what a request says of its way there proves nothing."""
    host, _ = scope.get("client") or ("", 0)
    return str(host)


def _announced(headers: list[tuple[bytes, bytes]]) -> int:
    """The length that the head promises; the server has checked that it is a number."""
    return next((int(value) for name, value in headers if name == b"content-length"), 0)


async def reply(send: Send, answer: Answer, *, close: bool = False) -> None:
    """Sends the status and one constant word. A connection with an unread body cannot be used again."""
    word = WORDS[answer.status]
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(word))]
    if answer.retry_after is not None:
        headers.append((b"retry-after", b"%d" % answer.retry_after))
    if answer.allow is not None:
        headers.append((b"allow", answer.allow.encode()))
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": word})
