"""What a transaction is told is what became of its commit, and nobody is told before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

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
