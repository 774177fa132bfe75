"""Schedules: each moment is acted on once, by whichever node; what was missed is made up for once."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from support.household import Household

from crmsync.core.cron import Cron
from crmsync.core.schedules import POLL, RECONCILE, SEGMENTS, SWEEP, Schedules
from crmsync.daemon.schedule import Schedule
from crmsync.flows.poll import CHANGES
from crmsync.flows.schedules import overview
from crmsync.model import Kind
from crmsync.store import chores, cursors, fires, runs, segments
from crmsync.store.database import Database
from crmsync.store.fires import BEGUN
from crmsync.store.lanes import Work
from crmsync.store.records import KIRIM
from crmsync.store.segments import Managed

JAKARTA = ZoneInfo("Asia/Jakarta")
FEEDS = {("acme", "crm", Kind.CONTACT): timedelta(seconds=30)}


@pytest.fixture
def home(database: Database) -> Household:
    return Household(database)


def node(home: Household, schedules: Schedules, name: str = "node", feeds: Mapping[Any, timedelta] = FEEDS) -> Schedule:
    """A node's alarm clock, which the test rings itself."""
    return Schedule(
        home.database,
        feeds,
        name,
        home.clock,
        lambda: None,
        tenants={"acme": home.tenant},
        schedules={"acme": schedules},
    )


def crons(**texts: str) -> Schedules:
    return Schedules({name: Cron(text, JAKARTA) for name, text in texts.items()}, heal=True, threshold=7)


def ring(clock: Schedule, name: str) -> None:
    clock._on_cron("acme", name)()


def slots(home: Household, name: str) -> list[datetime]:
    table = fires._fire
    rows = home.database.read(lambda tx: tx.execute(table.select().where(table.c.name == name)).all())
    return sorted(row.slot for row in rows if row.note != BEGUN)


def begun_runs(home: Household) -> list[Any]:
    return [run for run in home.database.read(lambda tx: runs.latest(tx, 20)) if run.kind == "reconcile"]


def test_a_new_schedule_has_missed_nothing(home: Household) -> None:
    ring(node(home, crons(reconcile="0 3 * * *")), RECONCILE)

    assert (begun_runs(home), slots(home, RECONCILE)) == ([], [])


def test_several_nodes_run_each_moment_once(home: Household) -> None:
    nodes = [node(home, crons(reconcile="0 * * * *"), name) for name in ("a", "b", "c", "d")]
    ring(nodes[0], RECONCILE)
    home.clock.advance(timedelta(hours=1))
    with ThreadPoolExecutor(len(nodes)) as threads:
        list(threads.map(lambda one: ring(one, RECONCILE), nodes * 3))

    assert slots(home, RECONCILE) == [home.clock()]
    (run,) = begun_runs(home)
    assert run.options == {"heal": True, "threshold": 7}


def test_what_was_missed_is_made_up_for_once(home: Household) -> None:
    ring(node(home, crons(sweep="0 * * * *")), SWEEP)
    home.clock.advance(timedelta(days=3, minutes=10))
    for name in ("a", "b"):
        ring(node(home, crons(sweep="0 * * * *"), name), SWEEP)

    assert slots(home, SWEEP) == [home.clock() - timedelta(minutes=10)]
    assert home.database.read(lambda tx: chores.read(tx, "acme", Work.SWEEP)).due_at == home.clock()


def test_a_node_whose_clock_is_behind_repeats_nothing(home: Household) -> None:
    ahead, behind = node(home, crons(sweep="* * * * *"), "a"), node(home, crons(sweep="* * * * *"), "b")
    ring(ahead, SWEEP)
    home.clock.advance(timedelta(minutes=5))
    ring(ahead, SWEEP)
    home.clock.advance(timedelta(minutes=-2))
    ring(behind, SWEEP)

    assert len(slots(home, SWEEP)) == 1


def test_times_are_those_of_the_tenants_zone(home: Household) -> None:
    clock = node(home, crons(segments="0 3 * * *"))
    ring(clock, SEGMENTS)
    home.clock.at = datetime(2026, 11, 4, 12, 0, tzinfo=UTC)
    ring(clock, SEGMENTS)

    assert slots(home, SEGMENTS) == [datetime(2026, 11, 3, 20, 0, tzinfo=UTC)]


def test_a_start_makes_up_for_what_was_missed(home: Household) -> None:
    ring(node(home, crons(reconcile="0 3 * * *")), RECONCILE)
    home.clock.advance(timedelta(days=2))
    clock = node(home, crons(reconcile="0 3 * * *"), feeds={})
    clock.start()
    clock.stop()

    assert len(begun_runs(home)) == 1


def test_polls_by_the_clock_take_the_place_of_those_by_seconds(home: Household) -> None:
    clock = node(home, crons(poll="*/5 * * * *"))
    assert {job.id for job in clock._scheduler.get_jobs()} == {"acme/poll", "/housekeeping"}
    ring(clock, POLL)
    home.clock.advance(timedelta(minutes=5))
    ring(clock, POLL)

    (feed,) = home.database.read(lambda tx: cursors.due(tx, "acme", "crm", home.clock()))
    assert (feed.kind, feed.name) == (Kind.CONTACT, CHANGES)


def told(home: Household, schedules: Schedules) -> dict[str, dict[str, Any]]:
    rows = home.database.read(lambda tx: overview(tx, {"acme": schedules}, home.clock()))
    return {row["schedule"]: row for row in rows}


def test_the_next_moment_the_last_and_its_outcome_are_told(home: Household) -> None:
    schedules = crons(poll="*/5 * * * *", reconcile="0 * * * *", segments="0 * * * *", sweep="0 * * * *")
    clock = node(home, schedules, feeds={("acme", "crm", Kind.CONTACT): timedelta(0)})
    managed = Managed("acme", "crm", "VIP")
    home.database.write(lambda tx: segments.configure(tx, "acme", "crm", ["VIP"], home.clock()))
    for name in schedules.crons:
        ring(clock, name)
    before = told(home, schedules)
    home.clock.advance(timedelta(hours=1))
    for name in schedules.crons:
        ring(clock, name)
    during = told(home, schedules)
    home.poll("crm")
    for _ in range(20):
        home.walk(KIRIM)
        home.walk("crm")
    home.database.write(
        lambda tx: segments.end(tx, managed, home.clock(), cursors.NEVER, {}, "there is no segment VIP")
    )
    home.database.write(lambda tx: chores.finish(tx, chores.read(tx, "acme", Work.SWEEP), {}, home.clock()))
    after = told(home, schedules)

    assert {row["last"] for row in before.values()} == {None}
    assert before[RECONCILE]["next"] == "2026-11-02T17:00:00+07:00"
    assert {name: row["outcome"] for name, row in during.items()} == dict.fromkeys(schedules.crons, "under way")
    assert {row["last"] for row in after.values()} == {"2026-11-02T17:00:00+07:00"}
    assert {name: row["outcome"] for name, row in after.items()} == {
        POLL: "done",
        RECONCILE: "done",
        SEGMENTS: "trouble",
        SWEEP: "done",
    }
    assert after[RECONCILE]["detail"].endswith("agreed")
    assert after[SEGMENTS]["detail"].endswith("VIP")


def test_a_reconciliation_above_its_threshold_is_told_as_trouble(home: Household) -> None:
    schedules = crons(reconcile="0 * * * *")
    for number in range(8):
        home.kirim.add(None, {"name": f"n{number}", "phone": f"+62811{number:07}"})
    home.kirim.take_hooks()
    clock = node(home, schedules)
    ring(clock, RECONCILE)
    home.clock.advance(timedelta(hours=1))
    ring(clock, RECONCILE)
    for _ in range(20):
        home.walk(KIRIM)
        home.walk("crm")

    row = told(home, schedules)[RECONCILE]
    assert row["outcome"] == "trouble"
    assert "more than the 7 that are healed without asking" in row["detail"]
