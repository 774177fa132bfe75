"""The admin socket's part of segments: a running daemon walks them when it is asked to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from crmsync.store import segments
from crmsync.store.database import Database


def routes(database: Database, wake: Callable[[], None], clock: Callable[[], datetime]) -> list[Route]:
    """`POST /segments` with a tenant, and perhaps a connection, a label, and leave to remove however many."""

    async def ring(request: Request) -> JSONResponse:
        asked: Any = await request.json()
        now = clock()

        def store(tx: Any) -> int:
            return segments.ring(
                tx,
                str(asked["tenant"]),
                now,
                name=str(asked.get("connection") or ""),
                label=str(asked.get("label") or ""),
                permitted=bool(asked.get("permitted")),
            )

        rung = await asyncio.to_thread(database.write, store)
        wake()
        return JSONResponse({"rung": rung, "at": now.isoformat()})

    return [Route("/segments", ring, methods=["POST"])]
