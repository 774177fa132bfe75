"""urllib3's connections on our terms: to addresses that were judged, and with nothing that outlives the request.

For packages that bring urllib3 along; needed by no other part of crmsync.
"""

from __future__ import annotations

import io
import socket
from http.client import HTTPResponse
from typing import Any

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from crmsync.outbound import DEADLINE, Reach


class _Reading(io.RawIOBase):
    """What comes from a socket, each read bounded by the request's deadline. urllib3's timeout is per read."""

    def __init__(self, inner: io.RawIOBase, sock: socket.socket) -> None:
        self._inner = inner
        self._socket = sock

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Raises `TimeoutError`, which urllib3 makes its own."""
        self._socket.settimeout(DEADLINE.clamped(self._socket.gettimeout()))
        return self._inner.readinto(buffer)

    def close(self) -> None:
        """Lets go of the socket."""
        self._inner.close()
        super().close()


class _Response(HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        self.fp = io.BufferedReader(_Reading(self.fp.detach(), sock))


class _Connection:
    """Comes before one of urllib3's own classes."""

    reach: Reach
    response_class = _Response
    host: str
    port: int
    _dns_host: str
    timeout: Any

    def _new_conn(self) -> socket.socket:
        """urllib3 hands this method its name and port, and uses whatever socket it gets."""
        made: Any = self
        try:
            connected = self.reach.connect(self._dns_host, self.port, self.timeout)
        except TimeoutError as error:
            raise ConnectTimeoutError(made, "no connection in time") from error
        except OSError as error:
            raise NewConnectionError(made, type(error).__name__) from error
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connected


def confine(manager: PoolManager, reach: Reach) -> None:
    """Every connection of this manager goes where `reach` lets it."""
    plain = type("Plain", (_Connection, HTTPConnection), {"reach": reach})
    secure = type("Secure", (_Connection, HTTPSConnection), {"reach": reach})
    manager.pool_classes_by_scheme = {
        "http": type("PlainPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("SecurePool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
    }
