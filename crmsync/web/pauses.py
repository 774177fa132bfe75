"""The admin socket's part of pausing: a running daemon pauses and resumes when it is asked to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from crmsync.flows import pausing
from crmsync.flows.pausing import Alert
from crmsync.store.database import Database


def routes(
    database: Database, wake: Callable[[], None], clock: Callable[[], datetime], alert: Alert | None = None
) -> list[Route]:
    """`POST /pause` and `/resume` with a tenant, its connections, and a kind of write."""

    async def pause(request: Request) -> JSONResponse:
        asked: Any = await request.json()
        names, reason = [str(name) for name in asked["connections"]], str(asked.get("reason") or "")
        tenant, what = str(asked["tenant"]), str(asked["class"])
        told = await asyncio.to_thread(pausing.pause, database, tenant, names, what, reason, clock)
        return JSONResponse({"paused": told})

    async def resume(request: Request) -> JSONResponse:
        asked: Any = await request.json()
        names = [str(name) for name in asked["connections"]]
        tenant, what = str(asked["tenant"]), str(asked["class"])
        told = await asyncio.to_thread(pausing.resume, database, tenant, names, what, clock, alert)
        wake()
        return JSONResponse({"resumed": told})

    return [Route("/pause", pause, methods=["POST"]), Route("/resume", resume, methods=["POST"])]
