"""The worker on a real store: it finds work by asking, rests what fails, and stops cleanly."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support.household import Household

from crmsync.daemon.engine import LocalEngine
from crmsync.daemon.worker import Worker
from crmsync.store import lanes
from crmsync.store.database import Database
from crmsync.store.lanes import Lane, Work
from crmsync.store.records import KIRIM

PATIENCE = 20.0
SYNC = Lane("acme", "crm", Work.SYNC)


class Daemon:
    """A household with a worker that really ticks."""

    def __init__(self, database: Database) -> None:
        self.home = Household(database)
        self.now = datetime.now(UTC)
        self.home.clock.at = self.now
        self.worker = Worker(database, {"acme": self.home.tenant}, {}, LocalEngine(4), self.home.clock, lambda: 0.5)
        self._pause = threading.Event()

    def until(self, condition: Callable[[], Any]) -> None:
        """Waits, ringing, until something is so."""
        for _ in range(int(PATIENCE / 0.02)):
            if condition():
                return
            self.home.collect()
            while self.home.wire:
                self.home.arrive(*self.home.wire.pop(0))
            self.worker.wake()
            self._pause.wait(0.02)
        raise AssertionError("it never came to be")

    def resting(self) -> dict[str, str]:
        return {row.work: row.suspended for row in self.home.database.read(lanes.states)}


@pytest.fixture
def daemon(database: Database) -> Iterator[Daemon]:
    made = Daemon(database)
    yield made
    assert made.worker.stop(timedelta(seconds=PATIENCE))


def test_a_delivery_becomes_a_record_without_anybody_ringing(daemon: Daemon) -> None:
    id = daemon.home.add(name="Ana")
    daemon.home.arrive_all()
    daemon.worker.start()
    daemon.until(lambda: len(daemon.home.crm.records()) == 2)
    daemon.until(lambda: not daemon.home.due())

    assert daemon.home.partner(id).fields["name"] == "Ana"


def test_a_lane_that_rested_before_a_restart_is_well_again_after_a_good_turn(daemon: Daemon) -> None:
    before = daemon.home.clock() - timedelta(minutes=1)
    daemon.home.database.write(lambda tx: lanes.rest(tx, SYNC, before, "expired"))
    daemon.home.add(name="Ana")
    daemon.home.arrive_all()
    daemon.worker.start()
    daemon.until(lambda: not daemon.resting())


def test_a_fault_of_ours_in_one_lane_leaves_the_others_running(daemon: Daemon) -> None:
    def broken(body: bytes) -> Any:
        raise RuntimeError("a fault of ours")

    daemon.home.tenant.connections["crm"].connector.parse = broken  # type: ignore[method-assign]
    daemon.home.arrive("crm", b"anything")
    id = daemon.home.add(name="Ana")
    daemon.home.arrive_all()
    daemon.worker.start()
    daemon.until(lambda: len(daemon.home.crm.records()) == 2)
    daemon.until(lambda: Work.OBSERVE in daemon.resting())

    assert daemon.home.view(KIRIM, id) is not None
    assert daemon.resting()[Work.OBSERVE] == ""


def test_stopping_waits_for_a_write_that_is_on_its_way(daemon: Daemon) -> None:
    on_its_way, released = threading.Event(), threading.Event()
    daemon.home.crm.meanwhile = [on_its_way.set, lambda: released.wait(PATIENCE)]
    id = daemon.home.add(name="Ana")
    daemon.home.arrive_all()
    daemon.worker.start()
    daemon.until(on_its_way.is_set)
    threading.Timer(0.1, released.set).start()

    assert daemon.worker.stop(timedelta(seconds=PATIENCE))
    assert daemon.home.row(id).crm_id is not None
    assert daemon.home.due() == {}


def test_what_is_not_configured_is_left_alone(daemon: Daemon) -> None:
    daemon.home.arrive("another", b"{}")
    id = daemon.home.add(name="Ana")
    daemon.home.arrive_all()
    daemon.worker.start()
    daemon.until(lambda: len(daemon.home.crm.records()) == 2)
    waiting = daemon.home.database.read(lambda tx: lanes.waiting(tx, daemon.home.clock()))

    assert Lane("acme", "another", Work.OBSERVE) in [one.lane for one in waiting]
    assert daemon.home.partner(id) is not None
