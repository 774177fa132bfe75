"""The web side put together: the hook path in front, then Starlette with the health checks and whatever is added."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from crmsync.errors import StoreError
from crmsync.flows.intake import Intake
from crmsync.store.database import Database
from crmsync.web.hooks import BODY_LIMIT, WORDS, Hooks, Receive, Scope, Send, address_of

FRESH = 5.0
"""Seconds for which a commit vouches for the next one."""
PROBE_PATIENCE = 2.0


class Readiness:
    """Whether a delivery that came now would be committed: a write was, lately, there is room on the disk, and we are
    not on our way out.
    """

    def __init__(
        self,
        database: Database,
        monotonic: Callable[[], float] = time.monotonic,
        has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        self.draining = False
        self._has_room = has_room
        self._database = database
        self._monotonic = monotonic
        self._probing = asyncio.Lock()

    async def check(self) -> bool:
        """Commits a probe only if nothing was committed lately, and never two at a time."""
        if not self._has_room():
            return False
        if self.draining or self._probing.locked():
            return not self.draining and self._is_fresh()
        async with self._probing:
            if not self._is_fresh():
                try:
                    await asyncio.wait_for(asyncio.to_thread(self._database.probe), PROBE_PATIENCE)
                except (StoreError, TimeoutError):
                    return False
        return not self.draining

    def _is_fresh(self) -> bool:
        last = self._database.last_commit
        return last > 0 and self._monotonic() - last < FRESH


class Site:
    """The ASGI application of one node."""

    def __init__(
        self,
        intake: Intake,
        database: Database,
        clock: Callable[[], datetime],
        *,
        routes: Sequence[BaseRoute] = (),
        body_limit: int = BODY_LIMIT,
        has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        self.intake = intake
        self.readiness = Readiness(database, has_room=has_room)
        pages = Starlette(
            routes=[Route("/livez", self._livez), Route("/readyz", self._readyz), *routes],
            exception_handlers={404: self._not_found, 405: self._not_found},
        )
        pages.router.redirect_slashes = False  # a sender of webhooks must never see a redirect
        self._hooks = Hooks(intake, pages, clock, body_limit=body_limit)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        await self._hooks(scope, receive, send)

    def drain(self) -> None:
        """Says "not ready", and stores nothing that comes from now on."""
        self.readiness.draining = True
        self.intake.draining = True

    async def _livez(self, request: Request) -> Response:
        """The loop turns; that is all it says."""
        return PlainTextResponse("alive")

    async def _readyz(self, request: Request) -> Response:
        if await self.readiness.check():
            return PlainTextResponse("ready")
        return PlainTextResponse("not_ready", 503, {"retry-after": "5"})

    async def _not_found(self, request: Request, error: Exception) -> Response:
        """A delivery that lost its way, by a proxy perhaps, is not refused for good."""
        answer = self.intake.unknown_path(request.scope["headers"], address_of(request.scope))
        if answer.retry_after is not None:
            word = WORDS[answer.status].decode()
            return PlainTextResponse(word, answer.status, {"retry-after": str(answer.retry_after)})
        assert isinstance(error, HTTPException)  # noqa: S101  it is registered for nothing else
        return PlainTextResponse("not_found", error.status_code, error.headers)
