"""What a transaction is told is what became of its commit, and nobody is told before."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from crmsync.store import writer
from crmsync.store.database import Database


@pytest.fixture
def sqlite(sqlite_url: str) -> Iterator[Database]:
    database = Database.open(sqlite_url)
    database.write(_two_tables)
    yield database
    database.close()


def _two_tables(connection: Connection) -> None:
    connection.exec_driver_sql("CREATE TABLE parent (id INTEGER PRIMARY KEY)")
    connection.exec_driver_sql(
        "CREATE TABLE child (parent INTEGER REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)"
    )


def add_orphan(connection: Connection) -> str:
    """Every statement of it goes well, and the commit does not."""
    connection.exec_driver_sql("INSERT INTO child VALUES (1)")
    return "added"


def children(database: Database) -> int:
    return int(database.read(lambda connection: connection.exec_driver_sql("SELECT count(*) FROM child").scalar_one()))


def test_a_commit_that_fails_is_everyones_failure(sqlite: Database) -> None:
    with pytest.raises(IntegrityError):
        sqlite.write(add_orphan)

    assert children(sqlite) == 0
    sqlite.write(lambda connection: connection.exec_driver_sql("INSERT INTO parent VALUES (1)").close())
    assert sqlite.write(add_orphan) == "added"
    assert children(sqlite) == 1


def test_what_is_patient_lets_all_others_go_first_and_is_done_in_the_end(sqlite: Database) -> None:
    begun, go_on = threading.Event(), threading.Event()
    order: list[str] = []

    def hold_up(connection: Connection) -> None:
        begun.set()
        assert go_on.wait(10)

    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(sqlite.write, hold_up)
        assert begun.wait(10)
        jobs = [pool.submit(sqlite.patient().write, lambda tx: order.append("patient")) for _ in range(2)]
        jobs += [pool.submit(sqlite.write, lambda tx: order.append("urgent")) for _ in range(4)]
        while not _waiting(sqlite, 6):
            time.sleep(0.001)
        go_on.set()
        wait([first, *jobs])

    assert order == ["urgent"] * 4 + ["patient"] * 2


@pytest.mark.parametrize("durable_first", [True, False])
def test_what_is_forgetful_takes_its_turn_and_makes_no_commit_less_durable(
    sqlite: Database, durable_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a durable transaction it is durable as well; where it is first, a durable one comes in another group."""
    monkeypatch.setattr(writer, "LONGEST_GROUP", 10.0)
    begun, go_on = threading.Event(), threading.Event()
    seen: list[bool] = []

    def hold_up(connection: Connection) -> None:
        begun.set()
        assert go_on.wait(10)

    def look(connection: Connection) -> None:
        seen.append(connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2)

    first, second = (sqlite, sqlite.forgetful()) if durable_first else (sqlite.forgetful(), sqlite)
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(first.write, hold_up)]
        assert begun.wait(10)
        jobs += [pool.submit(second.write, look) for _ in range(2)]
        while not _waiting(sqlite, 2):
            time.sleep(0.001)
        go_on.set()
        wait(jobs)

    assert seen == [True, True]


def _waiting(database: Database, count: int) -> bool:
    """Whether so many are in the writer's hands."""
    writer: Any = database._backend._writer  # type: ignore[attr-defined]
    return len(writer._jobs) + len(writer._later) == count
