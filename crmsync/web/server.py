"""uvicorn as this product wants it: no request may be slow to arrive, heads are bounded, nobody's signals are taken.

Knows HTTP and sockets, no application.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import ctypes
import fcntl
import gc
import logging
import os
import socket
import stat
import struct
import sys
import termios
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from crmsync.errors import ConfigError, Problem

T = TypeVar("T")
ARRIVAL = 10.0
"""Seconds from the first byte of a request, or from the connection, until all of it must be there."""
OVERHEAD_LIMIT = 128 * 1024
"""Bytes of a request that are not body: the head, the framing of chunks, trailers."""
CONNECTIONS = 2048
BACKLOG = 1024
KEEP_ALIVE = 65
POLL = 0.02
LINGER = 0.5
"""Seconds in which a draining server waits for what is on its way to it, twice: on connections that idle, and then on
those that it took over when it stopped to listen."""
DRAIN = 5
"""Seconds for the requests that have begun to arrive by then."""
ATTACH_FILTER = 26
"""Linux' SO_ATTACH_FILTER."""
NO_KNOCKING = (
    (0x30, 0, 0, 13),  # load the byte with the flags of the TCP header
    (0x45, 0, 1, 0x02),  # SYN set?
    (0x06, 0, 0, 0),  # then keep nothing of the packet
    (0x06, 0, 0, 0x7FFFFFFF),  # else all of it
)
"""A program for the kernel's packet filter: nobody new comes in, and who is half in may come in whole."""
SWITCH = 0.0005
QUIET = 10.0
"""Seconds in which the server says the same thing once: a flood of bad requests is no flood of log lines."""


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol with what it lacks: an absolute deadline for each request, and a bound on its head."""

    arrival = ARRIVAL

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection that sends nothing counts as a request that does not arrive."""
        super().connection_made(transport)
        self._overhead = 0
        self._began: float | None = self.loop.time()
        self._watch: asyncio.TimerHandle | None = self.loop.call_later(self.arrival, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the clock."""
        self._began = None
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Starts the clock, and closes when what is no body grows too long."""
        self._begin()
        self._overhead += len(data)
        super().data_received(data)
        if self._overhead > OVERHEAD_LIMIT and not self.transport.is_closing():
            self.transport.close()

    def on_message_begin(self) -> None:
        """A pipelined request begins within the data of another."""
        self._begin()
        super().on_message_begin()

    def on_body(self, body: bytes) -> None:
        """A body is bounded by who reads it."""
        self._overhead -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request arrived."""
        self._began = None
        self._overhead = 0
        super().on_message_complete()

    def shutdown(self) -> None:
        """Told when the server ends. What has arrived, if only in part, is waited for and answered."""
        if self._overhead <= 0 and not self._unread():
            super().shutdown()

    def _unread(self) -> bool:
        """Whether the kernel has something for us that the loop did not come to yet."""
        count = array.array("i", [0])
        with contextlib.suppress(OSError):
            fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.FIONREAD, count)
        return count[0] > 0

    def _begin(self) -> None:
        if self._began is None:
            self._began = self.loop.time()
            if self._watch is None:
                self._watch = self.loop.call_later(self.arrival, self._look)

    def _look(self) -> None:
        """One timer per connection, set again for the request that is on its way now."""
        self._watch = None
        if self._began is None:
            return
        left = self._began + self.arrival - self.loop.time()
        if left > 0:
            self._watch = self.loop.call_later(left, self._look)
        elif not self.transport.is_closing():
            self.transport.close()


class _Server(uvicorn.Server):
    """Signals belong to whoever composed the process, and nobody who sent a request is hung up on at the end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn closes connections that are idle, though a request may be on its way on one, and with the listening
        socket those that the kernel has made and nobody has accepted: here every answer says first that it is the last.
        """
        self.server_state.default_headers.append((b"connection", b"close"))
        await self._emptied(LINGER)
        for listening in sockets or []:
            _turn_away(listening)
        await asyncio.sleep(POLL)
        waiting = [connection for listening in sockets or [] for connection in _accepted(listening)]
        for server in self.servers:
            server.close()
        for connection in waiting:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        await self._emptied(LINGER)
        await super().shutdown(sockets)

    async def _emptied(self, seconds: float) -> None:
        """Waits for the end of all connections, so long at most."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while self.server_state.connections and loop.time() < until:
            await asyncio.sleep(POLL)

    def _protocol(self) -> asyncio.Protocol:
        protocol: Any = self.config.http_protocol_class
        made: asyncio.Protocol = protocol(self.config, self.server_state, self.lifespan.state)
        return made


class _Quiet(logging.Filter):
    """Lets each message through once in a while."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this was not said lately."""
        now = time.monotonic()
        if record.exc_info is None and now - self._said.get(str(record.msg), -QUIET) < QUIET:
            return False
        self._said[str(record.msg)] = now
        return True


_QUIET = _Quiet()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs the process's main coroutine on the loop that the server is fastest on.

    Threads take turns ten times as often as Python's default: a commit that is done must not wait 5 ms for the
    loop to look up, nor the loop for a worker.
    """
    sys.setswitchinterval(SWITCH)
    gc.freeze()  # what the imports left behind lives for ever: no collection need walk through it
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def bind(listen: str) -> socket.socket:
    """A listening socket for `host:port`, `[v6]:port` or `unix:/path`; a unix socket is for its owner alone."""
    try:
        bound = _unix(Path(listen[5:])) if listen.startswith("unix:") else _inet(listen)
        bound.listen(BACKLOG)
        return bound
    except (OSError, OverflowError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "neither host:port nor unix:/path"
        raise ConfigError([Problem("listen", 0, "", f"{listen} cannot be used: {reason or error}")]) from None


async def serve(
    application: Any,
    listen: str | socket.socket,
    stopping: asyncio.Event,
    *,
    draining: Callable[[], None] = lambda: None,
    connections: int = CONNECTIONS,
    protocol: type[Protocol] = Protocol,
) -> None:
    """Serves until `stopping` is set; then calls `draining`, lets requests in flight end, and returns within 10 s."""
    bound = bind(listen) if isinstance(listen, str) else listen
    path = bound.getsockname() if bound.family == socket.AF_UNIX else None
    logging.getLogger("uvicorn.error").addFilter(_QUIET)
    server = _Server(
        uvicorn.Config(
            application,
            interface="asgi3",
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            limit_concurrency=connections,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=DRAIN,
        )
    )
    serving = asyncio.ensure_future(server.serve(sockets=[bound]))
    waiting = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED)
        draining()
    finally:
        waiting.cancel()
        server.should_exit = True
        await serving
        if path:
            Path(path).unlink(missing_ok=True)


def _turn_away(listening: socket.socket) -> None:
    """From now on nobody new comes into the kernel's queue, where closing would cut them off.

    Who knocks is not heard, knocks again after a second, and finds the door closed. Linux has a filter run on what
    comes to a listening socket (socket(7), SO_ATTACH_FILTER). Elsewhere the few are cut off that come between the last
    look into the queue and its end.
    """
    instructions = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in NO_KNOCKING))
    program = struct.pack("HP", len(NO_KNOCKING), ctypes.addressof(instructions))
    with contextlib.suppress(OSError):
        listening.setsockopt(socket.SOL_SOCKET, ATTACH_FILTER, program)


def _accepted(listening: socket.socket) -> list[socket.socket]:
    """Everybody in the kernel's queue."""
    connections = []
    listening.setblocking(False)
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listening.accept()
            connection.setblocking(False)
            connections.append(connection)
    return connections


def _inet(listen: str) -> socket.socket:
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdecimal():
        raise ValueError(listen)
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host or "127.0.0.1", int(port)))
    except BaseException:
        bound.close()
        raise
    return bound


def _unix(path: Path) -> socket.socket:
    """Takes the place of a socket that nobody listens on any more; the mode is set before anybody could connect."""
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
        with socket.socket(socket.AF_UNIX) as other, contextlib.suppress(ConnectionRefusedError):
            other.connect(str(path))
            raise OSError(0, "somebody else listens there")
        path.unlink()
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.bind(str(path))
        os.chmod(path, 0o600)
    except BaseException:
        bound.close()
        raise
    return bound
