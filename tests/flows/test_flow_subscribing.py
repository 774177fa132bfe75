"""Making the subscription: once, with its secret stored whatever happens in between."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from support.gatehouse import Gatehouse

from crmsync import crash
from crmsync.errors import CrmsyncError, Retry
from crmsync.flows import subscribing
from crmsync.flows.subscribing import Made
from crmsync.kirim.secrets import FileSecret, read_secrets_file, write_secrets_file
from crmsync.kirim.subscription import CORE_EVENTS, EVENT_LISTS
from crmsync.sandbox.faults import Fault
from crmsync.sandbox.kirim import EVENTS, subscriptions
from crmsync.store.database import Database


@pytest.fixture
def house(sqlite_url: str, tmp_path: Path) -> Iterator[Gatehouse]:
    database = Database.open(sqlite_url)
    with Gatehouse(database, tmp_path) as made:
        yield made
    database.close()


def subscribe(house: Gatehouse, *, printed: bool = False) -> Made:
    return subscribing.subscribe(house.kept, None if printed else house.secrets_file, house.clock, house.new_key)


def there(house: Gatehouse) -> list[subscriptions.Subscription]:
    return list(house.kirim.subscriptions.by_id.values())


@pytest.mark.parametrize("shown", ["embedded", "beside", "nowhere"])
def test_the_first_secret_is_stored_at_once(house: Gatehouse, shown: str) -> None:
    house.kirim.behaviour.secrets_shown = shown
    made = subscribe(house)
    house.events(1)

    (subscription,) = there(house)
    (secret,) = read_secrets_file(house.secrets_file)
    assert (made.existed, made.secret) == (False, secret)
    assert secret.key == subscription.secret
    assert secret.id == (None if shown == "nowhere" else subscription.secrets[0].id)
    assert subscription.events == EVENT_LISTS[0]
    assert stat.S_IMODE(house.secrets_file.stat().st_mode) == 0o600
    assert [path.name for path in house.secrets_file.parent.iterdir() if "subscribing" in path.name] == []
    assert len(house.received()) == 1


def test_secrets_that_are_there_stay(house: Gatehouse) -> None:
    before = FileSecret("whsec_0123456789abcdefghijkl", "sec_other")
    write_secrets_file(house.secrets_file, [before])
    subscribe(house)

    assert read_secrets_file(house.secrets_file)[0] == before
    assert len(read_secrets_file(house.secrets_file)) == 2


def test_a_second_time_it_is_reported_and_not_doubled(house: Gatehouse) -> None:
    first = subscribe(house)
    again = subscribe(house)
    printed = subscribe(house, printed=True)

    assert again.existed
    assert printed.existed
    assert again.subscription.id == printed.subscription.id == first.subscription.id
    assert (again.secret, printed.secret, len(there(house))) == (None, None, 1)


def test_a_secret_for_the_operators_own_store_is_written_nowhere(house: Gatehouse) -> None:
    made = subscribe(house, printed=True)

    assert made.secret is not None
    assert made.secret.key == there(house)[0].secret
    assert not house.secrets_file.exists()


def test_older_hosts_that_know_fewer_events_are_asked_for_those(
    house: Gatehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "EVENTS", CORE_EVENTS)
    subscribe(house)

    assert there(house)[0].events == CORE_EVENTS


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("point", [name for name in crash.POINTS if name.startswith("subscribe.")])
def test_whoever_dies_before_the_secret_is_stored_gets_it_the_next_time(
    house: Gatehouse, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(name: str, about: bytes = b"") -> None:
        if name == point:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(crash, "point", die)
        with pytest.raises(Killed):
            subscribe(house)
    made = subscribe(house)

    (subscription,) = there(house)
    assert made.subscription.id == subscription.id
    assert [secret.key for secret in read_secrets_file(house.secrets_file)] == [subscription.secret]


def test_an_answer_that_was_lost_makes_no_second_subscription(house: Gatehouse) -> None:
    house.kirim.faults.fail_next(1, Fault.reset(applied=True), method="POST")
    with pytest.raises(Retry):
        subscribe(house)
    assert len(there(house)) == 1
    subscribe(house)

    (subscription,) = there(house)
    assert [secret.key for secret in read_secrets_file(house.secrets_file)] == [subscription.secret]


def test_after_a_day_the_lost_answer_cannot_be_had_again_and_nothing_is_doubled(
    house: Gatehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(name: str, about: bytes = b"") -> None:
        if name == "subscribe.created":
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(crash, "point", die)
        with pytest.raises(Killed):
            subscribe(house)
    house.clock.advance(timedelta(hours=25))
    made = subscribe(house)

    assert (made.existed, made.secret, len(there(house))) == (True, None, 1)


def test_a_note_that_is_none_of_ours_stops_everything(house: Gatehouse) -> None:
    house.secrets_file.with_name("kirim-secrets.subscribing").write_text("{}")
    with pytest.raises(CrmsyncError, match="remove it"):
        subscribe(house)
    assert there(house) == []


@pytest.mark.parametrize("events", [("contact.created",), EVENTS])
def test_a_repair_asks_for_everything_and_switches_on(house: Gatehouse, events: Sequence[str]) -> None:
    made = house.kirim.subscribe(house.url, events)
    made.status = "paused"
    repaired = subscribing.repair(house.kept, subscribe(house).subscription)

    assert (made.status, set(made.events)) == ("active", set(EVENT_LISTS[0]))
    assert repaired.missing_events() == ()
