"""One handle on two kinds of database: the same promises on both."""

import os
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from crmsync.errors import Fenced, StoreError, StoreUnavailable
from crmsync.store.database import Database
from crmsync.store.sqlite import file_system

ADD = text("INSERT INTO alias (tenant, endpoint, kind, id, survivor) VALUES ('t', 'e', 'k', :id, :survivor)")
COUNT = text("SELECT count(*) FROM alias")


def add(identity, survivor="s"):
    def work(connection):
        connection.execute(ADD, {"id": identity, "survivor": survivor})
        return identity

    return work


def count(connection):
    return connection.execute(COUNT).scalar_one()


def sqlite_file(database_url):
    return Path(database_url.removeprefix("sqlite:///"))


@pytest.fixture
def sqlite(sqlite_url):
    database = Database.open(sqlite_url, node="here")
    yield database
    database.close()


@pytest.fixture
def postgresql(postgresql_url):
    database = Database.open(postgresql_url, node="here")
    yield database
    database.close()


def held_up(database):
    """Occupies the writer until told; returns the event that ends it, and waits until it began."""
    began, go_on = threading.Event(), threading.Event()

    def work(connection):
        began.set()
        go_on.wait(10)

    thread = threading.Thread(target=database.write, args=(work,))
    thread.start()
    began.wait(10)
    return go_on, thread


# Both kinds


def test_a_write_returns_its_result_and_is_visible(database):
    assert database.write(add("a")) == "a"
    assert database.read(count) == 1


def test_an_error_rolls_back_its_own_changes_and_reaches_the_caller(database):
    def work(connection):
        add("a")(connection)
        raise Fenced("another node")

    with pytest.raises(Fenced):
        database.write(work)
    assert database.read(count) == 0


def test_a_refused_row_is_the_callers_error(database):
    database.write(add("a"))
    with pytest.raises(IntegrityError):
        database.write(add("a"))
    assert database.write(add("b")) == "b"


def test_many_threads_write_at_once(database):
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: database.write(add(str(number))), range(40)))
    assert database.read(count) == 40


def test_a_read_cannot_write(database):
    with pytest.raises(Exception, match=r"(?i)read.?only"):
        database.read(add("a"))
    assert database.read(count) == 0


def test_a_read_sees_one_moment(database):
    def work(connection):
        before = count(connection)
        database.write(add("a"))
        return before, count(connection)

    assert database.read(work) == (0, 0)
    assert database.read(count) == 1


def test_last_commit_moves_with_a_commit_only(database):
    database.write(add("a"))
    first = database.last_commit
    assert first > 0
    with pytest.raises(IntegrityError):
        database.write(add("a"))
    database.read(count)
    if database.dialect == "postgresql":  # a group on SQLite commits around what failed
        assert database.last_commit == first
    database.probe()
    assert database.last_commit > first


def test_submitted_work_is_told_its_end(database):
    ends = []
    told = threading.Semaphore(0)

    def done(result, error):
        ends.append((result, type(error)))
        told.release()

    database.submit(add("a"), done)
    database.submit(add("a"), done)
    told.acquire(timeout=10)
    told.acquire(timeout=10)
    assert ends == [("a", type(None)), (None, IntegrityError)]


def test_closing_finishes_what_was_handed_in_and_takes_no_more(database_url):
    database = Database.open(database_url)
    ended = []
    database.submit(add("a"), lambda result, error: ended.append(result))
    database.close()
    database.close()
    assert ended == ["a"]
    with pytest.raises(StoreUnavailable):
        database.write(add("b"))
    with pytest.raises(StoreUnavailable):
        database.submit(add("b"), lambda result, error: None)
    again = Database.open(database_url)
    assert again.read(count) == 1
    again.close()


@pytest.mark.parametrize(
    "url", ["mysql://me:geheim@host/name", "geheim", "sqlite://", "sqlite:///:memory:", "postgresql://me:geheim@h:x/"]
)
def test_what_is_no_store_is_refused_without_telling_the_password(url):
    with pytest.raises(StoreError) as refused:
        Database.open(url)
    assert "geheim" not in str(refused.value)


# SQLite


def test_sqlite_promises_what_it_commits(sqlite):
    def settings(connection):
        names = ("journal_mode", "synchronous", "foreign_keys", "wal_autocheckpoint")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in names]

    assert sqlite.write(settings) == ["wal", 2, 1, 8000]


def test_sqlite_files_are_for_their_owner_alone(sqlite, sqlite_url):
    sqlite.write(add("a"))
    folder = sqlite_file(sqlite_url).parent
    modes = {path.name.split(".db")[1]: path.stat().st_mode & 0o777 for path in folder.glob("store-*.db*")}
    assert modes == {"": 0o600, "-wal": 0o600, "-shm": 0o600, ".lock": 0o600}


def test_transactions_that_wait_together_share_a_commit_and_fail_alone(sqlite):
    statements = []
    sqlite.write(lambda connection: connection.connection.driver_connection.set_trace_callback(statements.append))
    go_on, thread = held_up(sqlite)
    with ThreadPoolExecutor(5) as threads:
        futures = [threads.submit(sqlite.write, add(identity)) for identity in "abcb"]
        while len(sqlite._backend._writer._jobs) < 4:
            threading.Event().wait(0.001)
        statements.clear()
        go_on.set()
        errors = [type(future.exception()) for future in futures]
    thread.join()
    assert sorted(error.__name__ for error in errors) == ["IntegrityError", "NoneType", "NoneType", "NoneType"]
    assert sqlite.read(count) == 3
    assert statements.count("COMMIT") <= 2  # the one that held them up, and theirs


def test_a_transaction_within_a_transaction_is_refused_rather_than_waited_for(sqlite):
    with pytest.raises(RuntimeError, match="inside"):
        sqlite.write(lambda connection: sqlite.write(add("a")))


def test_a_second_daemon_is_refused_and_told_who_holds_the_file(sqlite, sqlite_url):
    with pytest.raises(StoreError, match=rf"process {os.getpid()} \(here\)"):
        Database.open(sqlite_url)
    sqlite.close()
    Database.open(sqlite_url).close()


def test_a_command_reads_beside_the_daemon_and_does_not_write(sqlite, sqlite_url):
    sqlite.write(add("a"))
    command = Database.open(sqlite_url, exclusive=False)
    assert command.read(count) == 1
    with pytest.raises(StoreError, match="daemon"):
        command.write(add("b"))
    command.close()


def test_a_command_does_not_create_a_store(tmp_path):
    with pytest.raises(StoreError, match="no database"):
        Database.open(f"sqlite:///{tmp_path / 'none.db'}", exclusive=False)


def test_a_full_disk_is_said_and_cured_by_itself(sqlite):
    def limit(pages):
        return lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count={pages}").scalar()

    pages = sqlite.write(lambda connection: connection.exec_driver_sql("PRAGMA page_count").scalar_one())
    sqlite.write(limit(pages + 2))
    with pytest.raises(StoreUnavailable, match="FULL"):
        sqlite.write(add("a", "x" * 50_000))
    assert sqlite.read(count) == 0
    with pytest.raises(StoreUnavailable, match="FULL"):
        sqlite.write(add("a", "x" * 50_000))
    sqlite.write(limit(1_000_000))
    assert sqlite.write(add("a", "x" * 50_000)) == "a"


def test_a_locked_file_is_said_and_cured_by_itself(sqlite, sqlite_url):
    sqlite.write(lambda connection: connection.exec_driver_sql("PRAGMA busy_timeout=1").scalar())
    other = sqlite3.connect(sqlite_file(sqlite_url), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="BUSY"):
        sqlite.write(add("a"))
    other.execute("ROLLBACK")
    other.close()
    assert sqlite.write(add("a")) == "a"


def test_a_mistake_in_a_statement_is_not_taken_for_an_outage(sqlite):
    with pytest.raises(Exception, match="no such table") as raised:
        sqlite.write(lambda connection: connection.exec_driver_sql("INSERT INTO nowhere VALUES (1)"))
    assert not isinstance(raised.value, StoreError)


def test_a_damaged_file_is_refused_at_the_start(sqlite_url):
    path = sqlite_file(sqlite_url)
    content = bytearray(path.read_bytes())
    content[4096:12288] = os.urandom(8192)
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        Database.open(sqlite_url)


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "letter.db"
    path.write_text("Dear Sir or Madam, " * 100)
    with pytest.raises(StoreError):
        Database.open(f"sqlite:///{path}")


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be opened"):
        Database.open(f"sqlite:///{tmp_path}/file/store.db")


@pytest.mark.parametrize(
    ("folder", "kind"),
    [("/srv/share/deep/er", "nfs4"), ("/srv", "ext4"), ("/srv/my share", "cifs"), ("/srv/sharepoint", "ext4")],
)
def test_the_file_system_of_a_folder_is_that_of_the_nearest_mount(folder, kind):
    mounts = "/dev/sda / ext4 rw 0 0\nhost:/x /srv/share nfs4 rw 0 0\n//h/y /srv/my\\040share cifs rw 0 0\n"
    assert file_system(Path(folder), mounts) == kind


# PostgreSQL


def test_a_server_that_may_forget_is_refused(postgresql, postgresql_url):
    name = postgresql.read(lambda connection: connection.execute(text("SELECT current_database()")).scalar_one())
    postgresql.write(lambda connection: connection.execute(text(f'ALTER DATABASE "{name}" SET synchronous_commit=off')))
    with pytest.raises(StoreError, match="synchronous_commit=off"):
        Database.open(postgresql_url)


def test_a_deadlock_is_tried_again(postgresql):
    postgresql.write(add("a"))
    postgresql.write(add("b"))
    both = threading.Barrier(2, timeout=10)
    update = text("UPDATE alias SET survivor = survivor || :by WHERE id = :id")

    def cross(first, second):
        met = []

        def work(connection):
            connection.execute(update, {"id": first, "by": first})
            if not met:
                met.append(True)
                both.wait()
            connection.execute(update, {"id": second, "by": first})

        postgresql.write(work)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(cross, "ab", "ba"))
    survivors = postgresql.read(
        lambda connection: connection.execute(text("SELECT survivor FROM alias")).scalars().all()
    )
    assert sorted("".join(sorted(each)) for each in survivors) == ["abs", "abs"]


def test_a_server_that_restarts_is_said_and_cured_by_itself(postgresql, postgres):
    if not postgres.can_stop:
        pytest.skip("the PostgreSQL of the tests is somebody else's")
    postgresql.write(add("a"))
    postgres.stop()
    try:
        with pytest.raises(StoreUnavailable):
            postgresql.write(add("b"))
        with pytest.raises(StoreUnavailable):
            postgresql.read(count)
        with pytest.raises(StoreUnavailable):
            postgresql.probe()
    finally:
        postgres.start()
    assert postgresql.write(add("b")) == "b"
    assert postgresql.read(count) == 2
    postgresql.probe()


def test_a_server_that_is_not_there_is_said_without_the_password(tmp_path):
    with pytest.raises(StoreUnavailable) as raised:
        Database.open(f"postgresql://me:geheim@/none?host={tmp_path}")
    assert "geheim" not in str(raised.value)


def test_only_what_is_patient_or_forgetful_does_not_wait_for_the_disk(database):
    asked = {"sqlite": "PRAGMA synchronous", "postgresql": "SHOW synchronous_commit"}[database.dialect]
    waits = {"sqlite": {2: True, 1: False}, "postgresql": {"on": True, "off": False}}[database.dialect]

    def setting(connection):
        return waits[connection.exec_driver_sql(asked).scalar_one()]

    patient, forgetful = database.patient(), database.forgetful()
    several = (database, patient, forgetful, patient, database)
    assert [each.write(setting) for each in several] == [True, False, False, False, True]


def test_a_commit_that_does_not_wait_for_the_disk_proves_nothing_of_it(database):
    before = database.last_commit
    database.patient().write(add("1"))

    assert database.read(count) == 1
    assert database.last_commit == before
    database.write(add("2"))
    assert database.last_commit > before
