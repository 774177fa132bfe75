"""One ASGI application on a real socket of the loopback interface, in a thread of its own.

It uses uvicorn's HTTP protocol without uvicorn's server: the sandbox needs to cut connections in the middle of a
request, to close its door and open it again on the same port, and to stop at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

ABORT = "crmsync.abort"
"""Name of the ASGI extension whose value is a function that resets the connection."""

Job = Callable[[], Coroutine[Any, Any, None]]

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_KEEP_ALIVE_SECONDS = 75
_STOP_SECONDS = 10


class AbortableProtocol(HttpToolsProtocol):
    """HTTP/1.1 whose requests carry the means to cut their connection."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.access_log = False

    def on_message_begin(self) -> None:
        """Adds the extension to the scope of the request that begins."""
        super().on_message_begin()
        extensions: dict[str, Any] = {ABORT: self.abort}
        self.scope["extensions"] = extensions

    def abort(self) -> None:
        """Resets the connection: whatever was not yet answered never will be."""
        raw = self.transport.get_extra_info("socket")
        with contextlib.suppress(OSError, AttributeError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.transport.abort()


class Server:
    """Serves `app` on 127.0.0.1 from `start()` to `stop()`; a context manager.

    `background` jobs run on the server's loop and are cancelled when it stops.
    """

    def __init__(self, app: ASGIApp, *, background: Sequence[Job] = (), port: int = 0) -> None:
        self._config = uvicorn.Config(
            app,
            http=AbortableProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        )
        self._config.load()
        self._background = background
        self._state = ServerState()
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listener: asyncio.base_events.Server | None = None
        self._stopping: asyncio.Event | None = None
        self.port = port

    @property
    def url(self) -> str:
        """Where the server listens, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Server:
        """Returns when the socket listens. A server that was stopped starts again on the same port."""
        self._ready.clear()
        self._thread = threading.Thread(target=self._run, name="sandbox-server", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def stop(self) -> None:
        """Cuts every connection, ends every job and frees the port. Stopping twice is no error."""
        thread, self._thread = self._thread, None
        if thread is None or self._loop is None or self._stopping is None:
            return
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stopping.set)
        thread.join(_STOP_SECONDS)

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def refuse(self) -> None:
        """Closes the door: open connections are cut, new ones are refused by the operating system."""
        self._call(self._close())

    def accept(self) -> None:
        """Opens the door again, on the same port."""
        self._call(self._listen())

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        if self._loop is None:
            raise RuntimeError("the server is not running")
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_STOP_SECONDS)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(self._serve())
        except BaseException as error:  # start() raises it in the thread that waits
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        await self._listen()
        jobs = [self._loop.create_task(job()) for job in self._background]
        self._ready.set()
        await self._stopping.wait()
        for job in jobs:
            job.cancel()
        await self._close()
        if jobs:
            await asyncio.wait(jobs)

    async def _listen(self) -> None:
        if self._listener is not None:
            return
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: AbortableProtocol(config=self._config, server_state=self._state, app_state={}),
            "127.0.0.1",
            self.port,
            backlog=2048,
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for connection in list(self._state.connections):
            if isinstance(connection, AbortableProtocol):
                connection.abort()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=1)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:  # not made for Windows
        return asyncio.new_event_loop
    return uvloop.new_event_loop
