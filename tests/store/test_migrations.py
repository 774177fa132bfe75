"""The schema that the revisions build is the one that the tables describe."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlmodel import SQLModel

from crmsync.errors import StoreError
from crmsync.store import tables  # noqa: F401  the tables have to be known
from crmsync.store.database import Database
from crmsync.store.migrations import current, migrate, newest


@pytest.fixture
def empty(empty_database_url):
    database = Database.open(empty_database_url)
    yield database
    database.close()


def test_an_empty_database_gets_the_newest_schema(empty):
    assert current(empty) is None
    migrate(empty)
    assert current(empty) == newest()


def test_a_second_start_changes_nothing(empty):
    migrate(empty)
    migrate(empty)
    assert current(empty) == newest()


def test_the_revisions_build_what_the_tables_say(database):
    def differences(connection):
        return compare_metadata(MigrationContext.configure(connection), SQLModel.metadata)

    assert database.read(differences) == []


def test_a_database_of_a_newer_program_is_refused_and_left_alone(database):
    database.write(lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    with pytest.raises(StoreError, match="newer crmsync"):
        migrate(database)
    assert current(database) == "9999"


def test_a_migration_that_fails_leaves_nothing_behind(empty):
    empty.write(lambda connection: connection.execute(text("CREATE TABLE history (mine INTEGER)")))
    with pytest.raises(Exception, match="history"):
        migrate(empty)
    assert empty.read(lambda connection: inspect(connection).get_table_names()) == ["history"]


def test_two_nodes_that_start_together_migrate_one_after_the_other(new_postgres):
    url = new_postgres()
    nodes = [Database.open(url), Database.open(url)]
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(migrate, nodes))
    assert [current(node) for node in nodes] == [newest(), newest()]
    for node in nodes:
        node.close()
