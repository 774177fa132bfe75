"""Which node works, where only one may: a lock that ends with the connection that holds it.

On SQLite the file itself is locked by the one process that writes, so there is nothing to hold.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Protocol

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from crmsync.errors import Fenced


class Hold(Protocol):
    """A claim to be the only one."""

    def ensure(self) -> bool:
        """Whether the claim is ours now; takes it if it is free."""

    def fence(self, tx: Connection) -> None:
        """Raises `Fenced` in a transaction of a node that lost its claim."""

    def release(self) -> None:
        """Gives the claim up."""


class Unneeded:
    """The claim of the only process there can be."""

    def ensure(self) -> bool:
        """Always ours."""
        return True

    def fence(self, tx: Connection) -> None:
        """Nothing to lose."""

    def release(self) -> None:
        """Nothing to give up."""


class SessionLock:
    """A PostgreSQL advisory lock on a connection of its own: the server frees it when that connection ends."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._name = f"crmsync/{name}"
        self._connection: Connection | None = None
        self._session = 0
        self._lock = threading.Lock()

    def ensure(self) -> bool:
        """Whether the claim is ours now; takes it if it is free. Raises nothing: a server that is away says no."""
        with self._lock:
            try:
                return self._alive() or self._take()
            except DBAPIError:
                self._let_go()
                return False

    def fence(self, tx: Connection) -> None:
        """Raises `Fenced` where the session that took the lock has lost it."""
        held = tx.execute(
            text(
                "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = :session AND"
                " ((classid::bigint << 32) | objid::bigint) = hashtextextended(:name, 0))"
            ),
            {"session": self._session, "name": self._name},
        ).scalar()
        if not held:
            raise Fenced("another node may be at work by now")

    def release(self) -> None:
        """Gives the claim up."""
        with self._lock:
            self._let_go()

    def _alive(self) -> bool:
        if self._connection is None:
            return False
        self._connection.execute(text("SELECT 1"))
        return True

    def _take(self) -> bool:
        connection = self._engine.connect()
        taken = connection.execute(
            text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0)), pg_backend_pid()"), {"name": self._name}
        ).one()
        if not taken[0]:
            connection.close()
            return False
        self._connection, self._session = connection, taken[1]
        return True

    def _let_go(self) -> None:
        connection, self._connection, self._session = self._connection, None, 0
        if connection is not None:
            with contextlib.suppress(DBAPIError):
                connection.invalidate()  # not back into the pool: the lock belongs to the session
            connection.close()
