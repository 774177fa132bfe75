"""The one thread that writes to SQLite: transactions that wait together share one commit, a savepoint for each.

It knows nothing of tables. Its connection is the only one that writes or checkpoints.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from crmsync import crash
from crmsync.errors import StoreError, StoreUnavailable

T = TypeVar("T")
LONGEST_GROUP = 0.005
"""Seconds after which a group takes no further job: nobody waits for the commit of a crowd."""

PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)
BROKEN = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def translated(error: BaseException) -> BaseException:
    """The store's own error for trouble with the disk or the file; anything else as it is."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    if code in PASSING:
        return StoreUnavailable(f"SQLite cannot take or give data now: {getattr(cause, 'sqlite_errorname', code)}")
    if code in BROKEN:
        return StoreError("the SQLite file is damaged: stop, keep the file, and restore the latest backup")
    return error


@dataclass(frozen=True, slots=True)
class Job:
    """Work, and who is told how it ended. What is `single` shares its commit with nobody, what is for `later` lets all
    others go first. The commit of what is not `durable` does not wait for the disk: the next that does takes it along.
    """

    work: Callable[[Connection], Any]
    done: Callable[[Any, BaseException | None], None]
    single: bool = False
    later: bool = False
    durable: bool = True


class Writer:
    """Owns a connection and the thread that uses it."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self.last_commit = 0.0
        self.commits = 0
        self._connect = connect
        self._connection: Connection | None = connect()
        self._jobs: deque[Job] = deque()
        self._singles: deque[Job] = deque()
        self._later: deque[Job] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._waits: bool | None = None
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def run(self, work: Callable[[Connection], T], *, later: bool = False, durable: bool = True) -> T:
        """Hands work in and waits for its end."""
        if threading.current_thread() is self._thread:
            raise RuntimeError("a transaction was started inside a transaction")
        future: Future[T] = Future()

        def done(result: Any, error: BaseException | None) -> None:
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        self.submit(Job(work, done, later=later, durable=durable))
        return future.result()

    def submit(self, job: Job) -> None:
        """Hands a job in. `done` is called in the writer's thread."""
        with self._wake:
            if self._closing:
                raise StoreUnavailable("the store is closed")
            (self._singles if job.single else self._later if job.later else self._jobs).append(job)
            self._wake.notify()

    def close(self) -> None:
        """Finishes what was handed in, folds the log into the file, and ends the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        while self._wait():
            if self._singles:  # in turns: neither the intake nor the work behind it may starve the other
                self._commit_single(self._singles.popleft())
            if self._jobs:
                self._commit_group(self._jobs)
            elif self._later:
                self._commit_group(self._later)
        crash.point("store.closing")
        if self._connection is not None:
            self._connection.close()

    def _wait(self) -> bool:
        """Whether there is anything to do; False once all is done and the store closes."""
        with self._wake:
            while not (self._jobs or self._singles or self._later or self._closing):
                self._wake.wait()
            return bool(self._jobs or self._singles or self._later)

    def _commit_single(self, job: Job) -> None:
        """A raw statement outside a transaction is one: begin, change and commit are a single call into SQLite.

        Each call gives the interpreter's lock away and has to win it back from a busy event loop.
        """
        result: Any = None
        failure: BaseException | None = None
        try:
            connection = self._connected(durable=True)
            result = job.work(connection)
            if connection.in_transaction():  # SQLAlchemy begins one for its own statements
                connection.commit()
            self.last_commit = time.monotonic()
            self.commits += 1
        except BaseException as error:  # like an executor's: whatever it is belongs to who waits
            failure = translated(error)
            self._recover()
        job.done(result, failure)

    def _commit_group(self, jobs: deque[Job]) -> None:
        """One commit for every job that is there; each is told its outcome after the commit.

        If one of them is to be durable all are. What comes in meanwhile and is, where they are not, has the next one.
        """
        with self._wake:
            durable = any(job.durable for job in jobs)
        job: Job | None = jobs.popleft()
        ended: list[tuple[Job, Any, BaseException | None]] = []
        deadline = time.monotonic() + LONGEST_GROUP
        try:
            connection = self._connected(durable=durable)
            connection.begin()
            while job is not None:
                ended.append((job, None, StoreUnavailable("the transaction was given up")))
                ended[-1] = (job, *_attempt(connection, job))
                more = jobs and time.monotonic() < deadline and (durable or not jobs[0].durable)
                job = jobs.popleft() if more else None
            connection.commit()
            if durable:
                self.last_commit = time.monotonic()
            self.commits += 1
        except BaseException as error:  # like an executor's: whatever it is belongs to those who wait
            trouble = translated(error)
            waiting = [each for each, _, _ in ended] or ([] if job is None else [job])
            ended = [(each, None, trouble) for each in waiting]
            self._recover()
        for each, result, failure in ended:
            each.done(result, failure)

    def _connected(self, *, durable: bool) -> Connection:
        """The connection, outside a transaction, whose commits wait for the disk or do not."""
        if self._connection is None:
            self._connection, self._waits = self._connect(), None
        if self._waits is not durable:
            driver: Any = self._connection.connection.driver_connection
            driver.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}").close()
            self._waits = durable
        return self._connection

    def _recover(self) -> None:
        """Back to a connection outside a transaction, by opening another one if need be."""
        connection = self._connection
        if connection is None:
            return
        try:
            connection.rollback()
            driver: Any = connection.connection.driver_connection
            driver.rollback()  # SQLAlchemy lets go of a transaction whose commit failed, SQLite does not
        except (DBAPIError, sqlite3.Error):
            self._connection = None
            connection.invalidate()
            connection.close()


def _attempt(connection: Connection, job: Job) -> tuple[Any, BaseException | None]:
    """Runs one job in a savepoint. Raises what ended the whole transaction, returns what ended only the job."""
    driver: Any = connection.connection.driver_connection
    driver.execute("SAVEPOINT job")
    try:
        result = job.work(connection)
    except BaseException as error:
        if not driver.in_transaction:  # SQLite itself rolls all back on some errors, such as a full disk
            raise
        driver.execute("ROLLBACK TO job")
        driver.execute("RELEASE job")
        return None, translated(error)
    driver.execute("RELEASE job")
    return result, None
