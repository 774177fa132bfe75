"""The daemon looking after a subscription by itself: worker, schedule and self-test together, with short intervals."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from support.gatehouse import FAST, WITH_CONVERSATIONS, Gatehouse

from crmsync.daemon.engine import LocalEngine
from crmsync.daemon.schedule import Schedule
from crmsync.daemon.tending import SelfTest, Tending
from crmsync.daemon.worker import Worker
from crmsync.flows import report
from crmsync.flows.kept import keep
from crmsync.http import wall_clock
from crmsync.kirim.secrets import FileSecret
from crmsync.model import Kind
from crmsync.sandbox.kirim import Behaviour
from crmsync.store import records
from crmsync.store.database import Database
from crmsync.store.lanes import Work

PATIENCE = 20.0
SOON = timedelta(seconds=0.2)


@pytest.fixture
def house(database: Database, tmp_path: Path) -> Iterator[Gatehouse]:
    behaviour = Behaviour(time_scale=FAST)
    with Gatehouse(database, tmp_path, behaviour, clock=wall_clock, rules=WITH_CONVERSATIONS) as made:
        yield made


@contextmanager
def daemon(house: Gatehouse, watch: timedelta = SOON) -> Iterator[None]:
    """The parts of the daemon that do this, put together as it does; the way in is the house's."""
    tending = Tending(house.database, wall_clock, house.alert)
    tenants = {"acme": house.tenant}
    worker = Worker(house.database, tenants, {}, LocalEngine(4), wall_clock, lambda: 0.5, tend=tending.turn)
    schedule = Schedule(house.database, {}, "test", wall_clock, worker.wake, ["acme"], watch=watch)
    worker.start()
    schedule.start()
    try:
        yield
    finally:
        schedule.stop()
        assert worker.stop(timedelta(seconds=PATIENCE))


def await_that(fact: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def name(house: Gatehouse, contact: str) -> Any:
    """What we believe that Kirim calls a contact."""
    view = house.database.read(lambda tx: records.views(tx, "acme", "kirim", Kind.CONTACT, [contact])).get(contact)
    return None if view is None else view.fields.get("name")


def ticket(house: Gatehouse, conversation: str) -> Any:
    """What the CRM says of a conversation's status."""
    records = {record.external_id: record for record in house.crm.records(Kind.CONVERSATION)}
    return records[conversation].fields["status"] if conversation in records else None


def test_a_subscription_disabled_in_mid_run_comes_back_and_nothing_is_missing(house: Gatehouse) -> None:
    """D5: dead deliveries come again, and what was never delivered is read."""
    made = house.subscribe()
    with daemon(house):
        await_that(lambda: house.chore(Work.WATCH).state.get("status") == "active")
        known = house.kirim.create_contact("+628111111111", name="before")
        await_that(lambda: name(house, known) == "before")
        talk = house.kirim.begin_conversation(known)
        house.kirim.assign(talk, house.kirim.add_user("Ana", "ana@toko.example"))
        await_that(lambda: ticket(house, talk) == "open")
        house.close_gate()
        dead = [house.kirim.create_contact(f"+6281122{number:06}", name="dead") for number in range(30)]
        assert house.kirim.wait_idle()
        # Kirim may have switched it off and we on again meanwhile; it dies again until somebody listens.
        made.status = "disabled"
        silent = house.kirim.create_contact("+628133333333", name="silent")
        house.kirim.edit_contact(known, name="after")
        house.kirim.close(talk)
        house.open_gate()

        await_that(lambda: made.status == "active")
        await_that(lambda: name(house, known) == "after")
        await_that(lambda: name(house, silent) == "silent")
        await_that(lambda: ticket(house, talk) == "closed")
        await_that(lambda: all(name(house, contact) == "dead" for contact in dead))
        assert house.told("subscription_disabled")
    told = house.database.read(lambda tx: report.status(tx, wall_clock()))
    assert [one["status"] for one in told["subscriptions"]] == ["active"]
    assert [one["stopped"] for one in told["sweeps"]] == [""]


def test_the_dead_of_a_time_when_no_daemon_ran_come_at_the_start(house: Gatehouse) -> None:
    house.kirim.behaviour.dead_status = "failed"
    house.kirim.behaviour.disable_after = None
    house.subscribe()
    house.close_gate()
    house.events(5)
    house.open_gate()
    with daemon(house, timedelta(hours=1)):
        await_that(lambda: len(house.kirim.acknowledged) == 5)


def test_a_start_in_the_same_hour_sweeps_again(house: Gatehouse) -> None:
    house.kirim.behaviour.disable_after = None
    house.subscribe()
    for _ in range(2):
        house.close_gate()
        dead = house.events(2)
        house.open_gate()
        before = len(house.kirim.acknowledged)
        with daemon(house, timedelta(hours=1)):
            expected = before + len(dead)
            await_that(lambda expected=expected: len(house.kirim.acknowledged) >= expected)  # type: ignore[misc]


def test_kirim_being_down_rests_the_lane_and_recovers(house: Gatehouse) -> None:
    house.subscribe()
    house.kirim.faults.outage()
    with daemon(house):
        await_that(
            lambda: any(
                row["work"] == "watch"
                for row in house.database.read(lambda tx: report.status(tx, wall_clock()))["resting"]
            )
        )
        house.kirim.faults.recover()
        await_that(lambda: house.chore(Work.WATCH).state.get("status") == "active")


def self_tested(house: Gatehouse) -> list[tuple[str, str, str]]:
    """The alerts of a self-test that ran to its end."""
    done = threading.Event()
    told: list[tuple[str, str, str]] = []

    def alert(kind: str, tenant: str, text: str) -> None:
        told.append((kind, tenant, text))
        done.set()

    test = SelfTest({"acme": house.tenant}, wall_clock, house.new_key, alert, pauses=(0.0, 0.01))
    test.start()
    assert done.wait(PATIENCE)
    test.stop()
    return told


def with_secret(house: Gatehouse, key: str) -> None:
    """The daemon's own settings have this secret; the house verifies with its file."""
    kirim: Any = house.tenant.kirim
    kirim.settings = kirim.settings.model_copy(update={"webhook_secrets": (SecretStr(key),)})


def test_a_way_in_that_works_is_told_once(house: Gatehouse) -> None:
    with_secret(house, house.subscribe().secret)

    assert [kind for kind, *_ in self_tested(house)] == ["self_test_passed"]


def test_a_way_in_that_does_not_is_told_with_the_reason_and_no_secret(house: Gatehouse) -> None:
    house.subscribe()
    with_secret(house, "whsec_somebody-elses-secret-0123456789")
    ((kind, tenant, text),) = self_tested(house)

    assert (kind, tenant) == ("self_test_failed", "acme")
    assert "answered 503" in text
    assert "whsec_" not in text


def test_nobody_listening_is_told(house: Gatehouse) -> None:
    with_secret(house, house.subscribe().secret)
    house.close_gate()

    assert "nobody listens there" in self_tested(house)[0][2]
    house.open_gate()


def test_held_secrets_have_the_ids_of_the_file(house: Gatehouse) -> None:
    made = house.subscribe()
    with_secret(house, made.secret)
    kept = keep(house.tenant)

    assert kept is not None
    assert kept.held() == (FileSecret(made.secret, made.secrets[0].id),)
