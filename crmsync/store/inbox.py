"""Takes in deliveries: requests that arrive together share one insert and one commit, then each learns its fate.

A group is open while the one before is being committed. The key is the hash of the body, and stands in the same
row, so a delivery is known exactly if it is stored. Nothing is parsed here.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from crmsync import crash
from crmsync.errors import StoreError, StoreUnavailable
from crmsync.store.database import Database

PATIENCE = 2.0
"""Seconds a request waits for its commit; then the sender shall come again."""
LARGEST_GROUP = 128
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

Row = tuple[str, str, bytes, bytes, int, str]
Name = tuple[str, str, bytes]
"""Tenant, source and key: what makes a delivery one."""


@dataclass(slots=True, eq=False)
class _Group:
    """Deliveries that will share a commit. Used in the loop's thread until it is taken, then only read."""

    loop: asyncio.AbstractEventLoop
    rows: list[Row] = field(default_factory=list)
    waiting: list[asyncio.Future[bool]] = field(default_factory=list)
    size: int = 0
    timer: asyncio.TimerHandle | None = None

    def settle(self, new: Sequence[bool], error: BaseException | None) -> None:
        """Tells everyone who still waits."""
        if self.timer is not None:
            self.timer.cancel()
        for index, future in enumerate(self.waiting):
            if not future.done():
                if error is not None:
                    future.set_exception(error)
                else:
                    future.set_result(new[index])

    def give_up(self) -> None:
        """Tells everyone who waits that it took too long; the rows may still be committed, which does no harm."""
        self.timer = None
        self.settle((), StoreUnavailable("the store did not commit in time"))


class Inbox:
    """The door to the table `delivery`. `append` belongs to one event loop; the commits happen in the store's thread.

    `on_commit` is called in the loop with the (tenant, source) of what was new, after each group.
    """

    def __init__(
        self,
        database: Database,
        *,
        most_rows: int = 8192,
        most_bytes: int = 64 * 1024 * 1024,
        patience: float = PATIENCE,
    ) -> None:
        self.on_commit: Callable[[frozenset[tuple[str, str]]], None] = lambda sources: None
        self._database = database
        self._insert = _insert_sqlite if database.dialect == "sqlite" else _insert_postgresql
        self._most_rows = most_rows
        self._most_bytes = most_bytes
        self._patience = patience
        self._lock = threading.Lock()
        self._open: _Group | None = None
        self._rows = 0
        self._bytes = 0

    async def append(self, tenant: str, source: str, body: bytes, received_at: datetime, secret: str) -> bool:
        """Stores a delivery; returns, after the commit is durable, whether it was new.

        Raises `StoreUnavailable` if too many wait already, if the store cannot, or after two seconds.
        """
        key = hashlib.sha256(body).digest()
        return await self._enter((tenant, source, key, body, _microseconds(received_at), secret))

    async def knows(self, tenant: str, source: str, body: bytes) -> bool:
        """Whether exactly this body has been stored."""
        name = {"tenant": tenant, "source": source, "key": hashlib.sha256(body).digest()}
        try:
            async with asyncio.timeout(self._patience):
                return await asyncio.to_thread(self._database.read, lambda connection: _known(connection, name))
        except TimeoutError:
            raise StoreUnavailable("the store did not answer in time") from None

    def _enter(self, row: Row) -> asyncio.Future[bool]:
        """Puts a row into the open group, which waits for the store already, or opens one."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        with self._lock:
            if self._rows >= self._most_rows or self._bytes + len(row[3]) > self._most_bytes:
                raise StoreUnavailable("too many deliveries wait for the store")
            group = self._open
            opens = group is None or len(group.rows) == LARGEST_GROUP
            if group is None or opens:
                group = self._open = _Group(loop)
            group.rows.append(row)
            group.waiting.append(future)
            group.size += len(row[3])
            self._rows += 1
            self._bytes += len(row[3])
        if group.timer is None:
            group.timer = loop.call_later(self._patience, group.give_up)
        if opens:
            self._hand_in(group)
        return future

    def _hand_in(self, group: _Group) -> None:
        def work(connection: Connection) -> list[bool]:
            self._close(group)
            crash.point("inbox.insert")
            return _insert(self._insert, connection, group.rows)

        def done(new: list[bool] | None, error: BaseException | None) -> None:
            self._close(group)
            self._finished(group, new or [], error)

        try:
            self._database.submit(work, done)
        except StoreError as error:
            done(None, error)

    def _close(self, group: _Group) -> None:
        """Who comes now opens the next group."""
        with self._lock:
            if self._open is group:
                self._open = None

    def _finished(self, group: _Group, new: list[bool], error: BaseException | None) -> None:
        """In the store's thread: one call into the loop for the whole group."""
        if error is None:
            crash.point("inbox.committed")
        with self._lock:
            self._rows -= len(group.rows)
            self._bytes -= group.size
        trouble = error if error is None or isinstance(error, StoreError) else _unexpected(error)
        with contextlib.suppress(RuntimeError):  # the loop is gone, and with it everyone who waited
            group.loop.call_soon_threadsafe(self._settle, group, new, trouble)

    def _settle(self, group: _Group, new: list[bool], error: BaseException | None) -> None:
        group.settle(new, error)
        sources = frozenset(row[:2] for row, fresh in zip(group.rows, new, strict=False) if fresh)
        if sources:
            self.on_commit(sources)


def _unexpected(error: BaseException) -> StoreUnavailable:
    """Whatever went wrong, the sender shall come again; the cause stays attached for the log."""
    trouble = StoreUnavailable(f"the deliveries could not be stored: {type(error).__name__}")
    trouble.__cause__ = error
    return trouble


def _microseconds(moment: datetime) -> int:
    """As `tables.Instant` has it."""
    return (moment - EPOCH) // MICROSECOND


Insert = Callable[[Connection, Sequence[Row]], "Iterable[Name] | None"]
"""Stores rows of different names; returns the names of those that were new, None if all were."""


def _insert(insert: Insert, connection: Connection, rows: Sequence[Row]) -> list[bool]:
    """Stores what is not yet stored. Of several copies within a group the first is the new one."""
    first: dict[Name, int] = {}
    for index, row in enumerate(rows):
        first.setdefault(row[:3], index)
    different = rows if len(first) == len(rows) else [rows[index] for index in first.values()]
    names = insert(connection, different)
    fresh = [False] * len(rows)
    for name in first if names is None else names:
        fresh[first[name]] = True
    return fresh


_HEAD = "INSERT INTO delivery (tenant, source, key, body, received_at, secret, state, attempts, reason) VALUES "
_TAIL = " ON CONFLICT (tenant, source, key) DO NOTHING"
_STATEMENTS = [_HEAD + ",".join(["(?,?,?,?,?,?,0,0,'')"] * size) + _TAIL for size in range(LARGEST_GROUP + 1)]
"""One statement for each number of rows: SQLite keeps those that are used prepared."""


def _insert_sqlite(connection: Connection, rows: Sequence[Row]) -> Iterable[Name] | None:
    """One statement, and with it one transaction.

    New rows have the highest ids, without gaps, since there is one writer: that tells which they are.
    """
    driver: Any = connection.connection.driver_connection
    cursor = driver.execute(_STATEMENTS[len(rows)], [value for row in rows for value in row])
    if cursor.rowcount == len(rows):
        return None
    if not cursor.rowcount:
        return ()
    lowest = cursor.lastrowid - cursor.rowcount
    names: list[Name] = driver.execute("SELECT tenant, source, key FROM delivery WHERE id > ?", (lowest,)).fetchall()
    return names


_UNNEST = """
INSERT INTO delivery (tenant, source, key, body, received_at, secret, state, attempts, reason)
SELECT *, 0, 0, '' FROM unnest(%b::text[], %b::text[], %b::bytea[], %b::bytea[], %b::bigint[], %b::text[])
ON CONFLICT (tenant, source, key) DO NOTHING RETURNING tenant, source, key
"""


def _insert_postgresql(connection: Connection, rows: Sequence[Row]) -> Iterable[Name] | None:
    driver: Any = connection.connection.driver_connection
    cursor = driver.execute(_UNNEST, [list(column) for column in zip(*rows, strict=True)], prepare=True, binary=True)
    names: list[Name] = cursor.fetchall()
    crash.point("inbox.inserted")
    return None if len(names) == len(rows) else names


_KNOWN = text("SELECT 1 FROM delivery WHERE tenant = :tenant AND source = :source AND key = :key")


def _known(connection: Connection, name: dict[str, Any]) -> bool:
    return connection.execute(_KNOWN, name).first() is not None
