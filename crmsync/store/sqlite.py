"""SQLite as the store of one process: the file, its settings, its lock, one writer and several readers.

SQLite before 3.51.3 can damage a database in WAL mode when two connections write or checkpoint at the same moment.
So exactly one connection does either, in one process; every other one is opened as `query_only`.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import NullPool, QueuePool

from crmsync.errors import StoreError, StoreUnavailable
from crmsync.store.hold import Unneeded
from crmsync.store.writer import Job, Writer, translated

T = TypeVar("T")
APPLICATION_ID = 0x63726D73  # "crms": what `file` shows, and what a probe writes again
NETWORK_FILE_SYSTEMS = frozenset(
    {"9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "lustre", "nfs", "nfs4", "smb3", "smbfs"}
)
WRITING = (
    "journal_mode=WAL",
    "foreign_keys=ON",
    "busy_timeout=5000",
    "cache_size=-16000",  # KiB
    "wal_autocheckpoint=8000",  # pages, 32 MiB: what is written again meanwhile is folded in once
    "temp_store=MEMORY",  # what a savepoint may have to undo; as a file it would be half of all that is written
)
READING = ("foreign_keys=ON", "busy_timeout=5000", "query_only=ON")


class Sqlite:
    """The backend behind `sqlite:///path`."""

    dialect = "sqlite"

    def __init__(self, path: str, *, node: str, exclusive: bool) -> None:
        if path in ("", ":memory:"):
            raise StoreError("a store needs a file: sqlite:///path")
        self._path = Path(path).absolute()
        self._lock: int | None = None
        self._writer: Writer | None = None
        if exclusive:
            self._prepare_file()
            self._lock = _locked(self._path.with_name(self._path.name + ".lock"), node)
        elif not self._path.exists():
            raise StoreError(f"there is no database at {self._path}")
        self._readers = self._engine("BEGIN", READING, QueuePool, pool_size=4, max_overflow=16, pool_timeout=5)
        self._opened(exclusive)

    def _opened(self, exclusive: bool) -> None:
        try:
            if exclusive:
                engine = self._engine("BEGIN IMMEDIATE", WRITING, NullPool)
                self._writer = Writer(engine.connect)
                self.write(_check)
        except (DBAPIError, sqlite3.Error, StoreError) as error:
            self.close()
            trouble = translated(error)
            if isinstance(trouble, StoreError):
                raise trouble from error
            raise StoreError(f"{self._path} cannot be opened as a store") from error

    @property
    def last_commit(self) -> float:
        """See `Database.last_commit`."""
        return self._writer.last_commit if self._writer else 0.0

    @property
    def commits(self) -> int:
        """See `Database.commits`."""
        return self._writer.commits if self._writer else 0

    def write(self, work: Callable[[Connection], T], *, later: bool = False, durable: bool = True) -> T:
        """See `Database.write`, and `Database.patient` for what is done later."""
        return self._writing().run(work, later=later, durable=durable)

    def submit(self, work: Callable[[Connection], Any], done: Callable[..., None]) -> None:
        """See `Database.submit`."""
        self._writing().submit(Job(work, done, single=True))

    def read(self, work: Callable[[Connection], T]) -> T:
        """See `Database.read`."""
        try:
            with self._readers.connect() as connection:
                return work(connection)
        except (DBAPIError, sqlite3.Error) as error:
            raise translated(error) from error
        except PoolTimeout as error:
            raise StoreUnavailable("every reader of the store is busy") from error

    def probe(self) -> None:
        """See `Database.probe`. Setting a number of the file's header writes its page, whatever it was before."""
        self.write(lambda connection: connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}").close())

    def hold(self, name: str) -> Unneeded:
        """See `Database.hold`. The file is locked by this process already."""
        return Unneeded()

    def close(self) -> None:
        """See `Database.close`. The last connection to close folds the log into the file; let it be the writer's."""
        self._readers.dispose()
        if self._writer is not None:
            self._writer.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _writing(self) -> Writer:
        if self._writer is None:
            raise StoreError("this handle only reads: a command that writes goes through the running daemon")
        return self._writer

    def _prepare_file(self) -> None:
        """Creates the file for its owner alone; its log and index inherit the mode."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _refuse_network(self._path.parent)
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._path.chmod(0o600)
        except OSError as error:
            raise StoreError(f"the database {self._path} cannot be opened: {error.strerror}") from error

    def _engine(self, begin: str, settings: tuple[str, ...], pool: type, **pooling: int) -> Engine:
        """An engine whose transactions begin with `begin`: Python's own notion of when to begin is switched off."""
        engine = create_engine(
            "sqlite://",
            creator=lambda: sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False, cached_statements=192
            ),
            poolclass=pool,
            hide_parameters=True,  # neither in its log nor in its errors
            **pooling,
        )

        @event.listens_for(engine, "connect")
        def configure(connection: sqlite3.Connection, _: object) -> None:
            for setting in settings:
                connection.execute(f"PRAGMA {setting}").close()

        @event.listens_for(engine, "begin")
        def begin_now(connection: Connection) -> None:
            driver: Any = connection.connection.driver_connection
            driver.execute(begin)

        return engine


def _check(connection: Connection) -> None:
    """Refuses a damaged file before anything is promised on top of it."""
    found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
    if found != "ok":
        raise StoreError("the SQLite file is damaged: keep it, and restore the latest backup")
    connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")


def _locked(path: Path, node: str) -> int:
    """An advisory lock for the life of the process; whoever comes second learns who holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(descriptor, 200).decode(errors="replace").strip() or "another process"
        os.close(descriptor)
        raise StoreError(f"the database is in use by {holder}: a SQLite file has one daemon") from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"process {os.getpid()}{f' ({node})' if node else ''}\n".encode())
    return descriptor


def file_system(folder: Path, mounts: str) -> str:
    """The kind of file system a folder is on, by the text of /proc/self/mounts."""
    lines = [line.split() for line in mounts.splitlines()]
    places = {Path(fields[1].replace("\\040", " ")): fields[2] for fields in lines}
    return next((places[place] for place in (folder, *folder.parents) if place in places), "")


def _refuse_network(folder: Path) -> None:
    """WAL mode needs shared memory and honest locks. Only Linux says where a folder lives."""
    try:
        mounts = Path("/proc/self/mounts").read_text()
    except OSError:
        return
    kind = file_system(folder.resolve(), mounts)
    if kind in NETWORK_FILE_SYSTEMS:
        raise StoreError(f"{folder} is on a network file system ({kind}): SQLite would lose data there, use PostgreSQL")
