"""A delivery is acknowledged only once it is committed, and is stored once however often it comes."""

import asyncio
import hashlib
import os
import subprocess
import sys
import textwrap
import threading
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from crmsync.errors import StoreUnavailable
from crmsync.store.database import Database
from crmsync.store.inbox import LARGEST_GROUP, Inbox

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
ROWS = text("SELECT tenant, source, key, body, received_at, secret, state, attempts FROM delivery ORDER BY id")


def rows(database):
    return database.read(lambda connection: [tuple(row) for row in connection.execute(ROWS)])


def bodies(database):
    return [row[3] for row in rows(database)]


def put(inbox, body, tenant="acme", source="kirim"):
    return inbox.append(tenant, source, body, NOW, "s1")


def together(inbox, *contents):
    async def main():
        return await asyncio.gather(*(put(inbox, body) for body in contents), return_exceptions=True)

    return asyncio.run(main())


class Held:
    """Keeps every other transaction of a store from committing while it is entered."""

    def __init__(self, database):
        self._database = database
        self._go_on = threading.Event()

    def __enter__(self):
        began = threading.Event()

        def work(connection):
            if connection.dialect.name == "postgresql":
                connection.execute(text("LOCK TABLE delivery IN ACCESS EXCLUSIVE MODE"))
            began.set()
            self._go_on.wait(20)

        self._thread = threading.Thread(target=self._database.write, args=(work,))
        self._thread.start()
        began.wait(10)

    def release(self):
        self._go_on.set()
        self._thread.join()

    def __exit__(self, *_):
        self.release()


def test_a_delivery_is_kept_byte_for_byte(database):
    body = b'{"name":"Dewi \xf0\x9f\x92\x90"}\x00\xff'
    assert together(Inbox(database), body) == [True]
    key = hashlib.sha256(body).digest()
    assert rows(database) == [("acme", "kirim", key, body, 1_772_366_400_123_456, "s1", 0, 0)]


def test_a_delivery_that_is_stored_is_known(database):
    inbox = Inbox(database)
    assert together(inbox, b"one") == [True]
    assert together(inbox, b"one") == [False]
    assert bodies(database) == [b"one"]


def test_sixty_four_copies_at_once_are_one_row_and_one_is_new(database):
    assert sorted(together(Inbox(database), *[b"same"] * 64)) == [False] * 63 + [True]
    assert bodies(database) == [b"same"]


def test_known_and_new_ones_in_one_group_are_told_apart(database):
    inbox = Inbox(database)
    together(inbox, b"b", b"d")
    assert together(inbox, b"a", b"b", b"c", b"d", b"e", b"a") == [True, False, True, False, True, False]
    assert sorted(bodies(database)) == [b"a", b"b", b"c", b"d", b"e"]


def test_the_same_bytes_for_two_tenants_or_sources_are_two_deliveries(database):
    inbox = Inbox(database)

    async def main():
        return await asyncio.gather(put(inbox, b"x"), put(inbox, b"x", tenant="other"), put(inbox, b"x", source="crm"))

    assert asyncio.run(main()) == [True, True, True]
    assert sorted(row[:2] for row in rows(database)) == [("acme", "crm"), ("acme", "kirim"), ("other", "kirim")]


def test_more_than_one_group_at_once_keeps_the_order_of_arrival(database):
    many = [b"%05d" % number for number in range(3 * LARGEST_GROUP + 7)]
    assert together(Inbox(database), *many) == [True] * len(many)
    assert bodies(database) == many


def test_two_nodes_store_a_delivery_once(postgresql_url):
    nodes = [Database.open(postgresql_url), Database.open(postgresql_url)]
    many = [b"%d" % number for number in range(100)]

    async def main():
        inboxes = [Inbox(node) for node in nodes]
        forth, back = [put(inboxes[0], body) for body in many], [put(inboxes[1], body) for body in reversed(many)]
        return await asyncio.gather(*forth, *back)

    assert sum(asyncio.run(main())) == len(many)
    assert len(bodies(nodes[0])) == len(many)
    for node in nodes:
        node.close()


def test_what_was_acknowledged_can_be_read_by_everybody(database):
    inbox = Inbox(database)

    async def main():
        for number in range(20):
            await put(inbox, b"%d" % number)
            assert len(bodies(database)) == number + 1

    asyncio.run(main())


def test_nothing_is_acknowledged_before_the_commit(database):
    inbox = Inbox(database)

    async def main(held):
        waiting = asyncio.ensure_future(put(inbox, b"one"))
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        assert not done
        held.release()
        return await waiting

    with (held := Held(database)):
        assert asyncio.run(main(held)) is True
    assert bodies(database) == [b"one"]


def test_who_waits_too_long_is_told_and_the_repetition_finds_it_known(database):
    inbox = Inbox(database, patience=0.05)
    with Held(database):
        (error,) = together(inbox, b"one")
        assert isinstance(error, StoreUnavailable)
        (error,) = together(inbox, b"two")  # a later one waits its own time
        assert isinstance(error, StoreUnavailable)
    patient = Inbox(database)
    assert together(patient, b"three") == [True]
    assert together(patient, b"one", b"two") == [False, False]


@pytest.mark.parametrize("limits", [{"most_rows": 2}, {"most_bytes": 10}])
def test_over_the_limit_the_answer_is_no_at_once_and_later_yes(database, limits):
    inbox = Inbox(database, **limits)

    async def main(held):
        waiting = [asyncio.ensure_future(put(inbox, body)) for body in (b"one..", b"two..")]
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable, match="too many"):
            await put(inbox, b"three")
        held.release()
        assert await asyncio.gather(*waiting) == [True, True]
        return await put(inbox, b"three")

    with (held := Held(database)):
        assert asyncio.run(main(held)) is True


def test_who_hangs_up_harms_nobody(database):
    inbox = Inbox(database)

    async def main(held):
        first, second = (asyncio.ensure_future(put(inbox, body)) for body in (b"one", b"two"))
        await asyncio.sleep(0)
        first.cancel()
        held.release()
        return await second

    with (held := Held(database)):
        assert asyncio.run(main(held)) is True
    assert sorted(bodies(database)) == [b"one", b"two"]


def test_new_deliveries_wake_the_daemon_and_known_ones_do_not(database):
    inbox = Inbox(database)
    woken = []
    inbox.on_commit = woken.append

    async def main():
        await put(inbox, b"x")
        await put(inbox, b"x")
        await put(inbox, b"x", tenant="other", source="crm")

    asyncio.run(main())
    assert woken == [frozenset({("acme", "kirim")}), frozenset({("other", "crm")})]


def test_a_body_is_known_only_where_it_was_stored(database):
    inbox = Inbox(database)

    async def main():
        await put(inbox, b"x")
        return [await inbox.knows(*place, b"x") for place in (("acme", "kirim"), ("acme", "crm"), ("b", "kirim"))]

    assert asyncio.run(main()) == [True, False, False]


def test_a_full_disk_is_said_and_cured_by_itself(sqlite_url):
    database = Database.open(sqlite_url)
    inbox = Inbox(database)

    def limit(pages):
        return lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count={pages}").scalar()

    large = [os.urandom(50_000) for _ in range(3)]
    database.write(limit(database.write(lambda connection: connection.exec_driver_sql("PRAGMA page_count").scalar())))
    assert all(isinstance(error, StoreUnavailable) for error in together(inbox, *large))
    assert bodies(database) == []
    database.write(limit(1_000_000))
    assert together(inbox, *large) == [True, True, True]
    database.close()


def test_a_restart_of_postgresql_is_said_and_cured_by_itself(postgresql_url, postgres):
    if not postgres.can_stop:
        pytest.skip("the PostgreSQL of the tests is somebody else's")
    database = Database.open(postgresql_url)
    inbox = Inbox(database)
    assert together(inbox, b"one") == [True]
    postgres.stop()
    try:
        (error,) = together(inbox, b"two")
        assert isinstance(error, StoreUnavailable)
    finally:
        postgres.start()
    assert together(inbox, b"one", b"two") == [False, True]
    database.close()


def test_a_closed_store_is_said(database_url):
    database = Database.open(database_url)
    inbox = Inbox(database)
    database.close()
    (error,) = together(inbox, b"one")
    assert isinstance(error, StoreUnavailable)


CHILD = """
    import asyncio, sys
    from datetime import UTC, datetime
    from crmsync.store.database import Database
    from crmsync.store.inbox import Inbox

    async def sender(inbox, sender):
        number = 0
        while True:
            body = b"%d-%d" % (sender, number)
            await inbox.append("acme", "kirim", body, datetime.now(UTC), "s1")
            sys.stdout.write(body.decode() + "\\n")
            sys.stdout.flush()
            number += 1

    async def main():
        inbox = Inbox(Database.open(sys.argv[1]))
        await asyncio.gather(*(sender(inbox, number) for number in range(16)))

    asyncio.run(main())
"""


def test_a_killed_process_has_lost_nothing_it_acknowledged(database_url):
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), database_url], stdout=subprocess.PIPE, text=True
    )
    with child, child.stdout:
        acknowledged = [child.stdout.readline().strip() for _ in range(300)]
        child.kill()
        acknowledged += [line.strip() for line in child.stdout if line.endswith("\n")]
    database = Database.open(database_url)
    assert set(acknowledged) <= {body.decode() for body in bodies(database)}
    assert not any(together(Inbox(database), *(line.encode() for line in acknowledged)))
    database.close()
