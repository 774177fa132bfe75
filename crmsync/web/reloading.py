"""Reading the configuration anew, on the admin socket: `POST /reload` answers when it is taken up, or why it is not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse


def reloading(now: Callable[[], Awaitable[Mapping[str, Any]]]) -> Callable[[Request], Awaitable[JSONResponse]]:
    """The endpoint. A configuration with mistakes is an answer like any other: nothing changed, and these are they."""

    async def answer(request: Request) -> JSONResponse:
        return JSONResponse(await now())

    return answer
