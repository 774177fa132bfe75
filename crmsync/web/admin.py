"""The admin socket: what commands ask of a running daemon. Loopback only, for the owner of the socket's file.

On SQLite the daemon is the only process that writes, so a command that changes something asks it to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from crmsync.flows import report
from crmsync.flows.resync import resync
from crmsync.flows.tenant import Tenant
from crmsync.store.database import Database


def application(
    database: Database,
    tenants: Mapping[str, Tenant],
    wake: Callable[[], None],
    clock: Callable[[], datetime],
    live: Callable[[], Mapping[str, Any]],
) -> Starlette:
    """`GET /status` and `POST /resync`. `live` adds to the status what only the process knows."""

    async def status(request: Request) -> JSONResponse:
        told = await asyncio.to_thread(database.read, lambda tx: report.status(tx, clock()))
        return JSONResponse({**told, **live()})

    async def read_again(request: Request) -> JSONResponse:
        asked: Any = await request.json()
        tenant = tenants.get(str(asked.get("tenant")))
        if tenant is None:
            return JSONResponse({"error": "no such tenant"}, 404)

        def write(tx: Connection) -> int:
            return resync(tx, tenant, str(asked.get("id")), clock())

        marked = await asyncio.to_thread(database.write, write)
        wake()
        return JSONResponse({"records": marked})

    return Starlette(
        routes=[Route("/status", status), Route("/resync", read_again, methods=["POST"])],
    )
