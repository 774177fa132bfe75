"""The admin socket: what commands ask of a running daemon. Loopback only, for the owner of the socket's file.

On SQLite the daemon is the only process that writes, so a command that changes something asks it to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Connection
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from crmsync.core.schedules import Schedules
from crmsync.flows import dead, report
from crmsync.flows.resync import resync
from crmsync.flows.tenant import Tenant
from crmsync.flows.unmapped import Assigning, assigning
from crmsync.store import chores
from crmsync.store.database import Database
from crmsync.store.lanes import Work


def application(
    database: Database,
    tenants: Mapping[str, Tenant],
    wake: Callable[[], None],
    clock: Callable[[], datetime],
    live: Callable[[], Mapping[str, Any]],
    *,
    routes: Sequence[BaseRoute] = (),
    schedules: Mapping[str, Schedules] = report.NO_SCHEDULES,
) -> Starlette:
    """`GET /status`, `POST /resync`, `/sweep` and `/dead`. `live` adds to the status what only the process knows."""

    async def status(request: Request) -> JSONResponse:
        users = _assigning(tenants)
        told = await asyncio.to_thread(database.read, lambda tx: report.status(tx, clock(), schedules, users))
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

    async def sweep(request: Request) -> JSONResponse:
        asked: Any = await request.json()
        tenant = str(asked.get("tenant"))
        if tenant not in tenants:
            return JSONResponse({"error": "no such tenant"}, 404)
        rung = clock()
        await asyncio.to_thread(database.write, lambda tx: chores.ring(tx, tenant, Work.SWEEP, rung, afresh=True))
        wake()
        return JSONResponse({"rung_at": rung.isoformat()})

    async def dead_letters(request: Request) -> JSONResponse:
        asked: Any = await request.json()
        action, names = dead.Action(asked["action"]), [str(name) for name in asked["names"]]
        outcome = await asyncio.to_thread(dead.act, database, action, names, clock, force=bool(asked.get("force")))
        wake()
        return JSONResponse(asdict(outcome))

    return Starlette(
        routes=[
            Route("/status", status),
            Route("/resync", read_again, methods=["POST"]),
            Route("/sweep", sweep, methods=["POST"]),
            Route("/dead", dead_letters, methods=["POST"]),
            *routes,
        ],
    )


def _assigning(tenants: Mapping[str, Tenant]) -> list[Assigning]:
    return [
        found
        for tenant in tenants.values()
        for each in tenant.connections.values()
        for found in assigning(tenant.id, each.name, each.rules.values(), each.connector.can)
    ]
