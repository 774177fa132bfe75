"""People are told once, again after an hour while it lasts, and that it is over; work never waits for that."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from support.receiver import Receiver

from crmsync.daemon import alerts as module
from crmsync.daemon.alerts import ENDS, QUEUE, Alerts, Hook
from crmsync.errors import Reject, Retry
from crmsync.testing.loopback import LOOPBACK

HOUR = 3600.0


class Time:
    """A monotonic clock that moves when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Told:
    """A webhook in memory: keeps texts, and may fail."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.failing: list[Exception] = []
        self.arrived = threading.Semaphore(0)

    def __call__(self, text: str) -> None:
        if self.failing:
            raise self.failing.pop(0)
        self.texts.append(text)
        self.arrived.release()

    def wait(self, count: int) -> list[str]:
        for _ in range(count):
            assert self.arrived.acquire(timeout=10)
        return self.texts


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def alerts(time: Time, told: Told, monkeypatch: pytest.MonkeyPatch) -> Iterator[Alerts]:
    monkeypatch.setattr(module, "PAUSE", 0.0)
    made = Alerts(told, time)
    made.start()
    yield made
    made.stop(10)


def test_the_same_is_told_once_an_hour_while_it_lasts(alerts: Alerts, time: Time, told: Told) -> None:
    for _ in range(61):
        alerts.alert("connection_suspended", "acme", "expired")
        time.now += 60
    alerts.alert("connection_suspended", "other", "expired")

    assert told.wait(3) == [
        "crmsync connection suspended (acme): expired",
        "crmsync connection suspended (acme): expired",
        "crmsync connection suspended (other): expired",
    ]


def test_the_end_is_told_once_and_only_after_a_beginning(alerts: Alerts, told: Told) -> None:
    alerts.alert("connection_recovered", "acme", "works")
    alerts.alert("connection_suspended", "acme", "expired")
    alerts.alert("connection_recovered", "acme", "works")
    alerts.alert("connection_recovered", "acme", "works")
    alerts.alert("disk_low", "", "full")

    assert told.wait(3)[1:] == ["crmsync connection recovered (acme): works", "crmsync disk low (all tenants): full"]
    assert alerts.active() == [("disk_low", "", "")]


def test_what_comes_and_goes_all_the_time_is_not_told_all_the_time(alerts: Alerts, time: Time, told: Told) -> None:
    for _ in range(10):
        alerts.alert("connection_suspended", "acme", "expired")
        time.now += 30
        alerts.alert("connection_recovered", "acme", "works")
        time.now += 30
    alerts.alert("disk_low", "", "full")

    assert len(told.wait(5)) == 5


def test_two_connections_of_a_tenant_are_told_apart(alerts: Alerts, told: Told) -> None:
    alerts.alert("connection_suspended", "acme", "one", "hubspot")
    alerts.alert("connection_suspended", "acme", "two", "pipedrive")
    alerts.alert("connection_recovered", "acme", "two works", "pipedrive")

    assert len(told.wait(3)) == 3
    assert alerts.active() == [("connection_suspended", "acme", "hubspot")]


def test_every_end_ends_another_kind() -> None:
    assert not ENDS.keys() & set(ENDS.values())


def test_a_webhook_that_hangs_holds_nobody_up(time: Time) -> None:
    let = threading.Event()
    alerts = Alerts(lambda text: let.wait(10) and None, time)
    alerts.start()
    for number in range(QUEUE + 50):
        alerts.alert("disk_low", f"tenant-{number}", "full")

    assert alerts.counts["dropped"] >= 49
    let.set()
    alerts.stop(10)


def test_a_webhook_that_fails_is_tried_again_and_then_counted(alerts: Alerts, told: Told) -> None:
    told.failing = [Retry("down"), Retry("down")]
    alerts.alert("disk_low", "", "first")
    assert told.wait(1) == ["crmsync disk low (all tenants): first"]
    told.failing = [Reject("no such webhook")]
    alerts.alert("disk_low", "acme", "second")
    alerts.alert("disk_low", "other", "third")
    assert told.wait(1)[-1].endswith("third")

    assert alerts.counts["failed"] == 1


def test_without_a_webhook_it_is_only_logged() -> None:
    alerts = Alerts()
    alerts.start()
    alerts.alert("disk_low", "", "full")
    alerts.stop()

    assert not alerts.counts


def test_the_webhook_gets_what_slack_takes() -> None:
    with Receiver() as receiver:
        hook = Hook(f"{receiver.url}/services/T000/B000/XXXX?token=1", LOOPBACK)
        hook.post("crmsync disk low: full")
        receiver.statuses.append(404)
        with pytest.raises(Reject):
            hook.post("again")
        hook.close()
        (first, _) = receiver.requests

    assert first.path.endswith("/services/T000/B000/XXXX")
    assert first.json() == {"text": "crmsync disk low: full"}
