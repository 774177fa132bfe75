"""A webhook receiver on a real socket that keeps what it was sent and answers what it is told to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from crmsync.sandbox.server import Server


@dataclass(frozen=True, slots=True)
class Received:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return orjson.loads(self.body)


class Receiver:
    """A context manager. `statuses` are answered in turn, then 200 for ever; `answer` overrides both."""

    def __init__(self, *statuses: int, answer: Callable[[Received], int] | None = None) -> None:
        self.statuses = list(statuses)
        self.headers: dict[str, str] = {}
        self.requests: list[Received] = []
        self._answer = answer
        self._arrived = threading.Condition()
        self.server = Server(self._app)

    @property
    def url(self) -> str:
        """Where to post to."""
        return f"{self.server.url}/hooks"

    def __enter__(self) -> Receiver:
        self.server.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.server.stop()

    def wait_for(self, count: int, timeout: float = 10.0) -> list[Received]:
        """The requests, as soon as there are `count` of them."""
        with self._arrived:
            arrived = self._arrived.wait_for(lambda: len(self.requests) >= count, timeout)
            assert arrived, f"{len(self.requests)} of {count} requests came"
            return list(self.requests)

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        request = Received(scope["path"], headers, body)
        status = self._answer(request) if self._answer else (self.statuses.pop(0) if self.statuses else 200)
        with self._arrived:
            self.requests.append(request)
            self._arrived.notify_all()
        raw = [(b"content-length", b"0"), *((k.encode(), v.encode()) for k, v in self.headers.items())]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": b""})
