"""The admin socket's part of the matching desk: a running daemon carries out what people decided."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from crmsync.flows import desk
from crmsync.flows.desk import Decision
from crmsync.model import Kind
from crmsync.store.database import Database


def routes(database: Database, wake: Callable[[], None], clock: Callable[[], datetime]) -> list[Route]:
    """`POST /match` with a tenant and its decisions."""

    async def match(request: Request) -> JSONResponse:
        asked: Any = await request.json()
        decisions = [Decision(**{**each, "kind": Kind(each["kind"])}) for each in asked["decisions"]]
        outcome = await asyncio.to_thread(desk.carry_out, database, str(asked["tenant"]), decisions, clock)
        wake()
        return JSONResponse(asdict(outcome))

    return [Route("/match", match, methods=["POST"])]
