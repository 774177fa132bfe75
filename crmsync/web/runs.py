"""Runs on the admin socket: begin one, look how it goes, stop it. The daemon does the work; a command only asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from crmsync.errors import ConnectorError
from crmsync.flows.progress import progress
from crmsync.flows.tenant import Tenant
from crmsync.store import runs
from crmsync.store.database import Database
from crmsync.store.runs import Run

Begin = Callable[[Connection, Tenant, Mapping[str, Any], datetime], Run]
"""Begins a run from what a command asked for, or has one go on that was stopped. Raises `ConnectorError`."""


def routes(
    database: Database,
    tenants: Mapping[str, Tenant],
    begins: Mapping[str, Begin],
    wake: Callable[[], None],
    clock: Callable[[], datetime],
) -> list[Route]:
    """`POST /runs` begins, `GET /runs/{id}` tells, `POST /runs/{id}/stop` stops."""

    async def begin(request: Request) -> JSONResponse:
        asked: Any = await request.json()
        tenant, kind = tenants.get(str(asked.get("tenant"))), begins.get(str(asked.get("kind")))
        if tenant is None or kind is None:
            return JSONResponse({"error": "no such tenant, or no such kind of run"}, 404)
        try:
            run = await asyncio.to_thread(database.write, lambda tx: kind(tx, tenant, asked["options"], clock()))
        except ConnectorError as error:
            return JSONResponse({"refused": str(error)})
        wake()
        return JSONResponse({"id": run.id})

    async def look(request: Request) -> JSONResponse:
        told = await asyncio.to_thread(database.read, lambda tx: _told(tx, int(request.path_params["id"])))
        return JSONResponse({"error": "no such run"}, 404) if told is None else JSONResponse(told)

    async def stop(request: Request) -> JSONResponse:
        id = int(request.path_params["id"])
        return JSONResponse({"stopped": await asyncio.to_thread(database.write, lambda tx: runs.stop(tx, id, clock()))})

    def _told(tx: Connection, id: int) -> dict[str, Any] | None:
        run = runs.find(tx, id)
        return None if run is None else progress(tx, tenants.get(run.tenant), run, clock())

    return [
        Route("/runs", begin, methods=["POST"]),
        Route("/runs/{id:int}", look),
        Route("/runs/{id:int}/stop", stop, methods=["POST"]),
    ]
