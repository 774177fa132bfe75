"""A real server in a thread, and the plainest of clients: for tests that care about bytes."""

from __future__ import annotations

import asyncio
import socket
import threading
from dataclasses import dataclass
from typing import Any

from crmsync.web import server

CLOSED = b""


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes


class Running:
    """Serves an ASGI application on loopback until told to stop."""

    def __init__(self, application: Any, listen: str = "127.0.0.1:0", **options: Any) -> None:
        self._bound = server.bind(listen)
        self.address = self._bound.getsockname()
        self._ready = threading.Event()
        self._arguments = (application, options)
        self._thread = threading.Thread(target=lambda: server.run(self._main()))

    async def _main(self) -> None:
        application, options = self._arguments
        self.loop = asyncio.get_running_loop()
        self.stopping = asyncio.Event()
        self.loop.call_soon(self._ready.set)
        await server.serve(application, self._bound, self.stopping, **options)

    def __enter__(self) -> Running:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def begin_to_stop(self) -> None:
        """Sets the event that ends `serve`."""
        self.loop.call_soon_threadsafe(self.stopping.set)

    def wait(self) -> None:
        """Until the server has returned."""
        self._thread.join(20)
        assert not self._thread.is_alive()

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self.begin_to_stop()
        self.wait()

    def connect(self) -> socket.socket:
        """A connection that gives up after 20 seconds rather than hang."""
        family = socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET
        connection = socket.socket(family)
        connection.settimeout(20)
        try:
            connection.connect(self.address)
        except OSError:
            connection.close()
            raise
        return connection

    def send(self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> Reply:
        """One request on a connection of its own."""
        head = {"Host": "here", "Content-Length": str(len(body)), **(headers or {})}
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        with self.connect() as connection:
            connection.sendall(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body)
            return read_reply(connection, method)


def read_reply(connection: socket.socket, method: str = "POST") -> Reply:
    """The next response on a connection, as far as its Content-Length says."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    length = 0 if method == "HEAD" else int(headers.get("content-length", "0"))
    while len(body) < length:
        body += _more(connection)
    return Reply(int(first.split()[1]), headers, body)


def read_to_end(connection: socket.socket) -> bytes:
    """Everything until the server hangs up."""
    data = b""
    try:
        while part := connection.recv(65536):
            data += part
    except ConnectionResetError:
        pass
    return data


def _more(connection: socket.socket) -> bytes:
    part = connection.recv(65536)
    if not part:
        raise ConnectionError("the server hung up")
    return part
