"""The watch over a subscription: what it notices, what it does about it, and that no gap stays open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.gatehouse import WITH_CONVERSATIONS, Gatehouse

from crmsync.errors import Retry
from crmsync.flows.selftest import self_test
from crmsync.kirim.secrets import FileSecret
from crmsync.model import Fields, Kind
from crmsync.store import cursors
from crmsync.store.cursors import NEVER
from crmsync.store.database import Database
from crmsync.store.lanes import Work

MINUTE = timedelta(minutes=1)
ENV = "whsec_from-the-environment-0123456789"


@pytest.fixture
def house(database: Database, tmp_path: Path) -> Iterator[Gatehouse]:
    with Gatehouse(database, tmp_path) as made:
        yield made


@pytest.fixture
def desk(database: Database, tmp_path: Path) -> Iterator[Gatehouse]:
    """A tenant whose CRM has the conversations too."""
    with Gatehouse(database, tmp_path, rules=WITH_CONVERSATIONS) as made:
        yield made


def feed(house: Gatehouse) -> Any:
    """The walk over Kirim's contacts that is due, if one is."""
    found = house.database.read(lambda tx: cursors.due(tx, "acme", "kirim", house.clock()))
    return found[0] if found else None


def trouble(house: Gatehouse) -> set[str]:
    """The kinds of findings of the last look."""
    return {finding["kind"] for finding in house.chore(Work.WATCH).state["findings"]}


def test_a_subscription_that_sends_is_fine(house: Gatehouse) -> None:
    made = house.subscribe()
    house.watch()

    state = house.chore(Work.WATCH).state
    assert (state["subscription"], state["status"], state["findings"]) == (made.id, "active", [])
    assert [secret["held"] for secret in state["secrets"]] == [True]
    assert house.chore(Work.WATCH).due_at == NEVER
    assert feed(house) is None


def test_a_missing_subscription_is_told(house: Gatehouse) -> None:
    house.kirim.subscribe("http://127.0.0.1:1/elsewhere")
    house.watch()

    assert "webhooks subscribe" in house.told("subscription_missing")[0]
    assert house.chore(Work.WATCH).state["status"] == "missing"


def test_two_subscriptions_for_one_address_are_told(house: Gatehouse) -> None:
    house.subscribe()
    house.hold(house.kirim.subscribe(house.url + "/"))
    house.watch()

    assert house.told("subscription_doubled")


def test_a_disabled_subscription_is_switched_on_and_the_gap_is_closed(house: Gatehouse) -> None:
    made = house.subscribe()
    house.watch()
    seen = house.clock()
    house.clock.advance(MINUTE)
    made.status = "disabled"
    house.clock.advance(MINUTE)
    house.watch()

    assert made.status == "active"
    assert len(house.told("subscription_disabled")) == 1
    assert house.told("subscription_recovered")
    assert house.chore(Work.SWEEP).due_at <= house.clock()
    assert house.chore(Work.SWEEP).state["afresh"] is True
    assert (feed(house).position, feed(house).began_at) == (None, seen)
    assert trouble(house) == set()


def test_a_paused_subscription_stays_paused(house: Gatehouse) -> None:
    """A person did that."""
    made = house.subscribe()
    made.status = "paused"
    house.watch()

    assert made.status == "paused"
    assert house.told("subscription_disabled")


def test_what_may_not_be_switched_on_is_only_told_and_the_gap_is_closed_when_somebody_else_does(
    house: Gatehouse,
) -> None:
    house.kept = replace(house.kept, reenable=False)
    made = house.subscribe()
    house.watch()
    seen = house.clock()
    made.status = "disabled"
    for _ in range(30):
        house.clock.advance(MINUTE)
        house.watch()
    assert made.status == "disabled"
    assert feed(house) is None

    made.status = "active"
    house.clock.advance(MINUTE)
    house.watch()
    assert feed(house).began_at == seen


def test_one_that_keeps_being_switched_off_is_switched_on_less_and_less_often(house: Gatehouse) -> None:
    made = house.subscribe()
    house.watch()
    times = 0
    for _ in range(60):
        made.status = "disabled"
        house.clock.advance(MINUTE)
        house.watch()
        times += made.status == "active"

    assert 4 <= times <= 6


def test_dying_after_switching_on_leaves_the_gap_known(house: Gatehouse) -> None:
    made = house.subscribe()
    house.watch()
    seen = house.clock()
    made.status = "disabled"
    house.clock.advance(MINUTE)
    house.kirim.faults.fail_next(1, "reset_after", method="PATCH")
    with pytest.raises(Retry):
        house.watch()
    assert made.status == "active"
    house.clock.advance(MINUTE)
    house.watch()

    assert feed(house).began_at == seen
    assert house.chore(Work.SWEEP).state["afresh"] is True


def test_when_nobody_looked_for_a_while_the_gap_is_closed_although_kirim_sends(house: Gatehouse) -> None:
    house.subscribe()
    house.watch()
    seen = house.clock()
    house.clock.advance(timedelta(hours=40))
    house.watch()

    assert feed(house).began_at == seen
    assert house.chore(Work.SWEEP).due_at <= house.clock()


def test_looking_every_minute_closes_no_gaps(house: Gatehouse) -> None:
    house.subscribe()
    for _ in range(30):
        house.watch()
        house.clock.advance(MINUTE)

    assert feed(house) is None
    assert house.chore(Work.SWEEP).due_at == NEVER


def test_a_walk_under_way_begins_anew_at_the_earlier_of_both_moments(house: Gatehouse) -> None:
    start = house.clock()
    house.database.write(lambda tx: cursors.restart(tx, "acme", "kirim", Kind.CONTACT, "changes", start, house.clock()))
    old = feed(house)
    later = start + timedelta(hours=1)
    house.database.write(lambda tx: cursors.restart(tx, "acme", "kirim", Kind.CONTACT, "changes", later, house.clock()))
    house.database.write(
        lambda tx: cursors.save(tx, "acme", "kirim", old, "page 2 of the old walk", more=False, now=house.clock())
    )

    new = feed(house)
    assert new.position is None
    assert start - timedelta(seconds=1) < new.began_at < start


@pytest.mark.parametrize("shown", ["embedded", "beside"])
def test_a_secret_that_we_do_not_hold_is_named(house: Gatehouse, shown: str) -> None:
    house.kirim.behaviour.secrets_shown = shown
    made = house.subscribe()
    added = house.kept.client.create_secret(made.id)
    house.watch()

    (text,) = house.told("secret_unknown")
    assert f"Kirim signs with {added['id']} created 2026-11-02T09:00:00+00:00" in text
    assert [secret["held"] for secret in house.chore(Work.WATCH).state["secrets"]] == [True, False]


def test_a_secret_whose_id_we_do_not_know_may_be_any(house: Gatehouse) -> None:
    made = house.subscribe()
    house.frozen = [FileSecret(ENV)]
    house.watch()
    assert house.told("secret_unknown") == []

    house.clock.advance(MINUTE)
    added = house.kept.client.create_secret(made.id)
    house.watch()
    assert added["id"] in house.told("secret_unknown")[0]


def test_a_host_that_lists_no_secrets_is_no_trouble(house: Gatehouse) -> None:
    house.kirim.behaviour.secrets_shown = "nowhere"
    house.subscribe()
    house.watch()

    assert house.chore(Work.WATCH).state["secrets"] is None
    assert trouble(house) == set()


@pytest.mark.parametrize("limits", ["new", "previous"])
def test_a_secret_that_ends_within_two_days_is_told(house: Gatehouse, limits: str) -> None:
    house.kirim.behaviour.expiring_secret = limits
    made = house.subscribe()
    house.kept.client.create_secret(made.id, expires_in_hours=72)
    house.hold(made)
    house.watch()
    assert house.told("secret_expiring") == []

    house.clock.advance(timedelta(hours=25))
    house.watch()
    (text,) = house.told("secret_expiring")
    expiring = made.secrets[1 if limits == "new" else 0]
    assert expiring.id in text
    assert "rotate-secret" in text


def test_an_expired_secret_is_no_longer_missed(house: Gatehouse) -> None:
    made = house.subscribe()
    house.kept.client.create_secret(made.id, expires_in_hours=1)
    house.clock.advance(timedelta(hours=2))
    house.watch()

    assert trouble(house) == set()


def test_one_that_was_never_seen_to_send_is_swept_and_read_from_its_beginning(house: Gatehouse) -> None:
    made = house.subscribe()
    made.status = "disabled"
    born = house.clock()
    house.clock.advance(timedelta(days=1))
    assert [one.trouble for one in self_test(house.url, house.held(), house.clock, house.new_key)] == [""]
    house.observe()
    house.watch()

    assert made.status == "active"
    assert house.chore(Work.SWEEP).due_at <= house.clock()
    assert feed(house).began_at == born


def tickets(house: Gatehouse) -> dict[str | None, Fields]:
    """The CRM's records of conversations, by their Kirim id."""
    return {record.external_id: record.fields for record in house.crm.records(Kind.CONVERSATION)}


def test_what_became_of_conversations_in_a_gap_reaches_the_crm_without_any_event(desk: Gatehouse) -> None:
    made = desk.subscribe()
    desk.watch()
    old = desk.kirim.begin_conversation(desk.kirim.create_contact("+6281234567890", name="Ana"))
    desk.kirim.assign(old, desk.kirim.add_user("Ana", "ana@toko.example"))  # an event tells of this
    assert desk.kirim.wait_idle()
    desk.settle()
    assert tickets(desk)[old]["status"] == "open"

    desk.clock.advance(timedelta(hours=1))
    made.status = "disabled"
    desk.kirim.close(old)
    budi = desk.kirim.add_user("Budi", "budi@toko.example")
    desk.kirim.assign(old, budi)
    begun = desk.kirim.begin_conversation(desk.kirim.create_contact("+6281234567891", name="Citra"))
    assert desk.kirim.wait_idle()
    delivered = len(desk.received())
    desk.clock.advance(MINUTE)
    desk.watch()
    desk.settle()

    assert len(desk.received()) == delivered
    assert {id: fields["status"] for id, fields in tickets(desk).items()} == {old: "closed", begun: "open"}
    assert tickets(desk)[old]["assignee"] == budi


def test_conversations_are_read_only_where_a_crm_has_them(house: Gatehouse, desk: Gatehouse) -> None:
    assert house.kept.kinds == (Kind.CONTACT,)
    assert set(desk.kept.kinds) == {Kind.CONTACT, Kind.CONVERSATION}
