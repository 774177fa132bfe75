"""The admin socket's part of conflicts: a running daemon takes down what people decided, and carries it out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from crmsync.core.decide import Side
from crmsync.flows import conflicts
from crmsync.flows.conflicts import Act, Order
from crmsync.flows.tenant import Tenant
from crmsync.store.database import Database


def routes(
    database: Database, tenants: Mapping[str, Tenant], wake: Callable[[], None], clock: Callable[[], datetime]
) -> list[Route]:
    """`POST /conflicts` with a tenant and an order."""

    async def carry_out(request: Request) -> JSONResponse:
        asked: Any = await request.json()
        tenant = tenants.get(str(asked["tenant"]))
        if tenant is None:
            return JSONResponse({"error": "no such tenant"}, 404)
        order = order_of(asked["order"])
        rules = {name: each.rules for name, each in tenant.connections.items()}
        outcome = await asyncio.to_thread(conflicts.carry_out, database, tenant.id, rules, order, clock)
        wake()
        return JSONResponse(asdict(outcome))

    return [Route("/conflicts", carry_out, methods=["POST"])]


def order_of(document: Mapping[str, Any]) -> Order:
    """An order as it came over the socket."""
    keep = Side(document["keep"]) if document["keep"] else None
    return Order(**{**document, "act": Act(document["act"]), "keep": keep})
