"""Lanes on both databases: which have work, which rest; feeds that are due; moments that one node claims."""

from __future__ import annotations

from datetime import datetime, timedelta

from crmsync.core.views import Source
from crmsync.model import Kind, Record
from crmsync.store import cursors, fires, history, lanes, records
from crmsync.store.cursors import Feed
from crmsync.store.database import Database
from crmsync.store.fires import Fire
from crmsync.store.history import Entry
from crmsync.store.lanes import Lane, Work
from crmsync.store.records import KIRIM, Observation
from crmsync.testing.clock import START

SYNC = Lane("acme", "crm", Work.SYNC)


def waiting(database: Database, now=START) -> dict[Lane, int]:
    return {one.lane: one.count for one in database.read(lambda tx: lanes.waiting(tx, now))}


def make_due(database: Database, count: int = 3) -> None:
    seen = [Observation(Record(Kind.CONTACT, f"k{n}", {"name": "a"}), Source.TOLD, "c") for n in range(count)]
    database.write(lambda tx: records.observe(tx, "acme", KIRIM, seen, now=START, followers=["crm"]))


def test_an_idle_store_has_no_work(database: Database) -> None:
    assert waiting(database) == {}


def test_each_kind_of_work_has_a_lane_of_its_own(database: Database) -> None:
    make_due(database)
    database.write(lambda tx: records.mark_stale(tx, "acme", "crm", Kind.CONTACT, {"c1": "x"}, START))
    database.write(lambda tx: cursors.ring(tx, "acme", "crm", Kind.CONTACT, "changes", START))

    assert waiting(database) == {SYNC: 3, Lane("acme", "crm", Work.REREAD): 1, Lane("acme", "crm", Work.POLL): 1}
    assert waiting(database, START - timedelta(seconds=1)) == {}


def test_a_lane_that_rests_is_not_waiting_until_its_time(database: Database) -> None:
    make_due(database)
    until = START + timedelta(minutes=1)
    database.write(lambda tx: lanes.rest(tx, SYNC, until, "expired"))
    database.write(lambda tx: lanes.rest(tx, SYNC, until, "expired"))

    assert waiting(database) == {}
    assert database.read(lambda tx: lanes.resting(tx, SYNC, START))
    assert not database.read(lambda tx: lanes.resting(tx, SYNC, until))
    assert waiting(database, until) == {SYNC: 3}
    assert database.read(lambda tx: lanes.failures(tx, SYNC)) == 2
    assert [(row.endpoint, row.suspended) for row in database.read(lanes.states)] == [("crm", "expired")]
    database.write(lambda tx: lanes.well(tx, SYNC))
    assert waiting(database) == {SYNC: 3}
    assert database.read(lambda tx: lanes.failures(tx, SYNC)) == 0


def test_a_feed_with_more_stays_due_and_one_without_waits_to_be_rung(database: Database) -> None:
    def due(now) -> list[Feed]:
        return database.read(lambda tx: cursors.due(tx, "acme", "crm", now))

    database.write(lambda tx: cursors.ring(tx, "acme", "crm", Kind.CONTACT, "changes", START))
    (feed,) = due(START)
    assert (feed.position, feed.began_at) == (None, START)
    database.write(lambda tx: cursors.save(tx, "acme", "crm", feed, "p1", more=True, now=START))
    assert [one.position for one in due(START)] == ["p1"]
    database.write(lambda tx: cursors.save(tx, "acme", "crm", feed, "p2", more=False, now=START))
    assert due(START + timedelta(days=1000)) == []
    later = START + timedelta(hours=1)
    database.write(lambda tx: cursors.ring(tx, "acme", "crm", Kind.CONTACT, "changes", later))
    assert [(one.position, one.began_at) for one in due(later)] == [("p2", START)]


def test_one_node_claims_a_moment(database: Database) -> None:
    def claimed(node: str, slot: datetime = START, tenant: str = "acme") -> bool:
        return database.write(lambda tx: fires.claim(tx, Fire(tenant, "poll", slot, node, START, "")))

    assert [claimed(node) for node in ("a", "b", "a")] == [True, False, False]
    assert claimed("b", START + timedelta(minutes=1))
    assert claimed("b", tenant="other")


def test_the_latest_moment_of_a_schedule_is_remembered_however_old(database: Database) -> None:
    slots = [START + timedelta(minutes=number) for number in range(3)]
    for slot in slots:
        database.write(lambda tx, at=slot: fires.claim(tx, Fire("acme", "poll", at, "a", at, "")))
    database.write(lambda tx: fires.claim(tx, Fire("acme", "sweep", START, "a", START, "")))

    assert database.write(lambda tx: fires.purge(tx, START + timedelta(days=9))) == 2
    last = database.read(lambda tx: [fires.last(tx, "acme", name) for name in ("poll", "sweep", "segments")])
    assert [fire and fire.slot for fire in last] == [slots[-1], START, None]


def entry(number: int, **more) -> Entry:
    values = {"old": None, "new": ("a", "b"), "competing": "👩", "rule": "created", "outcome": "written", "cause": "x"}
    place = {"tenant": "acme", "connection": "crm", "kind": "contact", "kirim_id": "k1", "field": "tags", "side": "crm"}
    return Entry(**{"at": START + timedelta(seconds=number), **place, **values, **more})


def test_history_keeps_order_fields_and_tenants_apart(database: Database) -> None:
    rows = [entry(0), entry(1, field="name"), entry(2, field=""), entry(3, kirim_id="k2"), entry(4, tenant="other")]
    database.write(lambda tx: history.add(tx, rows))

    def told(field: str | None = None) -> list[tuple[str, object]]:
        return [(row.field, row.new) for row in database.read(lambda tx: history.of(tx, "acme", "k1", field))]

    assert told() == [("tags", ["a", "b"]), ("name", ["a", "b"]), ("", ["a", "b"])]
    assert told("name") == [("name", ["a", "b"]), ("", ["a", "b"])]


def test_written_fields_and_records_are_counted(database: Database) -> None:
    rows = [
        entry(0),
        entry(1, field="name"),
        entry(2, kirim_id="k2"),
        entry(3, outcome="agreed"),
        entry(4, side="kirim"),
    ]
    database.write(lambda tx: history.add(tx, rows))

    counted = {
        row.side: (row.records, row.fields) for row in database.read(lambda tx: history.written_since(tx, START))
    }
    assert counted == {"crm": (2, 3), "kirim": (1, 1)}
