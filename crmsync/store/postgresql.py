"""PostgreSQL as the store of any number of nodes: a pool, retries of what the server asks to repeat, honest errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from crmsync.errors import StoreError, StoreUnavailable
from crmsync.store.hold import SessionLock

T = TypeVar("T")
REPEATABLE = frozenset({"40001", "40P01"})  # serialization failure, deadlock
TRIES = 5
MUST_BE_ON = ("fsync", "full_page_writes", "synchronous_commit")
WAITS = {"connect_timeout": 3, "tcp_user_timeout": 10_000, "keepalives_idle": 10}


class Postgresql:
    """The backend behind `postgresql://…`."""

    dialect = "postgresql"

    def __init__(self, url: URL, *, node: str) -> None:
        self.last_commit = 0.0
        self.commits = 0
        self._counting = threading.Lock()
        self._appends = ThreadPoolExecutor(1, thread_name_prefix="store-append")
        self._closing = threading.Event()
        try:
            self._engine = create_engine(
                url,
                isolation_level="READ COMMITTED",
                pool_pre_ping=True,
                hide_parameters=True,  # neither in its log nor in its errors
                pool_size=8,
                max_overflow=24,
                pool_timeout=5,
                connect_args={**WAITS, "application_name": f"crmsync {node}".strip(), **url.query},
            )
        except ModuleNotFoundError:
            raise StoreError("PostgreSQL needs the driver: pip install 'crmsync[postgresql]'") from None
        event.listen(self._engine, "connect", _refuse_forgetful)
        self._snapshots = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self.read(lambda connection: None)

    def write(self, work: Callable[[Connection], T], *, later: bool = False, durable: bool = True) -> T:
        """See `Database.write`. The server has room for several at once, so that nobody has to be let go first."""
        if self._closing.is_set():
            raise StoreUnavailable("the store is closed")
        for attempt in range(1, TRIES + 1):
            try:
                with self._engine.begin() as connection:
                    if not durable:
                        connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
                    result = work(connection)
                if durable:
                    self.last_commit = time.monotonic()
                with self._counting:
                    self.commits += 1
                return result
            except DBAPIError as error:
                if _state(error) not in REPEATABLE or attempt == TRIES:
                    raise translated(error) from error
            except PoolTimeout as error:
                raise StoreUnavailable("every connection to PostgreSQL is busy") from error
            except Exception as error:  # the inbox speaks to the driver itself, whose errors are not SQLAlchemy's
                if getattr(error, "sqlstate", None) not in REPEATABLE or attempt == TRIES:
                    raise
        raise AssertionError("unreachable")

    def submit(self, work: Callable[[Connection], Any], done: Callable[..., None]) -> None:
        """See `Database.submit`. One thread of its own, so that appends wait for no other work."""
        try:
            self._appends.submit(self._told, work, done)
        except RuntimeError:
            raise StoreUnavailable("the store is closed") from None

    def read(self, work: Callable[[Connection], T]) -> T:
        """See `Database.read`."""
        try:
            with self._snapshots.connect() as connection:
                return work(connection)
        except DBAPIError as error:
            raise translated(error) from error
        except PoolTimeout as error:
            raise StoreUnavailable("every connection to PostgreSQL is busy") from error

    def probe(self) -> None:
        """See `Database.probe`. An empty message in the log of the server has to be flushed like any row."""
        self.write(
            lambda connection: connection.exec_driver_sql("SELECT pg_logical_emit_message(true, 'crmsync', '')").close()
        )

    def hold(self, name: str) -> SessionLock:
        """See `Database.hold`."""
        return SessionLock(self._engine, name)

    def close(self) -> None:
        """See `Database.close`."""
        self._appends.shutdown(wait=True)
        self._closing.set()
        self._engine.dispose()

    def _told(self, work: Callable[[Connection], Any], done: Callable[..., None]) -> None:
        try:
            result = self.write(work)
        except BaseException as error:  # like an executor's: whatever it is belongs to who waits
            done(None, error)
        else:
            done(result, None)


def translated(error: DBAPIError) -> BaseException:
    """The store's own error for a server that is away, full or restarting; anything else as it is."""
    state = _state(error)
    if error.connection_invalidated or not state or state[:2] in ("08", "53", "57", "58") or state in REPEATABLE:
        return StoreUnavailable(f"PostgreSQL cannot take or give data now: {state or 'no connection'}")
    if state[:2] in ("28", "3D"):
        return StoreError(f"PostgreSQL refuses this user or database ({state})")
    return error


def _state(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""


def _refuse_forgetful(connection: Any, _: object) -> None:
    """A server that may forget what it acknowledged is no store."""
    for setting in MUST_BE_ON:
        value = connection.execute(f"SHOW {setting}").fetchone()[0]
        if value == "off":
            raise StoreError(f"PostgreSQL runs with {setting}=off: it could lose what was acknowledged")
    connection.rollback()
