"""A tenant with a large backlog and platforms that hang or fail: its neighbour's records flow as if it were not there.

Nothing here measures time: what counts is who was served while the other still had all of its work before it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from typing import Any

import orjson
import pytest
from sqlalchemy import func, insert, select
from support.household import RULES, Crm, CrmConnector, Household, KirimPlatform

from crmsync.connector import Outcome
from crmsync.daemon.engine import LocalEngine
from crmsync.daemon.worker import CALLS_OF_ONE, Worker
from crmsync.errors import Retry
from crmsync.flows.tenant import Connection, Tenant
from crmsync.model import Kind, Ref, Write
from crmsync.store import deliveries, tables
from crmsync.store.database import Database
from crmsync.store.records import KIRIM

PATIENCE = 30.0
BACKLOG = 20_000
CONNECTIONS = 12
WORKERS = 32


@dataclass
class Hanging:
    """Calls that do not come back before the test ends."""

    released: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    inside: int = 0
    most: int = 0
    crowded: threading.Event = field(default_factory=threading.Event)

    def call(self) -> None:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            if self.inside >= CALLS_OF_ONE:
                self.crowded.set()
        self.released.wait(PATIENCE)
        with self.lock:
            self.inside -= 1
        raise Retry("no answer")


@dataclass
class Neighbours:
    """`noisy` with a backlog of everything, and a household that is well."""

    home: Household
    noisy: Tenant
    worker: Worker
    hanging: Hanging

    def until(self, condition: Any) -> None:
        pause = threading.Event()
        for _ in range(int(PATIENCE / 0.02)):
            if condition():
                return
            self.home.arrive_all()
            self.worker.wake()
            pause.wait(0.02)
        raise AssertionError("it never came to be")

    def left(self, table: Any, *conditions: Any) -> int:
        chosen = select(func.count()).select_from(table).where(table.c.tenant == "noisy", *conditions)
        return int(self.home.database.read(lambda tx: tx.execute(chosen).scalar_one()))


def noisy_tenant(home: Household, call: Any) -> Tenant:
    """A tenant whose CRMs answer nothing, or nothing good."""

    class Silent(CrmConnector):
        def fetch(self, kind: Kind, refs: Sequence[Ref]) -> Any:
            call()

        def upsert(self, kind: Kind, writes: Sequence[Write]) -> Sequence[Outcome]:
            call()
            return []

    connections = {}
    for number in range(CONNECTIONS):
        crm = Crm()
        crm.connector, crm.clock = Silent, home.clock
        name = f"crm{number}"
        connections[name] = Connection(name, crm.connect(connection=name), {Kind.CONTACT: RULES}, live=True)
    kirim = KirimPlatform()
    kirim.clock = home.clock
    return Tenant("noisy", kirim.connect(connection=KIRIM), connections)


def pile_up(home: Household) -> None:
    """Deliveries that wait to be understood, and pairs that wait to be written."""
    now = home.clock()
    at = now.isoformat()
    bodies = [
        orjson.dumps(
            {
                "changes": [
                    {
                        "key": f"k{number}",
                        "type": "contact.changed",
                        "id": f"n{number:06d}",
                        "at": at,
                        "version": at,
                        "fields": {"name": f"Noisy {number}"},
                    }
                ]
            }
        )
        for number in range(BACKLOG)
    ]
    rows = [
        {"tenant": "noisy", "source": KIRIM, "key": sha256(body).digest(), "body": body, "received_at": now}
        for body in bodies
    ]
    known = [f"p{number:06d}" for number in range(BACKLOG // CONNECTIONS)]
    of = {"tenant": "noisy", "kind": "contact"}
    view = {**of, "endpoint": KIRIM, "fields": {"name": "Noisy"}, "seen_at": now}
    pair = {**of, "base": {}, "noted": {}}
    due = {**of, "revision": 1, "first_at": now - timedelta(hours=1), "not_before": now}
    places = [f"crm{number}" for number in range(CONNECTIONS)]

    def work(tx: Any) -> None:
        tx.execute(insert(tables.Delivery), rows)
        tx.execute(insert(tables.View), [{**view, "id": id, "external_id": id} for id in known])
        for table, row in ((tables.Pair, pair), (tables.Due, due)):
            tx.execute(
                insert(table), [{**row, "connection": place, "kirim_id": id} for place in places for id in known]
            )

    home.database.write(work)


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    made = Hanging()
    yield made
    made.released.set()


def neighbours(database: Database, hanging: Hanging, call: Any) -> Neighbours:
    home = Household(database)
    noisy = noisy_tenant(home, call)
    pile_up(home)
    tenants = {"noisy": noisy, "acme": home.tenant}
    worker = Worker(database, tenants, {}, LocalEngine(WORKERS), home.clock, lambda: 0.5)
    return Neighbours(home, noisy, worker, hanging)


def test_a_neighbour_whose_platforms_hang_holds_nobody_up(sqlite_url: str, hanging: Hanging) -> None:
    database = Database.open(sqlite_url)
    both = neighbours(database, hanging, hanging.call)
    both.worker.start()
    assert hanging.crowded.wait(PATIENCE)  # all that it may have is taken, and none of it comes back
    ids = [both.home.add(name=f"Ana {number}") for number in range(60)]
    both.until(lambda: len(both.home.crm.records()) == 1 + len(ids) and not both.home.due())
    table = tables.Due.__table__  # type: ignore[attr-defined]

    assert hanging.inside == hanging.most == CALLS_OF_ONE
    assert both.left(table) >= BACKLOG - CONNECTIONS
    assert all(both.home.partner(id).fields["name"] for id in ids)
    hanging.released.set()
    assert both.worker.stop(timedelta(seconds=PATIENCE))
    database.close()


def test_a_neighbour_whose_platforms_fail_holds_nobody_up_and_its_backlog_waits_its_turn(
    sqlite_url: str, hanging: Hanging
) -> None:
    """Between what a small tenant hands in and its effect there are only a few turns of the large one."""
    database = Database.open(sqlite_url)
    turns: Counter[str] = Counter()
    calls: Counter[str] = Counter()

    def fail() -> None:
        calls["noisy"] += 1
        raise Retry("memory answered 500", ambiguous=True)

    both = neighbours(database, hanging, fail)
    work = both.worker._work

    def counted(lane: Any, fence: Any) -> None:
        turns[lane.tenant] += 1
        work(lane, fence)

    both.worker._work = counted  # type: ignore[method-assign]
    both.worker.start()
    both.until(lambda: calls["noisy"] >= CONNECTIONS)
    pending = tables.Delivery.__table__  # type: ignore[attr-defined]
    for number in range(5):
        before = turns["noisy"]
        both.home.add(name=f"Ana {number}")
        both.until(lambda number=number: len(both.home.crm.records()) == 2 + number)
        assert turns["noisy"] - before <= 60
    waiting = both.left(pending, pending.c.state == deliveries.DeliveryState.PENDING)

    assert waiting > 0, "the small tenant was served only after the large one had no more work"
    assert both.worker.stop(timedelta(seconds=PATIENCE))
    database.close()
