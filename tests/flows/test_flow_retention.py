"""What is older than a tenant wants to keep is forgotten in portions; what people still have to see to is not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select
from support.household import Household

from crmsync.errors import Fenced
from crmsync.flows import retention
from crmsync.flows.retention import Retention
from crmsync.model import Kind, Message
from crmsync.store import chores, history, messages, plans, runs, tables
from crmsync.store.cursors import NEVER
from crmsync.store.database import Database
from crmsync.store.history import Entry
from crmsync.store.lanes import Work
from crmsync.store.records import insert
from crmsync.store.retention import Kept
from crmsync.store.runs import State, Step

DAYS = Retention(*(timedelta(days=days) for days in (10, 40, 20, 5)))
TABLES = {
    Kept.HISTORY: tables.History,
    Kept.TIMELINE: tables.TimelineEntry,
    Kept.MESSAGES: tables.MessageRow,
    Kept.PLANS: tables.Planned,
    Kept.RUNS: tables.Run,
}


@pytest.fixture
def home(database: Database) -> Household:
    return Household(database)


@pytest.fixture(autouse=True)
def small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PORTION", 2)


def counts(home: Household) -> dict[str, int]:
    found = {}
    for what, model in TABLES.items():
        table = model.__table__  # type: ignore[attr-defined]
        found[what.value] = home.database.read(
            lambda tx, t=table: tx.execute(select(func.count()).select_from(t)).scalar_one()
        )
    return found


def entry(home: Household, tenant: str = "acme") -> Entry:
    return Entry(home.clock(), tenant, "crm", "contact", "k1", "name", "crm", "a", "b", None, "r", "written", "c")


def timeline(home: Household, key: str, **more: Any) -> None:
    row = {
        "tenant": "acme",
        "connection": "crm",
        "key": key,
        "thread": "",
        "day": "",
        "revision": 1,
        "sent": "x",
        "attempts": 0,
        "failures": 0,
        "first_at": home.clock(),
        "not_before": NEVER,
        "reason": "",
        "error": "",
        "cause": "",
        **more,
    }
    table = tables.TimelineEntry.__table__  # type: ignore[attr-defined]
    home.database.write(lambda tx: tx.execute(insert(tx, table), [row]) and None)


def fill(home: Household) -> None:
    """Five of each, and of what is not to be forgotten one each."""
    for _ in range(5):
        home.database.write(lambda tx: history.add(tx, [entry(home)]))
    home.database.write(lambda tx: history.add(tx, [entry(home, "other")]))
    for number in range(5):
        home.database.write(
            lambda tx, n=number: messages.learn(tx, "acme", Message(id=f"w{n}"), home.clock())  # type: ignore[misc]
        )
        timeline(home, f"w{number}")
    timeline(home, "waits", not_before=home.clock())
    timeline(home, "dead", reason="refused")
    for _ in range(2):
        ended(home)
    home.database.write(lambda tx: runs.begin(tx, "acme", "backfill", "kirim", {}, {}, home.clock()))


def ended(home: Household) -> None:
    """A plan of three items, one of which is approved and waits; and its run is over."""
    now = home.clock()
    run = home.database.write(lambda tx: runs.begin(tx, "acme", "plan", "crm", {}, {}, now))
    shown = [(Kind.CONTACT, f"k{number}", "f", {}) for number in range(2)]
    home.database.write(lambda tx: plans.note(tx, "acme", "crm", run.id, shown))
    home.database.write(lambda tx: plans.approve(tx, "acme", "crm", run.id, [(Kind.CONTACT, "k9", "f")], now))
    home.database.write(lambda tx: runs.save(tx, run, Step("crm", {}, {}, now, State.DONE), now))


def turn(home: Household, most: int = 10_000) -> bool:
    left = iter(range(most))
    return retention.chore(home.database, "acme", DAYS, home.fence, home.clock, lambda: next(left, None) is not None)


def ring(home: Household) -> None:
    home.database.write(lambda tx: chores.ring(tx, "acme", Work.RETENTION, home.clock()))


def test_each_kind_goes_after_its_own_time_and_what_waits_or_is_dead_stays(home: Household) -> None:
    fill(home)
    ring(home)
    assert turn(home)
    assert counts(home) == {"history": 6, "timeline": 7, "messages": 5, "plans": 6, "runs": 3}
    home.clock.advance(timedelta(days=6))
    assert turn(home)
    assert counts(home) == {"history": 6, "timeline": 7, "messages": 5, "plans": 2, "runs": 3}
    home.clock.advance(timedelta(days=15))
    assert turn(home)
    assert counts(home) == {"history": 1, "timeline": 7, "messages": 5, "plans": 2, "runs": 1}
    home.clock.advance(timedelta(days=20))
    assert turn(home)
    assert counts(home) == {"history": 1, "timeline": 2, "messages": 0, "plans": 2, "runs": 1}


def test_it_goes_on_where_it_stopped_and_counts_on(home: Household) -> None:
    fill(home)
    home.clock.advance(timedelta(days=50))
    ring(home)
    turns = 1
    while not turn(home, most=1):
        assert home.database.read(lambda tx: chores.read(tx, "acme", Work.RETENTION)).due_at <= home.clock()
        turns += 1

    chore = home.database.read(lambda tx: chores.read(tx, "acme", Work.RETENTION))
    assert turns > 2
    assert (chore.due_at, chore.done_at) == (NEVER, home.clock())
    assert chore.state["forgotten"] == {"history": 5, "timeline": 5, "messages": 5, "plans": 4, "runs": 2}


def test_a_lane_that_was_lost_forgets_nothing(home: Household) -> None:
    fill(home)
    home.clock.advance(timedelta(days=50))
    before = counts(home)
    home.fence_breaks = 1
    with pytest.raises(Fenced):
        turn(home)

    assert counts(home) == before
