"""Fresh databases for the tests: a SQLite file or a PostgreSQL database each, with the schema already in place."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

collect_ignore = ["plugin"]  # a package of its own: tests/testing/test_plugin.py installs it and runs its tests
Server = Any
COUNTER = itertools.count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """One PostgreSQL server for all tests, started when the first test wants it."""
    import postgres_server

    server = postgres_server.begin()
    yield server
    if server.can_stop:
        server.close()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy from."""
    path = tmp_path_factory.mktemp("template") / "store.db"
    _migrated(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres: Server) -> Iterator[str]:
    """A migrated PostgreSQL database to copy from."""
    name = f"crmsync_template_{id(postgres)}"
    _administer(postgres, f'CREATE DATABASE "{name}"')
    _migrated(postgres.url(name))
    yield name
    _administer(postgres, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A fresh SQLite store with the schema in place."""
    path = tmp_path / f"store-{next(COUNTER)}.db"
    shutil.copy(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture
def new_postgres(postgres: Server) -> Iterator[Callable[..., str]]:
    """Makes PostgreSQL databases that live as long as the test."""
    made: list[str] = []

    def make(template: str = "template1") -> str:
        made.append(f"crmsync_{id(postgres)}_{next(COUNTER)}")
        _administer(postgres, f'CREATE DATABASE "{made[-1]}" TEMPLATE "{template}"')
        return str(postgres.url(made[-1]))

    yield make
    for name in made:
        _administer(postgres, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def postgresql_url(new_postgres: Callable[..., str], postgres_template: str) -> str:
    """A fresh PostgreSQL store with the schema in place."""
    return new_postgres(postgres_template)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh store with the schema in place, once on each kind of database."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without any table, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    return str(request.getfixturevalue("new_postgres")())


@pytest.fixture
def database(database_url: str) -> Iterator[Any]:
    """An open store, once on each kind of database."""
    from crmsync.store.database import Database

    opened = Database.open(database_url, node="test")
    yield opened
    opened.close()


def _migrated(url: str) -> None:
    from crmsync.store.database import Database
    from crmsync.store.migrations import migrate

    database = Database.open(url)
    migrate(database)
    database.close()


def _administer(server: Server, statement: str) -> None:
    import psycopg

    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(statement)
