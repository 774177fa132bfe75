"""An endpoint whose credential is the trouble: it stands still as a whole, alone, visibly, and comes back by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support.household import Crm, Household

from crmsync.daemon.engine import LocalEngine
from crmsync.daemon.suspension import TRIAL
from crmsync.daemon.worker import Worker
from crmsync.flows import report
from crmsync.flows.poll import CHANGES
from crmsync.model import Kind
from crmsync.store import cursors, lanes, records, suspensions
from crmsync.store.database import Database
from crmsync.store.lanes import Lane, Work
from crmsync.store.records import KIRIM
from crmsync.store.suspensions import Suspension

PATIENCE = 20.0
MINUTE = timedelta(minutes=1)


class Node:
    """A household with two CRMs and a worker that really ticks."""

    def __init__(self, database: Database, home: Household | None = None) -> None:
        self.home = home or Household(database, crms={"crm": Crm(), "other": Crm()})
        if home is None:
            self.home.clock.at = datetime.now(UTC)
        self.alerts: list[tuple[str, str, str]] = []
        self.worker = Worker(
            database, {"acme": self.home.tenant}, {}, LocalEngine(4), self.home.clock, lambda: 0.5, alert=self._alert
        )
        self._pause = threading.Event()

    def _alert(self, kind: str, tenant: str, text: str, about: str = "") -> None:
        self.alerts.append((kind, about, text))

    def until(self, condition: Callable[[], Any], passing: timedelta = timedelta(0)) -> None:
        """Waits for it, while with each look so much time passes."""
        for _ in range(int(PATIENCE / 0.02)):
            if condition():
                return
            self.home.clock.advance(passing)
            self.home.arrive_all()
            self.worker.wake()
            self._pause.wait(0.02)
        raise AssertionError("it never came to be")

    def suspended(self, endpoint: str = "crm") -> Suspension | None:
        return self.home.database.read(lambda tx: suspensions.read(tx, "acme", endpoint))

    def rings(self, endpoint: str) -> None:
        """The endpoint is due to be asked for changes, and one of its records to be read again."""
        now = self.home.clock()
        self.home.database.write(lambda tx: cursors.ring(tx, "acme", endpoint, Kind.CONTACT, CHANGES, now))
        self.home.database.write(lambda tx: records.mark_stale(tx, "acme", endpoint, Kind.CONTACT, {"x": "test"}, now))

    def kinds(self) -> list[str]:
        return [kind for kind, _, _ in self.alerts]


@pytest.fixture
def node(database: Database) -> Iterator[Node]:
    made = Node(database)
    yield made
    assert made.worker.stop(timedelta(seconds=PATIENCE))


@pytest.mark.parametrize("status", [401, 403])
def test_it_stops_alone_is_told_once_and_recovers(node: Node, status: int) -> None:
    node.home.crms["crm"].fail_next(status, times=100_000)
    id = node.home.add(name="Ana")
    node.worker.start()
    node.until(lambda: len(node.home.crms["other"].records()) == 2)
    node.until(node.suspended)
    began = node.home.clock()
    node.until(lambda: list(node.home.due("crm")) == [id])

    for _ in range(3):
        node.home.clock.advance(MINUTE)
        probes = node.suspended().probes  # type: ignore[union-attr]
        node.until(lambda before=probes: node.suspended().probes > before)  # type: ignore[misc,union-attr]
    found = node.suspended()
    assert found is not None
    assert found.since == began
    assert str(status) in found.reason

    node.home.crms["crm"].heal()
    node.home.clock.advance(MINUTE)
    node.until(lambda: len(node.home.crms["crm"].records()) == 2)
    assert "connection_recovered" not in node.kinds()
    node.home.clock.advance(TRIAL)
    node.until(lambda: node.suspended() is None)

    assert node.home.row(id).error == ""
    assert set(node.kinds()) == {"connection_suspended", "connection_recovered"}
    assert node.kinds()[-1] == "connection_recovered"


def test_every_lane_of_the_endpoint_rests_and_only_the_probe_calls(node: Node) -> None:
    node.home.crms["crm"].fail_next(401, times=100_000)
    node.home.add(name="Ana")
    node.worker.start()
    node.until(node.suspended)
    node.until(lambda: not node.home.database.read(lambda tx: lanes.waiting(tx, node.home.clock())))
    node.rings("crm")
    asked = len(node.home.crms["crm"].requests)
    ticks = node.worker.ticks
    node.until(lambda: node.worker.ticks > ticks + 5)

    waiting = node.home.database.read(lambda tx: lanes.waiting(tx, node.home.clock()))
    assert [one.lane for one in waiting if one.lane.endpoint == "crm"] == []
    assert len(node.home.crms["crm"].requests) == asked
    node.home.clock.advance(MINUTE)
    node.until(lambda: node.suspended().probes == 1)  # type: ignore[union-attr]
    assert len(node.home.crms["crm"].requests) == asked + 1


def test_what_comes_in_is_observed_all_the_while(node: Node) -> None:
    node.home.crms["crm"].fail_next(401, times=100_000)
    node.worker.start()
    node.home.add(name="Ana")
    node.until(node.suspended)
    later = node.home.add(name="Budi")
    node.until(lambda: node.home.view(KIRIM, later) is not None)
    node.home.crms["crm"].edit(node.home.crms["crm"].records()[0].id, {"name": "told by its webhook"})
    node.until(lambda: not node.home.database.read(lambda tx: lanes.waiting(tx, node.home.clock())))

    assert later in node.home.due("crm")


def test_a_suspended_kirim_stops_only_what_needs_kirim(database: Database) -> None:
    home = Household(database)
    home.clock.at = datetime.now(UTC)
    node = Node(database, home)
    id, other = home.add(name="Ana", company="one"), home.add(name="Budi", company="one")
    home.settle()
    home.crm.take_hooks()
    node.worker.start()
    try:
        home.kirim.fail_next(401, times=100_000)
        home.crm.edit(home.partner(id).id, {"name": "Beatrice"})  # which is to go to Kirim
        node.until(lambda: node.suspended(KIRIM))
        home.clock.advance(timedelta(seconds=1))
        for one in (id, other):
            home.kirim.edit(one, {"company": "two"})  # which is to go to the CRM
        node.until(lambda: home.partner(other).fields["company"] == "two")
        home.clock.advance(MINUTE)
        node.until(lambda: home.partner(id).fields["company"] == "two")
        assert node.suspended("crm") is None
        assert node.suspended(KIRIM) is not None
        assert home.kirim.held(id)["name"] == "Ana"

        home.kirim.heal()
        home.clock.advance(MINUTE)
        node.until(lambda: node.suspended(KIRIM).trial)  # type: ignore[union-attr]
        # What was tried just before Kirim came back is tried again a minute after that.
        node.until(lambda: home.kirim.held(id)["name"] == "Beatrice", passing=timedelta(seconds=1))
        home.clock.advance(TRIAL)
        node.until(lambda: node.suspended(KIRIM) is None)
    finally:
        assert node.worker.stop(timedelta(seconds=PATIENCE))


def test_trouble_during_the_trial_is_the_same_suspension(node: Node) -> None:
    """As with a missing scope for writing, which no reading shows."""
    began = node.home.clock()
    crm = node.home.crms["crm"]
    node.home.tenant.connections["crm"].connector.upsert = lambda *_: _refuse()  # type: ignore[method-assign]
    node.home.add(name="Ana")
    node.worker.start()
    node.until(node.suspended)
    for round in range(1, 4):
        node.home.clock.advance(MINUTE)
        node.until(lambda n=round: node.suspended().probes == n and not node.suspended().trial)  # type: ignore[misc,union-attr]

    assert node.suspended().since == began  # type: ignore[union-attr]
    assert "connection_recovered" not in node.kinds()
    assert len(crm.records()) == 1


def test_a_suspension_outlives_the_process(database: Database) -> None:
    first = Node(database)
    first.home.crms["crm"].fail_next(401, times=100_000)
    first.home.add(name="Ana")
    first.worker.start()
    first.until(first.suspended)
    assert first.worker.stop(timedelta(seconds=PATIENCE))
    second = Node(database, first.home)
    first.home.crms["crm"].heal()
    second.worker.start()
    try:
        assert second.kinds()[0] == "connection_suspended"
        first.home.clock.advance(MINUTE)
        second.until(lambda: len(first.home.crms["crm"].records()) == 2)
        first.home.clock.advance(TRIAL)
        second.until(lambda: second.suspended() is None)
    finally:
        assert second.worker.stop(timedelta(seconds=PATIENCE))


def test_status_says_since_when_and_why(database: Database) -> None:
    home = Household(database)
    now = home.clock()
    database.write(lambda tx: suspensions.suspend(tx, "acme", "crm", "the token expired", now + MINUTE, now))
    told = database.read(lambda tx: report.status(tx, now))

    assert told["suspended"] == [
        {
            "tenant": "acme",
            "endpoint": "crm",
            "since": now.isoformat(timespec="milliseconds"),
            "reason": "the token expired",
            "next_probe": (now + MINUTE).isoformat(timespec="milliseconds"),
            "probes": 0,
            "on_trial": False,
        }
    ]


def test_lanes_of_other_endpoints_are_not_kept_back(database: Database) -> None:
    home = Household(database, crms={"crm": Crm(), "other": Crm()})
    now = home.clock()
    for endpoint in ("crm", "other"):
        database.write(lambda tx, of=endpoint: cursors.ring(tx, "acme", of, Kind.CONTACT, CHANGES, now))  # type: ignore[misc]
    database.write(lambda tx: suspensions.suspend(tx, "acme", "crm", "expired", now + MINUTE, now))

    waiting = [one.lane for one in database.read(lambda tx: lanes.waiting(tx, now))]
    assert waiting == [Lane("acme", "other", Work.POLL)]
    later = [one.lane for one in database.read(lambda tx: lanes.waiting(tx, now + MINUTE))]
    assert sorted(later) == [Lane("acme", "crm", Work.PROBE), Lane("acme", "other", Work.POLL)]


def _refuse() -> Any:
    from crmsync.errors import Suspend

    raise Suspend("missing scope contacts.write")
