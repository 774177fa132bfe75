"""The sweep of dead deliveries: all of them come again, under either name, and none for ever."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from support.gatehouse import FAST, Gatehouse, unfenced

from crmsync.errors import Retry
from crmsync.flows import sweep
from crmsync.flows.poll import poll
from crmsync.model import Kind
from crmsync.sandbox.faults import Fault
from crmsync.sandbox.kirim import Behaviour, subscriptions
from crmsync.store import chores, cursors, records
from crmsync.store.database import Database
from crmsync.store.lanes import Work

HOUR = timedelta(hours=1)


@pytest.fixture
def house(database: Database, tmp_path: Path) -> Iterator[Gatehouse]:
    with Gatehouse(database, tmp_path, Behaviour(time_scale=FAST, disable_after=None)) as made:
        yield made


def die(house: Gatehouse, count: int) -> None:
    """So many events whose deliveries Kirim gives up."""
    house.close_gate()
    house.events(count)
    house.open_gate()


@pytest.mark.parametrize("word", ["dead", "failed"])
def test_what_kirim_gave_up_comes_again(house: Gatehouse, word: str) -> None:
    house.kirim.behaviour.dead_status = word
    house.subscribe()
    die(house, 7)
    assert len(house.kirim.deliveries(word)) == 7

    swept = house.sweep()
    assert house.kirim.wait_idle()
    assert (swept.dead, swept.replayed, swept.calls, swept.given_up) == (7, 7, 1, 0)
    assert len(house.received()) == 7


def test_both_names_at_once(house: Gatehouse) -> None:
    house.subscribe()
    die(house, 3)
    house.kirim.behaviour.dead_status = "failed"
    die(house, 2)

    swept = house.sweep()
    assert house.kirim.wait_idle()
    assert (swept.replayed, swept.calls) == (5, 2)
    assert len(house.received()) == 5


def test_the_originals_stay_dead_and_are_not_asked_for_again(house: Gatehouse) -> None:
    house.subscribe()
    die(house, 4)
    house.sweep()
    assert house.kirim.wait_idle()
    house.clock.advance(HOUR)

    swept = house.sweep()
    assert (swept.dead, swept.replayed, swept.calls) == (4, 0, 0)

    die(house, 1)
    assert house.sweep().replayed == 1


def test_more_than_a_call_can_take_go_in_several_windows(house: Gatehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "TOGETHER", 3)
    house.subscribe()
    house.close_gate()
    for _ in range(8):
        house.clock.advance(timedelta(seconds=10))
        house.events(1)
    house.open_gate()

    swept = house.sweep()
    assert house.kirim.wait_idle()
    assert (swept.replayed, swept.calls) == (8, 3)
    assert len(house.received()) == 8
    assert len(house.kirim.acknowledged) == 8


def test_a_window_with_more_than_kirim_takes_is_halved(house: Gatehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "LARGEST_REPLAY", 3)
    house.subscribe()
    house.close_gate()
    for _ in range(8):
        house.clock.advance(timedelta(seconds=10))
        house.events(1)
    house.open_gate()

    swept = house.sweep()
    assert house.kirim.wait_idle()
    assert swept.replayed == 8
    assert len(house.received()) == 8


def test_too_many_in_the_same_second_go_one_by_one(house: Gatehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "LARGEST_REPLAY", 3)
    house.subscribe()
    die(house, 5)

    swept = house.sweep()
    assert house.kirim.wait_idle()
    assert (swept.replayed, swept.calls) == (5, 6)
    assert len(house.received()) == 5


def test_what_dies_again_and_again_is_left_after_a_few_times_and_said(house: Gatehouse) -> None:
    house.subscribe()
    house.close_gate()
    house.events(2)
    replayed = []
    house.clock.advance(HOUR)
    for _ in range(8):
        replayed.append(house.sweep().replayed)
        assert house.kirim.wait_idle()
        house.clock.advance(HOUR)

    assert sum(replayed) == 2 * sweep.TIMES
    assert replayed[-1] == 0
    assert "2 deliveries died again after 3 replays" in house.told("sweep_stuck")[0]

    house.open_gate()
    assert house.sweep(afresh=True).replayed == 2
    assert house.kirim.wait_idle()
    assert len(house.received()) == 2
    assert house.sweep().given_up == 0


def test_a_host_that_names_no_events_is_asked_for_what_is_new_once_a_day(house: Gatehouse) -> None:
    house.kirim.behaviour.bare_deliveries = True
    house.subscribe()
    house.close_gate()
    house.events(2)
    replayed = []
    house.clock.advance(HOUR)
    for _ in range(72):
        replayed.append(house.sweep().replayed)
        assert house.kirim.wait_idle()
        house.clock.advance(HOUR)

    assert 3 <= sum(1 for count in replayed if count) <= 4
    house.open_gate()
    house.clock.advance(timedelta(days=1))
    assert house.sweep().replayed == 2
    assert house.kirim.wait_idle()
    assert len(house.received()) == 2


def test_statuses_of_one_message_share_an_id_and_are_each_asked_for(house: Gatehouse) -> None:
    house.subscribe()
    house.close_gate()
    contact = house.events(1)[0]
    wamid = house.kirim.send_message(contact)
    for word in ("sent", "delivered", "read"):
        house.kirim.message_status(wamid, word)
    assert house.kirim.wait_idle()
    house.open_gate()

    house.sweep()
    assert house.kirim.wait_idle()
    assert len(house.received()) == 5


def test_an_answer_that_is_lost_sends_nothing_twice(house: Gatehouse) -> None:
    house.subscribe()
    die(house, 3)
    house.kirim.faults.fail_next(1, Fault.reset(applied=True), "/v1/webhook_deliveries/bulk_replay")
    with pytest.raises(Retry):
        house.sweep()
    house.clock.advance(timedelta(seconds=5))

    house.sweep()
    assert house.kirim.wait_idle()
    assert len(house.kirim.acknowledged) == 3


def test_a_budget_that_runs_out_ends_a_sweep_that_goes_on_later_where_it_was(
    house: Gatehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "TOGETHER", 1)
    house.subscribe()
    house.close_gate()
    for _ in range(6):
        house.clock.advance(timedelta(seconds=10))
        house.events(1)
    house.open_gate()
    house.kirim.behaviour.write_limit = 4
    with pytest.raises(Retry):
        house.sweep()
    house.clock.advance(timedelta(minutes=1))

    assert house.sweep().replayed == 2
    assert house.kirim.wait_idle()
    assert len(house.kirim.acknowledged) == 6


def test_a_subscription_that_is_off_is_not_swept(house: Gatehouse) -> None:
    made = house.subscribe()
    die(house, 1)
    made.status = "disabled"

    assert "switched off" in house.sweep().stopped
    assert house.told("sweep_stopped")


def test_deliveries_of_other_subscriptions_are_none_of_our_business(house: Gatehouse) -> None:
    house.kirim.subscribe("http://127.0.0.1:1/elsewhere")
    house.subscribe()
    house.events(3)

    assert len(house.kirim.deliveries("dead")) == 3
    assert house.sweep().dead == 0


def test_what_the_purge_may_have_taken_is_said(house: Gatehouse) -> None:
    house.subscribe()
    house.sweep()
    assert house.told("sweep_purged") == []
    swept_at = house.clock()
    house.clock.advance(timedelta(days=40))
    house.sweep()

    (text,) = house.told("sweep_purged")
    assert f"{swept_at - sweep.LAST_TRY:%Y-%m-%d %H:%M}" in text
    assert f"{house.clock() - timedelta(days=30):%Y-%m-%d %H:%M}" in text
    house.sweep()
    assert len(house.told("sweep_purged")) == 1


def test_a_subscription_disabled_by_its_failures_comes_back_whole(house: Gatehouse) -> None:
    """Watch and sweep together: the dead come again, and what was never delivered is read."""
    house.kirim.behaviour.disable_after = 24
    made = house.subscribe()
    house.watch()
    die(house, 30)
    assert made.status == "disabled"
    before = {one.event_id for one in house.kirim.deliveries()}
    house.clock.advance(timedelta(minutes=1))

    house.watch()
    house.sweep(afresh=True)
    assert house.kirim.wait_idle()
    assert {one.event_id for one in house.kirim.acknowledged} == before
    assert made.status == "active"


def test_an_operators_wish_during_a_sweep_is_not_forgotten(house: Gatehouse) -> None:
    house.subscribe()
    original = house.kept.client.deliveries

    def deliveries(*arguments, **named):
        house.clock.advance(timedelta(seconds=1))
        house.database.write(lambda tx: chores.ring(tx, "acme", Work.SWEEP, house.clock(), afresh=True))
        return original(*arguments, **named)

    house.kept.client.deliveries = deliveries  # type: ignore[method-assign]
    house.sweep()

    chore = house.chore(Work.SWEEP)
    assert chore.due_at <= house.clock()
    assert chore.state["afresh"] is True


def test_what_was_asked_for_already_is_not_sent_again_for_the_sake_of_a_neighbour(house: Gatehouse) -> None:
    house.subscribe()
    house.close_gate()
    for _ in range(9):
        house.clock.advance(timedelta(seconds=10))
        house.events(1)
    house.open_gate()
    rows = house.kirim.deliveries("dead")
    kinds = [("a", 0), ("a", 1), ("x", 2), ("a", 3), ("x", 4), ("x", 5), ("x", 6), ("x", 7), ("a", 8)]
    dead = [sweep.Dead(rows[place].id, "dead", rows[place].created_at, "", "") for _, place in kinds]
    left = {rows[place].id for kind, place in kinds if kind == "a"}

    groups = [[row.id for row in group.rows] for group in sweep._groups(dead, left)]
    assert groups == [[row.id for row in rows[:4]], [rows[8].id]]


def test_after_forty_days_with_dead_of_both_names_and_a_purge_we_hold_what_kirim_holds(house: Gatehouse) -> None:
    """D5: no silent gap, whatever the outage."""
    house.kirim.behaviour.disable_after = 24
    made = house.subscribe()
    contacts = house.events(3)
    house.observe()
    house.watch()
    house.sweep()
    house.close_gate()
    house.clock.advance(timedelta(hours=1))
    contacts += house.events(10)
    house.clock.advance(timedelta(days=35))  # those are purged by the time we are back
    house.kirim.behaviour.dead_status = "failed"
    contacts += house.events(10)
    house.kirim.behaviour.dead_status = "dead"
    contacts += house.events(10)
    assert made.status == "disabled"
    contacts += house.events(5)  # of these no delivery is ever made
    house.kirim.edit_contact(contacts[0], name="changed")
    house.clock.advance(timedelta(days=5))
    house.open_gate()

    house.watch()
    house.sweep(afresh=True)
    assert house.kirim.wait_idle()
    house.observe()
    while house.database.read(lambda tx: cursors.due(tx, "acme", "kirim", house.clock())):
        poll(house.database, house.tenant, "kirim", unfenced, house.clock)
    views = house.database.read(lambda tx: records.views(tx, "acme", "kirim", Kind.CONTACT, contacts))
    assert {id: view.fields["name"] for id, view in views.items()} == {
        id: contact["name"] for id, contact in house.kirim.all().items()
    }
    assert house.told("sweep_purged")
