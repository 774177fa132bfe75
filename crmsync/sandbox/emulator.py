"""What the emulators have in common: routes, counters, faults, observers, and a real server around them.

An emulator's handlers are plain functions from a `Call` to a `Reply`. They run one at a time, so that a test may
use the emulator's methods from any thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from random import Random
from typing import Any, Self
from urllib.parse import parse_qs

import orjson
from starlette.types import Receive, Scope, Send

from crmsync.sandbox.faults import Fault, Faults, Trouble
from crmsync.sandbox.ledger import Ledger
from crmsync.sandbox.server import ABORT, Job, Server

Clock = Callable[[], datetime]

_HTML = b"<!DOCTYPE html><html><head><title>Maintenance</title></head><body><h1>Back soon</h1></body></html>"


def wall_clock() -> datetime:
    """The present. An emulator stands for the outside world, so it may look at the clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `route` is the template its path matched, `params` what stood in the template's braces."""

    method: str
    path: str
    route: str
    params: Mapping[str, str]
    query: Mapping[str, Sequence[str]]
    headers: Mapping[str, str]
    body: bytes

    def param(self, name: str, default: str = "") -> str:
        """The first value of a query parameter."""
        return self.query.get(name, [default])[0]

    def json(self) -> Any:
        """The body as JSON; None for an empty body. Raises `ValueError` for anything else."""
        return orjson.loads(self.body) if self.body else None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; a `body` of None sends none, bytes go as they are."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """Raised by a handler to end a call with an error answer."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply.status))
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and its answer, as observers see them. `reply` is None where no answer was sent."""

    call: Call
    reply: Reply | None
    fault: Fault | None


Handler = Callable[[Call], Reply]


class Emulator:
    """A platform on a loopback socket. A context manager; also an ASGI application (`app`).

    `calls` counts requests as `"POST /route/{id}"`, whatever became of them; `ledger` has what took effect.
    """

    def __init__(self, *, seed: int = 0, clock: Clock = wall_clock, background: Sequence[Job] = ()) -> None:
        self.clock = clock
        self.random = Random(seed)
        self.ledger = Ledger()
        self.calls: Counter[str] = Counter()
        self.faults = Faults(seed)
        self.on_exchange: list[Callable[[Exchange], None]] = []
        self.lock = threading.RLock()
        self._routes: list[tuple[str, str, re.Pattern[str], Handler]] = []
        self.server = Server(self.app, background=background)

    # -- what a platform fills in

    def route(self, method: str, template: str, handler: Handler) -> None:
        """Registers a handler; earlier routes win."""
        pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", template) + r"\Z")
        self._routes.append((method, template, pattern, handler))

    def rewrite(self, path: str) -> str:
        """The path that the routes know for the path that was asked."""
        return path

    def admit(self, call: Call) -> None:
        """Checks credential and limits; raises `Refusal`."""

    def perform(self, handler: Handler, call: Call) -> Reply:
        """Runs a handler. A platform wraps its own error handling and idempotency around it."""
        return handler(call)

    def finish(self, call: Call, reply: Reply) -> Reply:
        """Adds the headers that the platform puts on its answers."""
        return reply

    def error_body(self, status: int) -> Mapping[str, Any]:
        """The platform's body for an error status that a fault asks for."""
        return {"status": status}

    def not_found(self, call: Call) -> Reply:
        """The answer to a path that no route has."""
        return Reply(404, self.error_body(404))

    # -- the server

    @property
    def url(self) -> str:
        """The base URL of the running server."""
        return self.server.url

    def start(self) -> Self:
        """Starts the server."""
        self.server.start()
        return self

    def stop(self) -> None:
        """Stops the server."""
        self.server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    # -- a request's way

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        body = await _read(receive)
        if body is None:
            return
        handler, call = self._match(scope, body)
        self.calls[f"{call.method} {call.route}"] += 1
        fault = self.faults.draw(call.method, call.path)
        reply = await self._reply(handler, call, fault, receive)
        for observer in self.on_exchange:
            observer(Exchange(call, reply, fault))
        if reply is None:
            scope["extensions"][ABORT]()
            await _disconnected(receive)
        else:
            await _send(reply, fault, send)

    def answer(self, handler: Handler | None, call: Call) -> Reply:
        """Runs a handler under the lock, with everything the platform does around it."""
        with self.lock:
            try:
                self.admit(call)
                reply = self.perform(self.not_found if handler is None else handler, call)
            except Refusal as refusal:
                reply = refusal.reply
            return self.finish(call, reply)

    def _match(self, scope: Scope, body: bytes) -> tuple[Handler | None, Call]:
        call = Call(
            method=scope["method"],
            path=self.rewrite(scope["path"]),
            route="(unknown)",
            params={},
            query=parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True),
            headers={name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
            body=body,
        )
        for method, template, pattern, handler in self._routes:
            if method == call.method and (found := pattern.match(call.path)):
                return handler, replace(call, route=template, params=found.groupdict())
        return None, call

    async def _reply(self, handler: Handler | None, call: Call, fault: Fault | None, receive: Receive) -> Reply | None:
        """Runs the handler when the fault lets it, and returns what is answered; None for a cut connection."""
        if fault is None:
            return self.answer(handler, call)
        if fault.trouble is Trouble.SLOW and not fault.applied:
            await _pause(fault.seconds, receive)
        takes_effect = fault.applied or fault.trouble is Trouble.SLOW
        reply = self.answer(handler, call) if takes_effect else Reply(200, {})
        match fault.trouble:
            case Trouble.SLOW if fault.applied:
                await _pause(fault.seconds, receive)
            case Trouble.STATUS:
                return self._failure(fault)
            case Trouble.HANG:
                await _disconnected(receive)
                return None
            case Trouble.RESET:
                return None
        return reply

    def _failure(self, fault: Fault) -> Reply:
        headers = {}
        if fault.after is not None:
            due = self.clock() + timedelta(seconds=fault.after)
            headers["Retry-After"] = format_datetime(due, usegmt=True) if fault.after_as_date else f"{fault.after:g}"
        return Reply(fault.status, fault.body or self.error_body(fault.status), headers)


async def _read(receive: Receive) -> bytes | None:
    """The whole body; None if the client left."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _pause(seconds: float, receive: Receive) -> None:
    """Waits, but not longer than the client does."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await _disconnected(receive)


async def _send(reply: Reply, fault: Fault | None, send: Send) -> None:
    trouble = None if fault is None else fault.trouble
    status, content_type = reply.status, reply.headers.get("content-type", "application/json;charset=utf-8")
    body = reply.body if isinstance(reply.body, bytes) else b"" if reply.body is None else orjson.dumps(reply.body)
    if trouble is Trouble.TRUNCATED:
        body = body[: len(body) // 2]
    elif trouble is Trouble.WRONG_TYPE:
        content_type = "text/plain"
    elif trouble is Trouble.HTML:
        status, content_type, body = 200, "text/html", _HTML
    headers = {"content-length": str(len(body)), **reply.headers}
    if body:
        headers["content-type"] = content_type
    if status == 204:
        headers.pop("content-length")
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
