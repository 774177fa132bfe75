"""The one handle on the store: transactions, and nothing about what they contain.

`sqlite:///path` is one process with one writer thread, `postgresql://…` any number of nodes. Code above this file
is the same for both: functions that take a SQLAlchemy connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from crmsync.errors import StoreError
from crmsync.store.hold import Hold

T = TypeVar("T")
Done = Callable[[Any, BaseException | None], None]
"""Told the result of a transaction after its commit is durable, or the error after its rollback."""


class Backend(Protocol):
    """What a kind of database has to offer."""

    @property
    def dialect(self) -> str: ...

    @property
    def last_commit(self) -> float: ...

    @property
    def commits(self) -> int: ...

    def write(self, work: Callable[[Connection], T], *, later: bool = False, durable: bool = True) -> T: ...

    def submit(self, work: Callable[[Connection], Any], done: Done) -> None: ...

    def read(self, work: Callable[[Connection], T]) -> T: ...

    def probe(self) -> None: ...

    def hold(self, name: str) -> Hold: ...

    def close(self) -> None: ...


class Database:
    """Open with `Database.open`; every method may be called from any thread."""

    def __init__(self, backend: Backend, *, later: bool = False, durable: bool = True) -> None:
        self._backend = backend
        self._later = later
        self._durable = durable

    def patient(self) -> Database:
        """The same store, for work that nobody waits for, and that can be done again: on SQLite its transactions let
        those of others go first.

        They survive the end of the process like all others. Should the machine lose its power, those of the last
        moments may be gone, the latest first: a commit that is durable takes along whatever was before it.
        """
        return Database(self._backend, later=True, durable=False)

    def forgetful(self) -> Database:
        """The same store, for what is worth nothing after a power cut: as with `patient`, but in its turn."""
        return Database(self._backend, durable=False)

    @classmethod
    def open(cls, url: str, *, node: str = "", exclusive: bool = True) -> Database:
        """Opens the store and checks that it is fit to keep promises.

        On SQLite an `exclusive` handle is the only process that writes: a second one is refused, naming the
        holder; a handle that is not exclusive can only read. On PostgreSQL every handle can write.
        """
        place = _parsed(url)
        if place.get_backend_name() == "sqlite":
            from crmsync.store.sqlite import Sqlite

            return cls(Sqlite(place.database or "", node=node, exclusive=exclusive))
        if place.get_backend_name() in ("postgresql", "postgres"):
            from crmsync.store.postgresql import Postgresql

            return cls(Postgresql(place.set(drivername="postgresql+psycopg"), node=node))
        raise StoreError("the database is neither sqlite:///path nor postgresql://host/name")

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._backend.dialect

    @property
    def last_commit(self) -> float:
        """When the latest durable commit of this handle was, on the monotonic clock; 0 before the first."""
        return self._backend.last_commit

    @property
    def commits(self) -> int:
        """How many commits this handle made; on SQLite several transactions may share one."""
        return self._backend.commits

    def write(self, work: Callable[[Connection], T]) -> T:
        """Runs `work` in one transaction and returns its result once the commit is durable.

        What `work` raises rolls back its own changes only, and reaches the caller. `work` may run more than once
        (a deadlock is tried again), so it must not have effects outside the transaction.
        """
        return self._backend.write(work, later=self._later, durable=self._durable)

    def submit(self, work: Callable[[Connection], Any], done: Done) -> None:
        """As `write`, without waiting and apart from other work: `done` is called in the thread that committed.

        On SQLite a single statement on the driver's own connection needs no transaction around it, and gets none.
        """
        self._backend.submit(work, done)

    def read(self, work: Callable[[Connection], T]) -> T:
        """Runs `work` on a connection that cannot write and sees the store as it was at one moment."""
        return self._backend.read(work)

    def probe(self) -> None:
        """Commits a write that changes nothing, durably: the proof that others would succeed."""
        self._backend.probe()

    def hold(self, name: str) -> Hold:
        """A claim to be the only node that does something; not taken yet."""
        return self._backend.hold(name)

    def close(self) -> None:
        """Finishes the transactions already handed in, then lets go of everything. A second call does nothing."""
        self._backend.close()


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        raise StoreError("the database's address cannot be read: sqlite:///path or postgresql://host/name") from None
